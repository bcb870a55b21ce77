"""What each rule of a run did, of the calls that it could have: its blocks, its steps, its kind of attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..backends.registry import HOST
from ..core.site import SELF, SPATIAL, TEMPORAL
from ..routing.decide import shapable
from ..routing.router import Router
from ..routing.rules import Asker, Rule, covering, winner
from ..routing.run_stats import BYPASSED, Decision, RunStats
from ..routing.step_context import StepContext

# A guidance inside attention to the prompt counts for itself: see RunStats.costs.
UNCOUNTED = ("nag",)
MOST_REASONS = 1


@dataclass(frozen=True)
class RuleCoverage:
    """What the rules of one node that ask for one thing did in a run.

    label: what they ask for, as Rule.label has it.
    asker: their node, None outside of a prompt.
    role: of the calls that they are about, empty for all.
    host: whether they ask for the host's own attention.
    ran: calls that ran as they ask.
    could: calls in their blocks and steps that no other rule was to run.
    others: calls in their blocks and steps that another rule ran, as the later ones do.
    seen: calls of their role, whatever the block and the step.
    reasons: why a call did not run so -> calls.
    kind: as Rule.kind.
    """

    label: str
    asker: Asker | None = None
    role: str = ""
    host: bool = False
    ran: int = 0
    could: int = 0
    others: int = 0
    seen: int = 0
    reasons: Counter = field(default_factory=Counter)
    kind: str = ""

    def __add__(self, other: RuleCoverage) -> RuleCoverage:
        added = (getattr(self, name) + getattr(other, name) for name in ("ran", "could", "others", "seen", "reasons"))
        return RuleCoverage(self.label, self.asker, self.role, self.host, *added, self.kind)

    @property
    def node(self) -> str:
        """Return the id of their node, empty where there is none."""
        return "" if self.asker is None else self.asker.node

    @property
    def calls(self) -> str:
        """Name the calls that it is about."""
        return f"{self.role}-attention calls" if self.role else "attention calls"

    def sentence(self, place: str = "") -> str:
        """Say how many calls ran as asked of those that could, and the first reason of the others.

        place: of their node among those that ask for the same, as "1st of 2 nodes"; empty where it is the only one.
        """
        who = f"{self.label} ({place})" if place else self.label
        who = who[:1].upper() + who[1:]
        if self.could and self.host and self.ran == self.could:
            return f"{who}: ComfyUI's own attention for all {self.could} {self.calls}, as chosen."
        if not self.could and self.others:
            return f"{who}: another rule ran all {self.others} {self.calls} of its blocks and steps."
        said = f"{who}: {self.ran} of {self.could or self.seen} {self.calls}"
        if self.kind == "reuse" and self.could:
            return f"{said} reused{f' ({self._why()})' if self.reasons else ''}."
        if self.ran == self.could and self.could:
            return f"{said}."
        return f"{said} ({self._why()})."

    def _why(self) -> str:
        if not self.could:
            return "none is in its blocks and steps" if self.seen else "the run made none"
        found = self.reasons.most_common(1)
        if not found:
            return "the others ran without it"
        more = len(self.reasons) - MOST_REASONS
        return found[0][0] + (f", and {more} more reason{'s' if more > 1 else ''}" if more else "")

    def as_dict(self) -> dict:
        """Return plain data, for JSON."""
        reasons = [{"reason": reason, "calls": calls} for reason, calls in self.reasons.most_common()]
        counts = {"ran": self.ran, "could": self.could, "ran_by_others": self.others, "seen": self.seen}
        return {"label": self.label, "node": self.node, "role": self.role, **counts, "reasons": reasons}


def coverage_of_rules(stats: RunStats) -> tuple[RuleCoverage, ...]:
    """Count what every rule of a run did, one for each node and label, in the order of the rules."""
    found: dict[tuple[str, str], RuleCoverage] = {}
    counted = [(key, decision) for key, decision in stats.counted() if decision.answered]
    for rule in _rules(stats, counted):
        if rule.kind in UNCOUNTED:
            continue
        made = sum((_of_one(rule, key, decision) for key, decision in counted), _blank(rule, stats))
        key = made.label, made.node
        found[key] = found[key] + made if key in found else made
    return tuple(found.values())


def sentences(rules: Iterable[RuleCoverage]) -> list[str]:
    """Write a sentence for each of the rules, in the order of the nodes from the model to the sampler."""
    # No ids: ComfyUI shows a kept report again when its nodes have others.
    labels, met, said = Counter(rule.label for rule in rules), Counter(), []
    for rule in rules:
        met[rule.label] += 1
        alone = labels[rule.label] == 1
        said.append(rule.sentence("" if alone else f"{_ordinal(met[rule.label])} of {labels[rule.label]} nodes"))
    return said


def _ordinal(number: int) -> str:
    """Write 1st, 2nd, 3rd, 4th, 11th, 21st."""
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else endings.get(number % 10, 'th')}"


def _rules(stats: RunStats, counted: Iterable[tuple[tuple, Decision]]) -> list[Rule]:
    """List the rules that were on the model, then those of routers that were asked all the same."""
    asked = dict.fromkeys(key[0] for key, _ in counted if key[0] != BYPASSED)
    rules = (*stats.rules, *stats.patterned, *(rule for router in asked for rule in router.rules))
    return list({id(rule): rule for rule in rules}.values())


def _blank(rule: Rule, stats: RunStats) -> RuleCoverage:
    role = SELF if rule.shape else "" if rule.role == "all" else rule.role
    return RuleCoverage(rule.label, stats.find_asker(rule.asker), role, rule.backend == HOST, kind=rule.kind)


def _of_one(rule: Rule, key: tuple, decision: Decision) -> RuleCoverage:
    """Count the calls of one Decision for one rule."""
    label, calls, role, router = rule.label, decision.answered, decision.site.role, key[0]
    if rule.shape is not None and role not in (SELF, SPATIAL, TEMPORAL):
        return RuleCoverage(label)
    of_role = replace(rule, blocks=()).covers(decision.site)
    seen = calls if of_role else 0
    if not of_role or not rule.covers(decision.site):
        return RuleCoverage(label, seen=seen)
    if _is(rule, decision.rule):
        return _decided(rule, decision, seen)
    if router == BYPASSED or not any(rule is one for one in router.rules):
        # Its router was not asked: another pack took the calls, or a router above it passed them to one.
        if router == BYPASSED or (router.previous is not None and decision.rule is None):
            return RuleCoverage(label, could=calls, seen=seen, reasons=Counter({f"taken by {decision.used}": calls}))
        return RuleCoverage(label, others=calls * (router.previous is not None), seen=seen)
    asked = _asked(key, decision)
    if not any(_is(rule, one) for one in asked):
        return RuleCoverage(label, seen=seen)
    return _left(rule, asked, decision, seen)


def _decided(rule: Rule, decision: Decision, seen: int) -> RuleCoverage:
    """Count the calls of a Decision that this rule made."""
    calls = decision.answered
    failed = 0 if rule.backend == HOST and not rule.kind else max(0, decision.fell_back - decision.below)
    reasons = Counter({decision.reason or "it failed": failed} if failed else {})
    return RuleCoverage(rule.label, ran=calls - failed, could=calls, seen=seen, reasons=reasons)


def _left(rule: Rule, asked: list[Rule], decision: Decision, seen: int) -> RuleCoverage:
    """Count the calls of a Decision that this rule covers and did not make."""
    calls, label = decision.answered, rule.label
    if not _is(rule, winner(asked, rule.kind)):
        return RuleCoverage(label, others=calls, seen=seen)
    if rule.kind == "strength":
        return RuleCoverage(label, ran=calls, could=calls, seen=seen) if decision.strength else RuleCoverage(label)
    if rule.kind == "reuse":
        why = decision.unshaped if decision.reuse is None and decision.unshaped else None
        reasons = Counter({why[1]: calls} if why and why[0] == label else {})
        return RuleCoverage(label, could=calls, seen=seen, reasons=reasons)
    if rule.kind == "shape":
        if decision.dense is not None:
            return RuleCoverage(label, could=calls, seen=seen, reasons=Counter({decision.dense: calls}))
        return RuleCoverage(label, others=calls * shapable(decision.video_span), seen=seen)
    if rule.kind == "perturbation":
        why = decision.unshaped if decision.unshaped and decision.unshaped[0] == rule.perturbation.name else None
        return RuleCoverage(label, could=calls, reasons=Counter({why[1]: calls})) if why else RuleCoverage(label)
    return RuleCoverage(label, others=calls, seen=seen)


def _is(rule: Rule, one: Rule | None) -> bool:
    """Tell whether `one` is this rule, or the rule as it holds in one of its stretches."""
    return one is rule or (rule.stretches > 1 and any(rule.at(n + 1) is one for n in range(rule.stretches)))


def _asked(key: tuple, decision: Decision) -> list[Rule]:
    """List the rules of a Decision's router that cover it in its steps."""
    router = key[0]
    if not isinstance(router, Router):
        return []
    context = key[2] if len(key) > 2 else None
    active = context.active_of(router) if isinstance(context, StepContext) else (1,) * len(router.rules)
    return covering(router.rules, active, decision.site)
