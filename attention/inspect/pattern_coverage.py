"""How many of the calls that a pattern covers it really shaped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..core.reason import Reason
from ..core.site import SELF, SPATIAL, TEMPORAL
from ..patterns.density import density
from ..routing.chunking import whole_of
from ..routing.run_stats import BYPASSED, Decision, RunStats
from ..sparse.cached_blocks import CachedBlocks


@dataclass(frozen=True)
class PatternCoverage:
    """What the patterns of a run did.

    shaped: calls that ran by one.
    covered: calls that a pattern's rule covers.
    seen: calls that attend among the video's own tokens, covered or not.
    reasons: why a covered call stayed dense -> calls.
    known: shaped calls of which it can be told what they computed, which of patterns by mass nobody can.
    computed: the sum of their densities, each the part of the video's (query, key) pairs.
    asked: how often a pattern wanted blocks chosen that may stand for some steps.
    chosen: how often of these they were chosen anew.
    """

    shaped: int
    covered: int
    seen: int
    reasons: Counter
    known: int = 0
    computed: float = 0.0
    asked: int = 0
    chosen: int = 0

    def __add__(self, other: PatternCoverage) -> PatternCoverage:
        values = ("shaped", "covered", "seen", "reasons", "known", "computed", "asked", "chosen")
        return PatternCoverage(*(getattr(self, name) + getattr(other, name) for name in values))

    def sentence(self) -> str:
        """Say what stayed dense and the first reason; empty when every covered call was shaped, or none was seen."""
        if not self.seen or (self.covered and self.shaped == self.covered):
            return ""
        if not self.covered:
            why = "none is in its blocks and steps"
        else:
            why, others = self.reasons.most_common(1)[0][0], len(self.reasons) - 1
            why += f", and {others} more reason{'s' if others > 1 else ''}" if others else ""
        return f"The pattern shaped {self.shaped} of {self.covered or self.seen} self-attention calls: {why}."

    @property
    def density(self) -> float | None:
        """Return the part of the pairs that the shaped calls computed on average; None where it cannot be told."""
        return self.computed / self.known if self.known and self.known == self.shaped else None

    def density_line(self) -> str:
        """Say how dense the shaped calls were, and with the dense ones all of them; empty where it is unknown."""
        if self.density is None:
            return ""
        whole = (self.computed + self.seen - self.shaped) / self.seen
        return (
            f"Density: {self.density:.0%} of the video's (query, key) pairs in the {self.shaped} shaped calls, "
            f"{whole:.0%} in all {self.seen}."
        )

    def choices_line(self) -> str:
        """Say how often blocks were chosen anew; empty where no choice may stand."""
        if not self.asked:
            return ""
        return f"Blocks were chosen anew in {self.chosen} of {self.asked} calls that may keep those of an earlier step."

    def as_dict(self) -> dict:
        """Return plain data, for JSON."""
        reasons = [{"reason": reason, "calls": calls} for reason, calls in self.reasons.most_common()]
        return {"shaped": self.shaped, "covered": self.covered, "seen": self.seen, "density": self.density,
                "choices": self.asked, "chosen": self.chosen, "reasons": reasons}  # fmt: skip


def coverage_of(stats: RunStats) -> PatternCoverage | None:
    """Count what the patterns of a run did; None without any pattern."""
    shaped = covered = seen = known = asked = chosen = 0
    computed = 0.0
    reasons: Counter = Counter()
    for key, decision in stats.counted():
        own = decision.site.role in (SELF, SPATIAL, TEMPORAL)
        seen += decision.answered if own else 0
        by_rule = decision.rule is not None and decision.rule.shape is not None
        lost = _taker(key, decision) if own and any(rule.covers(decision.site) for rule in stats.patterned) else None
        if not (by_rule or lost or decision.dense is not None):
            continue
        covered += decision.answered
        dense = decision.fell_back - decision.below if by_rule else decision.answered
        ran = decision.answered - dense
        shaped += ran
        wanted, made = _choices(decision)
        asked, chosen = asked + wanted, chosen + made
        part = _density(decision) if ran else None
        if part is not None:
            known, computed = known + ran, computed + part * ran
        if dense:
            reasons[decision.reason if by_rule else decision.dense or f"taken by {lost}"] += dense
    if not (stats.patterned or covered):
        return None
    return PatternCoverage(shaped, covered, max(seen, covered), reasons, known, computed, asked, chosen)


def _choices(decision: Decision) -> tuple[int, int]:
    """Tell how often blocks were wanted that may stand for some steps, and how often they were chosen."""
    cache = getattr(whole_of(decision.kernel), "block_cache", None)
    return (cache.asked, cache.chosen) if isinstance(cache, CachedBlocks) else (0, 0)


def _density(decision: Decision) -> float | None:
    """Tell the part of the pairs that a shaped call computes; None where only its tensors can tell."""
    span = decision.video_span
    return None if isinstance(span, Reason) else density(decision.rule.shape.pattern, span.grid)


def _taker(key: tuple, decision: Decision) -> str | None:
    """Name who ran the calls of a Decision that no router with a pattern was asked for; None where one was."""
    if key[0] == BYPASSED:
        return decision.used
    # The pattern's node stands before another pack's override, and this router behind that.
    router = key[0]
    return decision.used if router.previous is not None and not any(r.shape for r in router.rules) else None
