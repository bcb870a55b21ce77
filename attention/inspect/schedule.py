"""What a model's rules do at each step, block and role, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..backends.registry import HOST
from ..core.site import ROLES, AttentionSite
from ..forecast.record import ADAPTIVE, COMPUTED, FORECAST
from ..guidance.nag import NAME as NAG
from ..guidance.nag import ROLES as NAG_ROLES
from ..routing.reused_calls import REUSED
from ..routing.rules import Rule, covering, format_blocks, winner


@dataclass(frozen=True)
class ScheduleTable:
    """What each block attends with at each step.

    sigmas: (steps + 1) noise levels.
    roles: role -> block -> a label for each step, blocks in order.
    steps: a label for each step as a whole, as of Foreseen; empty where none can be forecast.

    A label names the backend or the pattern that the last covering rule asks for: what a kernel refuses, and what auto
    chooses, is known only when the model runs.
    """

    sigmas: tuple[float, ...]
    roles: dict[str, dict[int, tuple[str, ...]]]
    steps: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """List every label but COMPUTED, in order of appearance."""
        columns = (column for blocks in self.roles.values() for column in blocks.values())
        found = dict.fromkeys(label for column in (self.steps, *columns) for label in column)
        return tuple(label for label in found if label != COMPUTED)


@dataclass(frozen=True)
class Foreseen:
    """What is known before a run of the steps that a sampler takes.

    kinds: of each step COMPUTED, FORECAST or ADAPTIVE; empty where none can be forecast.
    how: of each step, how it is forecast, in words.
    most: steps in a row that may go by outputs that are kept, None for any number.
    """

    kinds: tuple[str, ...] = ()
    how: tuple[str, ...] = ()
    most: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Name each step: `computed`, `forecast taylor 1, 2 in a row`, `adaptive: forecast taylor 1, 3 in a row`."""
        named = zip(self.kinds, self.how, strict=True)
        return tuple({COMPUTED: COMPUTED, FORECAST: how, ADAPTIVE: f"{ADAPTIVE}: {how}"}[kind] for kind, how in named)


NOTHING = Foreseen()


def tabulate(
    sites: Iterable[tuple[str, int]],
    rules: tuple[Rule, ...],
    active: list,
    sigmas: list[float],
    hosts: dict | None = None,
    foreseen: Foreseen = NOTHING,
) -> ScheduleTable:
    """Look up which rule wins for each block at each step.

    sites: (role, block) of attention modules.
    rules: of the model.
    active: for each step, for each rule, which of its stretches the step is in, 0 where it does not cover it.
    sigmas: (steps + 1) noise levels.
    hosts: (role, block) -> a label for the host's own attention, where it is not simply that.
    foreseen: of the steps.
    """
    roles: dict[str, dict[int, tuple[str, ...]]] = {}
    for role, block in sorted(set(sites), key=lambda site: (ROLES.index(site[0]), site[1])):
        site = AttentionSite("", role, block)
        host = (hosts or {}).get((role, block), HOST)
        labels = [_label(site, rules, on, host) for on in active]
        kept = [winner(covering(rules, on, site), "reuse") for on in active]
        roles.setdefault(role, {})[block] = tuple(_what_runs(labels, kept, foreseen))
    return ScheduleTable(tuple(sigmas), roles, foreseen.labels)


def _what_runs(labels: list[str], kept: list[Rule | None], foreseen: Foreseen) -> Iterator[str]:
    """Say what each step runs on: by its rules, by an output of an earlier step, or not at all.

    labels: by the rules.
    kept: the rule by which outputs are kept.
    """
    since = rule = None
    sure = True
    for step, (label, now) in enumerate(zip(labels, kept, strict=True)):
        if now is not rule:
            since, rule, sure = None, now, True
        kind = foreseen.kinds[step] if foreseen.kinds else COMPUTED
        # A step that may be forecast attends or does not: from there on nobody knows which outputs are how old.
        sure = sure and kind != ADAPTIVE
        if kind == FORECAST:
            yield foreseen.labels[step]
        elif sure and since is not None and step - since < _every(now, foreseen.most):
            yield REUSED
        else:
            since = step
            yield label


def _every(rule: Rule | None, most: int | None) -> int:
    if rule is None:
        return 1
    return rule.reuse.every if most is None else min(rule.reuse.every, most + 1)


def _label(site: AttentionSite, rules: tuple[Rule, ...], active: tuple[int, ...], host: str) -> str:
    covers = covering(rules, active, site)
    kinds = ("shape", "strength", "", "perturbation", "nag", "reuse")
    shape, strength, backend, perturbed, nag, reuse = (winner(covers, kind) for kind in kinds)
    name = shape.shape.label if shape else backend.backend if backend else HOST
    name = host if name == HOST else name
    memory = (shape or backend).memory if name != host else 0
    more = (
        "strength" if strength else "",
        perturbed.perturbation.name if perturbed else "",
        NAG if nag and site.role in NAG_ROLES else "",
        reuse.label if reuse and reuse.reuse.every > 1 else "",
        f"at most {memory} MiB" if memory else "",
    )
    return " + ".join(filter(None, (name, *more)))


def to_text(table: ScheduleTable) -> str:
    """Write a line for each run of steps that are alike, a paragraph for each role; where steps take turns, a line for
    all that are alike. Steps that are forecast stand in a paragraph of their own."""
    found = [_of_steps(table)] if table.steps else []
    for role, blocks in table.roles.items():
        columns = list(zip(*blocks.values(), strict=True))
        computed = [step for step, column in enumerate(columns) if not (table.steps and column[0] == table.steps[step])]
        if table.steps or any(REUSED in column for column in columns):
            steps = _alike(computed, columns)
        else:
            steps = [list(run) for _, run in groupby(computed, key=lambda step: columns[step])]
        lines = [f"  {_span(run, table.sigmas)}: {_column(columns[run[0]], blocks)}" for run in steps]
        found.append("\n".join([f"{role}:", *lines]))
    return "\n".join(found)


def _of_steps(table: ScheduleTable) -> str:
    """Write which steps are computed, and which are not."""
    steps, computed = table.steps, table.steps.count(COMPUTED)
    adaptive = sum(label.startswith(ADAPTIVE) for label in steps)
    forecast = len(steps) - computed - adaptive
    said = [f"{computed} of {len(steps)} steps are computed."]
    said += [f"{forecast} is forecast."] * (forecast == 1)
    said += [f"{forecast} are forecast."] * (forecast > 1)
    said += [f"{adaptive} is computed or forecast, by the error that is measured."] * (adaptive == 1)
    said += [f"{adaptive} are computed or forecast, by the error that is measured."] * (adaptive > 1)
    lines = [f"  {_span(alike, table.sigmas)}: {steps[alike[0]]}" for alike in _alike(range(len(steps)), steps)]
    return "\n".join([" ".join(said), *lines])


def _alike(steps: Iterable[int], columns: Sequence) -> list[list[int]]:
    """Put steps together that are alike, wherever they are."""
    found: dict = {}
    for step in steps:
        found.setdefault(columns[step], []).append(step)
    return list(found.values())


def _span(run: list[int], sigmas: tuple[float, ...]) -> str:
    name = f"step {run[0] + 1}"
    if len(run) > 1:
        whole = run[-1] - run[0] == len(run) - 1
        name = f"steps {run[0] + 1} to {run[-1] + 1}" if whole else f"steps {format_blocks(step + 1 for step in run)}"
    return f"{name} (sigma {sigmas[run[0]]:.3g} to {sigmas[run[-1] + 1]:.3g})"


def _column(labels: tuple[str, ...], blocks: dict) -> str:
    """Write `sage in blocks 0-3, host default in 4-27`; the label alone when all blocks have it."""
    named: dict[str, list[int]] = {}
    for block, label in zip(blocks, labels, strict=True):
        named.setdefault(label, []).append(block)
    if len(named) == 1:
        return labels[0]
    return ", ".join(f"{label} in blocks {format_blocks(where)}" for label, where in named.items())
