"""What a model's rules do at each step, block and role, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from ..backends.registry import HOST
from ..core.site import ROLES, AttentionSite
from ..guidance.nag import NAME as NAG
from ..guidance.nag import ROLES as NAG_ROLES
from ..routing.rules import Rule, covering, format_blocks, winner


@dataclass(frozen=True)
class ScheduleTable:
    """What each block attends with at each step.

    sigmas: (steps + 1) noise levels.
    roles: role -> block -> a label for each step, blocks in order.

    A label names the backend or the pattern that the last covering rule asks for: what a kernel refuses, and what auto
    chooses, is known only when the model runs.
    """

    sigmas: tuple[float, ...]
    roles: dict[str, dict[int, tuple[str, ...]]]

    @property
    def labels(self) -> tuple[str, ...]:
        """List every label, in order of appearance."""
        columns = (column for blocks in self.roles.values() for column in blocks.values())
        return tuple(dict.fromkeys(label for column in columns for label in column))


def tabulate(
    sites: Iterable[tuple[str, int]],
    rules: tuple[Rule, ...],
    active: list,
    sigmas: list[float],
    hosts: dict | None = None,
) -> ScheduleTable:
    """Look up which rule wins for each block at each step.

    sites: (role, block) of attention modules.
    rules: of the model.
    active: for each step, for each rule, which of its stretches the step is in, 0 where it does not cover it.
    sigmas: (steps + 1) noise levels.
    hosts: (role, block) -> a label for the host's own attention, where it is not simply that.
    """
    roles: dict[str, dict[int, tuple[str, ...]]] = {}
    for role, block in sorted(set(sites), key=lambda site: (ROLES.index(site[0]), site[1])):
        site = AttentionSite("", role, block)
        host = (hosts or {}).get((role, block), HOST)
        roles.setdefault(role, {})[block] = tuple(_label(site, rules, on, host) for on in active)
    return ScheduleTable(tuple(sigmas), roles)


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
    """Write a line for each run of steps that are alike, a paragraph for each role."""
    found = []
    for role, blocks in table.roles.items():
        columns = list(zip(*blocks.values(), strict=True))
        steps = [list(run) for _, run in groupby(range(len(columns)), key=lambda step: columns[step])]
        lines = [f"  {_span(run, table.sigmas)}: {_column(columns[run[0]], blocks)}" for run in steps]
        found.append("\n".join([f"{role}:", *lines]))
    return "\n".join(found)


def _span(run: list[int], sigmas: tuple[float, ...]) -> str:
    name = f"steps {run[0] + 1} to {run[-1] + 1}" if len(run) > 1 else f"step {run[0] + 1}"
    return f"{name} (sigma {sigmas[run[0]]:.3g} to {sigmas[run[-1] + 1]:.3g})"


def _column(labels: tuple[str, ...], blocks: dict) -> str:
    """Write `sage in blocks 0-3, host default in 4-27`; the label alone when all blocks have it."""
    named: dict[str, list[int]] = {}
    for block, label in zip(blocks, labels, strict=True):
        named.setdefault(label, []).append(block)
    if len(named) == 1:
        return labels[0]
    return ", ".join(f"{label} in blocks {format_blocks(where)}" for label, where in named.items())
