"""A user's rule: which backend, pattern, strength or reuse, for which roles, blocks and steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from ..backends import registry
from ..core.site import COVERS, ROLES, AttentionSite
from ..guidance.nag import NAME as NAG
from ..guidance.nag import Nag
from ..guidance.perturb import Perturbation
from ..guidance.strength import Strength
from ..patterns.ramp import Ramp, in_words, ramped
from ..reuse import ReuseSettings

CHOICES = (registry.AUTO, registry.HOST, *registry.names())
ALL_ROLES = "all"
FALL_BACK, ERROR = "fall back", "error"
GUARD_OFF, GUARD_FIRST, GUARD_EVERY = "off", "first call", "every call"
GUARDS = (GUARD_OFF, GUARD_FIRST, GUARD_EVERY)
MEASURE, IN_ORDER = "measure", "table order"
CHOICE_MODES = (MEASURE, IN_ORDER)
# What a rule may be about besides the backend: its fields of these names.
KINDS = ("shape", "strength", "perturbation", "nag", "reuse")

_SPAN = re.compile(r"(\d+)(-)?(\d+)?")


@dataclass(frozen=True)
class Shape:
    """Says by which pattern calls run.

    pattern: one of patterns.TABLE.
    engine: what runs it, AUTO for the best that accepts.
    min_tokens: fewer video tokens than these stay dense, where a pattern costs more than it saves.
    ramp: how the pattern's percentage changes over the steps that the rule covers; None: it does not.
    of: the Shape with a ramp of which this is one stretch; None: of none.
    if_faster: takes the pattern only where it is measured to be faster than what would run without it.
    refresh_overlap: how much of a new selection of blocks a kept one must have to stand, 0 to 1; 0: it stands for the
        pattern's `refresh` alone.
    """

    pattern: object
    engine: str = registry.AUTO
    min_tokens: int = 0
    ramp: Ramp | None = None
    of: Shape | None = None
    if_faster: bool = False
    refresh_overlap: float = 0.0

    def __post_init__(self):
        if self.ramp is not None and ramped(self.pattern) is None:
            raise ValueError(f"ramp: {self.pattern.name} has no percentage that could change from step to step.")

    @cached_property
    def stretches(self) -> tuple[Shape, ...]:
        """List what holds one after the other, each for an equal part of the covered steps; itself without a ramp."""
        if self.ramp is None:
            return (self,)
        return tuple(replace(self, pattern=one, ramp=None, of=self) for one in self.ramp.patterns(self.pattern))

    @property
    def label(self) -> str:
        """Name the pattern, with its percentage or threshold where that is one of a ramp's."""
        name = self.pattern.name
        return name if self.of is None else f"{name} {in_words(self.pattern)}"


@dataclass(frozen=True)
class Asker:
    """Names the node that made a rule, as one prompt has it.

    node: its id, as the page has it; empty where the prompt has no such node.
    name: what it is called.
    times: whether it has a `timing` to turn on.
    signatures: numbers of it and of the nodes that it was expanded from. ComfyUI keeps an output for every node with
        the same one, so that in another prompt a rule is of the node that has it there.
    twins: ids of others of the prompt that give the same output.
    """

    node: str
    name: str
    times: bool = False
    signatures: tuple[int, ...] = ()
    twins: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Write its name and id."""
        return f"{self.name} (node {self.node})" if self.node else self.name

    @property
    def nodes(self) -> tuple[str, ...]:
        """List the ids under which the prompt has it."""
        return tuple(filter(None, (self.node, *self.twins)))


@dataclass(frozen=True)
class Rule:
    """Says what is done to which calls. With a `shape`, `strength`, `perturbation`, `nag` or `reuse` a rule is about
    that alone, otherwise about the backend; of each kind the last rule that covers a call wins.

    backend: one of CHOICES.
    role: one of ROLES or ALL_ROLES.
    blocks: spans (first, last), last None: open; empty: all.
    start: of the sampling covered, 0 to 1 of the noise schedule, as everywhere in ComfyUI.
    end: of the sampling covered, 0 to 1 of the noise schedule.
    on_unsupported: FALL_BACK or ERROR.
    guard: which calls of a kernel are looked at, one of GUARDS.
    timing: whether every call is measured.
    choice: how `auto` chooses, one of CHOICE_MODES.
    max_error: relative L2 that `auto` allows a kernel it measures.
    shape: the pattern by which calls run.
    strength: how strongly tokens attend.
    spared: how many of the first and of the last steps are never covered.
    perturbation: what the calls do in this Perturbation's own pass, and in no other.
    nag: a negative prompt inside attention to the prompt.
    memory: most MiB that one call may take beside q, k and v, its output included, as far as is known: one that would
        take more runs in chunks. 0: only where memory was missing.
    asker: the node that made it, None outside of a prompt. Two rules that differ in it alone are equal.
    budget: relative L2 of the final latent that the plan which it is of has to keep, 0 without one; as asker.
    reuse: how long the calls' outputs are kept and given again.
    """

    backend: str = registry.AUTO
    role: str = ALL_ROLES
    blocks: tuple[tuple[int, int | None], ...] = ()
    start: float = 0.0
    end: float = 1.0
    on_unsupported: str = FALL_BACK
    guard: str = GUARD_FIRST
    timing: bool = False
    choice: str = MEASURE
    max_error: float = 0.02
    shape: Shape | None = None
    strength: Strength | None = None
    spared: tuple[int, int] = (0, 0)
    perturbation: Perturbation | None = None
    nag: Nag | None = None
    memory: int = 0
    asker: Asker | None = field(default=None, compare=False)
    budget: float = field(default=0.0, compare=False)
    reuse: ReuseSettings | None = None

    @property
    def kind(self) -> str:
        """Name what this rule is about, one of KINDS; "" for the backend."""
        return next((kind for kind in KINDS if getattr(self, kind) is not None), "")

    @property
    def label(self) -> str:
        """Say what it asks for, in a word or two."""
        if self.shape is not None:
            return f"pattern {self.shape.pattern.name}"
        if self.perturbation is not None:
            return self.perturbation.name
        if self.reuse is not None:
            return self.reuse.label
        return {"strength": "strength", "nag": NAG}.get(self.kind) or f"backend {self.backend}"

    @property
    def always(self) -> bool:
        """Tell whether every step is covered, so that the step need not be known."""
        return self.start <= 0.0 and self.end >= 1.0 and self.spared == (0, 0) and self.stretches == 1

    @property
    def stretches(self) -> int:
        """Count the equal parts of the covered steps in which this rule says something else."""
        return 1 if self.shape is None else len(self.shape.stretches)

    def at(self, stretch: int) -> Rule:
        """Give the rule as it holds in one of its stretches, from 1."""
        return self if self.stretches == 1 else _at(self, stretch, self.asker)

    def spares(self, sigma: float, sigmas: Sequence[float]) -> bool:
        """Tell whether the step that begins at `sigma` is one of the first or last that are spared.

        sigmas: (steps + 1), of all steps, falling.
        """
        before = sum(level > sigma for level in sigmas[:-1])
        return before < self.spared[0] or before >= len(sigmas) - 1 - self.spared[1]

    def covers(self, site: AttentionSite) -> bool:
        """Tell whether this rule is about `site`. An unknown block is covered by no list of blocks."""
        if self.role != ALL_ROLES and site.role not in COVERS.get(self.role, (self.role,)):
            return False
        if not self.blocks:
            return True
        block = site.block
        return block is not None and any(lo <= block and (hi is None or block <= hi) for lo, hi in self.blocks)


@lru_cache(maxsize=256)
def _at(rule: Rule, stretch: int, asker: Asker | None) -> Rule:
    # Equal rules of two nodes are two.
    return replace(rule, shape=rule.shape.stretches[stretch - 1], asker=asker)


def covering(rules: Sequence[Rule], active: Sequence[int], site: AttentionSite) -> list[Rule]:
    """Find the rules that are about a call from `site`, in their order and as they hold in this step.

    active: for each of `rules` the stretch that this step is in, from 1, or 0 where the rule does not cover it.
    """
    return [rule.at(on) for rule, on in zip(rules, active) if on and rule.covers(site)]


def winner(covers: Sequence[Rule], kind: str) -> Rule | None:
    """Find the last rule of a kind among those that cover a call.

    kind: as Rule.kind has it.
    """
    return next((rule for rule in reversed(covers) if rule.kind == kind), None)


def check(backend: str, role: str, blocks: str, start: float, end: float) -> str | None:
    """Say in a sentence which widget cannot be right, the first of them, or None."""
    if backend not in CHOICES:
        return f"backend: {backend!r} is not known. Known: {', '.join(CHOICES)}."
    if role not in (ALL_ROLES, *ROLES):
        return f"role: {role!r} is not known. Known: {', '.join((ALL_ROLES, *ROLES))}."
    if not 0.0 <= start <= 1.0 or not 0.0 <= end <= 1.0:
        return f"start_percent and end_percent: {start:g} and {end:g} must lie between 0 and 1."
    if start >= end:
        return f"start_percent: {start:g} must be below end_percent, which is {end:g}."
    try:
        parse_blocks(blocks)
    except ValueError as wrong:
        return str(wrong)
    return None


def parse_blocks(text: str, name: str = "block") -> tuple[tuple[int, int | None], ...]:
    """Read `0-3,40-` as ((0, 3), (40, None)); empty text as (), all. ValueError with a sentence otherwise."""
    spans = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = _SPAN.fullmatch(re.sub(r"\s*-\s*", "-", part))
        if match is None:
            raise ValueError(f"{name}s: {part!r} is not a {name} or a span of {name}s; write 0-3,7,40- for example.")
        first = int(match[1])
        last = int(match[3]) if match[3] else None if match[2] else first
        if last is not None and last < first:
            raise ValueError(f"{name}s: {part!r} ends before it begins; write {last}-{first}.")
        spans.append((first, last))
    return tuple(spans)


def format_blocks(blocks) -> str:
    """Write {0, 1, 2, 5} as `0-2,5`."""
    spans: list[list[int]] = []
    for block in sorted(blocks):
        if spans and block == spans[-1][1] + 1:
            spans[-1][1] = block
        else:
            spans.append([block, block])
    return ",".join(str(lo) if lo == hi else f"{lo}-{hi}" for lo, hi in spans)
