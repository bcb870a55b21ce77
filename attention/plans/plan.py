"""A plan: which kernel or pattern runs where, calibrated for one model, size and GPU. JSON, safe to share."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, replace

from .. import patterns
from ..backends import registry
from ..core.grid import ORDERS
from ..core.site import COVERS, ROLES, SELF
from ..routing.rules import CHOICES, Rule, Shape

# Of the file. A new field of a pattern is a new schema: no file from before has a value for it, and none is guessed.
NAME, SCHEMA = "video_attention_plan", 1
MAX_BYTES = 1 << 20
MAX_STEPS = 1024
# Of heads, in a pattern that has a number for each.
MAX_GROUPS = 64
# Patterns that a plan may name: those that are plain numbers and words.
PATTERNS = {p.name: p for p in patterns.TABLE if p not in (patterns.Union, patterns.Intersection)}


class BadPlan(ValueError):
    """A file that is no plan; the sentence says where."""


@dataclass(frozen=True)
class Candidate:
    """What a part of the model may run on.

    backend: one of rules.CHOICES, or empty.
    pattern: one of patterns.TABLE, or None; never both.
    """

    backend: str = ""
    pattern: object | None = None

    @property
    def name(self) -> str:
        """Names it: `sage` or `sliding tile (frames 12, height 50, width 50)`."""
        if self.pattern is None:
            return self.backend
        # Flags, tiles and the like that are as always say nothing.
        told = [f for f in dataclasses.fields(self.pattern) if self._tells(f)]
        words = ", ".join(f"{f.name} {_plain(getattr(self.pattern, f.name))}" for f in told)
        return f"{self.pattern.name} ({words})" if words else self.pattern.name

    def _tells(self, field) -> bool:
        value = getattr(self.pattern, field.name)
        return value != field.default or (type(value) in (int, float) and field.name not in ("step", "refresh"))

    def fits(self, role: str) -> bool:
        """Says whether it can do anything for calls of this role: patterns are about the video's own tokens."""
        return self.pattern is None or role in COVERS[SELF]

    def rule(self, role: str, blocks, start: float, end: float, **more) -> Rule:
        """Makes the rule that puts this candidate somewhere.

        role, blocks, start, end, more: see Rule.
        """
        shape = None if self.pattern is None else Shape(self.pattern)
        return Rule(self.backend, role, tuple(blocks), start, end, shape=shape, **more)


def _plain(value) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_plain, value))
    return f"{value:g}" if type(value) is float else str(value)


@dataclass(frozen=True)
class Step:
    """One rule of a plan, and what was measured for it. A plan's file lists them as "steps".

    candidate: what runs.
    role, blocks: where: a role in blocks (first, last).
    start, end: when: 0 to 1 of the noise schedule.
    error: relative L2 of the final latent with this rule alone.
    local, effect: relative L2 of one call's output, and of the output of the block around it; None if not measured.
    seconds, exact_seconds: of its calls in one sampling, with the candidate and with the host's own attention.
    """

    candidate: Candidate
    role: str
    blocks: tuple[int, int]
    start: float
    end: float
    error: float
    local: float | None
    effect: float | None
    seconds: float
    exact_seconds: float

    def rule(self) -> Rule:
        return self.candidate.rule(self.role, (self.blocks,), self.start, self.end)


@dataclass(frozen=True)
class Plan:
    """Which kernel or pattern runs where in one model, and what that was measured to cost.

    model: class of the diffusion model.
    fingerprint: digest of its structure, not of its weights.
    blocks, heads, head_dim: of its self-attention.
    device: the GPU's name.
    tokens: of the latent it was calibrated on.
    sampling: how was sampled, in words.
    budget, error: relative L2 of the final latent, allowed and predicted.
    realised: the same, measured with the calibrating prompt and seed.
    exact_seconds, seconds: of the attention that was decided about, in one sampling, before and with the plan.
    versions: of the software, (name, version).
    steps: its rules.
    """

    model: str
    fingerprint: str
    blocks: int
    heads: int
    head_dim: int
    device: str
    tokens: int
    sampling: str = ""
    budget: float = 0.0
    error: float = 0.0
    realised: float = 0.0
    exact_seconds: float = 0.0
    seconds: float = 0.0
    versions: tuple[tuple[str, str], ...] = ()
    steps: tuple[Step, ...] = ()

    def rules(self) -> tuple[Rule, ...]:
        return tuple(step.rule() for step in self.steps)

    def fitting(self, other: Plan) -> tuple[Plan, list[str]]:
        """Keeps what of this plan can be applied to another model.

        other: a plan without rules that describes that model.
        Returns the plan, and a sentence for each way in which the models are not the same.
        """
        if self.model != other.model:
            return replace(self, steps=()), [f"The plan is for {self.model}, this is {other.model}: not applied."]
        kept, said = tuple(step for step in self.steps if step.blocks[0] < other.blocks), []
        here, there = ((p.blocks, p.heads, p.head_dim, p.fingerprint) for p in (other, self))
        if here != there:
            lost = len(self.steps) - len(kept)
            gone = f", {lost} of {len(self.steps)} rules are for blocks that are not here" if lost else ""
            said.append(
                f"The plan is for a {self.model} of {_size(self)}, this one has {_size(other)}: its errors need not "
                f"hold{gone}."
            )
        if self.device != other.device:
            said.append(f"It was measured on {self.device}, this is {other.device}: errors hold, speeds may not.")
        if other.tokens and self.tokens != other.tokens:
            said.append(
                f"It was calibrated on {self.tokens} video tokens, these are {other.tokens}: errors may differ."
            )
        return replace(self, steps=kept), said


def _size(plan: Plan) -> str:
    return f"{plan.blocks} blocks and {plan.heads} heads of {plan.head_dim} (structure {plan.fingerprint[:8]})"


def to_json(plan: Plan) -> str:
    """Write a plan as a file's text."""
    fields = {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan) if f.name not in ("steps", "versions")}
    steps = [
        {
            "backend": step.candidate.backend,
            "pattern": _pattern_to_dict(step.candidate.pattern),
            **{f.name: getattr(step, f.name) for f in dataclasses.fields(step) if f.name != "candidate"},
        }
        for step in plan.steps
    ]
    data = {NAME: SCHEMA, **fields, "versions": dict(plan.versions), "steps": steps}
    return json.dumps(data, indent=1, allow_nan=False)


def _pattern_to_dict(pattern) -> dict | None:
    return None if pattern is None else {"name": pattern.name, **dataclasses.asdict(pattern)}


def from_json(text: str) -> Plan:
    """Read a plan from a file's text. Raises BadPlan, with a sentence, for all that is not exactly one."""
    if len(text) > MAX_BYTES:
        raise BadPlan(f"plan: {len(text)} characters, more than the {MAX_BYTES} that a plan may have.")
    try:
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_table)
    except (ValueError, RecursionError) as wrong:
        raise BadPlan(f"plan: not JSON ({str(wrong).splitlines()[0][:200]}).") from None
    if not isinstance(data, dict) or type(data.get(NAME)) is not int:
        raise BadPlan("plan: not a video attention plan.")
    if data[NAME] != SCHEMA:
        raise BadPlan(f"plan: of schema {str(data[NAME])[:20]}, this version of the pack reads schema {SCHEMA}.")
    _only(data, [NAME, *(f.name for f in dataclasses.fields(Plan))], "plan")
    numbers = {name: _number(data, name) for name in ("budget", "error", "realised", "exact_seconds", "seconds")}
    counts = {name: _count(data[name], name) for name in ("blocks", "heads", "head_dim", "tokens")}
    words = {name: _short(data[name], name) for name in ("model", "fingerprint", "device", "sampling")}
    versions, steps = data["versions"], data["steps"]
    if not isinstance(versions, dict) or len(versions) > 64:
        raise BadPlan("plan: versions is not a short table.")
    if not isinstance(steps, list) or len(steps) > MAX_STEPS:
        raise BadPlan(f"plan: steps is not a list of at most {MAX_STEPS}.")
    named = tuple((_short(key, "versions"), _short(value, "versions")) for key, value in versions.items())
    return Plan(**words, **counts, **numbers, versions=named, steps=tuple(_step(s, i) for i, s in enumerate(steps)))


def _step(data, index: int) -> Step:
    where = f"plan: step {index}"
    if not isinstance(data, dict):
        raise BadPlan(f"{where} is not a table.")
    _only(data, ["backend", "pattern", *(f.name for f in dataclasses.fields(Step) if f.name != "candidate")], where)
    role, blocks = data["role"], data["blocks"]
    if not isinstance(role, str) or role not in ROLES:
        raise BadPlan(f"{where}: role {str(role)[:40]!r} is not known.")
    if not isinstance(blocks, list) or len(blocks) != 2 or not all(type(b) is int and 0 <= b < 10**6 for b in blocks):
        raise BadPlan(f"{where}: blocks is not a pair of block numbers.")
    start, end = (_number(data, name, 1, where) for name in ("start", "end"))
    if start >= end or blocks[0] > blocks[1]:
        raise BadPlan(f"{where}: ends before it begins.")
    numbers = {name: _number(data, name, where=where) for name in ("error", "seconds", "exact_seconds")}
    maybe = {n: None if data[n] is None else _number(data, n, where=where) for n in ("local", "effect")}
    return Step(_candidate(data, where), role, tuple(blocks), start, end, **numbers, **maybe)


def _candidate(data: dict, where: str) -> Candidate:
    backend, pattern = data["backend"], data["pattern"]
    if pattern is None:
        if not isinstance(backend, str) or backend not in CHOICES or backend == registry.AUTO:
            raise BadPlan(f"{where}: backend {str(backend)[:40]!r} is not known.")
        return Candidate(backend)
    name = pattern.get("name") if isinstance(pattern, dict) else None
    if backend != "" or not isinstance(name, str) or name not in PATTERNS:
        raise BadPlan(f"{where}: pattern {str(name)[:40]!r} is not known, or it comes with a backend.")
    return Candidate(pattern=_pattern(PATTERNS[name], pattern, where))


def _pattern(kind, data: dict, where: str):
    """Every field of the pattern's dataclass, each of the type and within the reach of its default."""
    fields = dataclasses.fields(kind)
    _only(data, ["name", *(field.name for field in fields)], where)
    for field in fields:
        if not _fits(data[field.name], field.default):
            raise BadPlan(f"{where}: {field.name} of {kind.name} cannot be {repr(data[field.name])[:40]}.")
    values = {field.name: data[field.name] for field in fields}
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except ValueError as wrong:
        raise BadPlan(f"{where}: {kind.name}: {wrong}") from None


def _fits(value, default) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, str):
        return isinstance(value, str) and value in ORDERS
    if default == ():
        return isinstance(value, list) and len(value) <= MAX_GROUPS and all(_fits(number, 1.0) for number in value)
    if isinstance(default, tuple):
        return isinstance(value, list) and len(value) == len(default) and all(map(_fits, value, default))
    if isinstance(default, int):
        return type(value) is int and 1 <= value <= 1 << 16
    if default is None:
        return value is None or (type(value) in (int, float) and 0 <= value <= 1)
    return type(value) in (int, float) and 0.1 <= value <= 100


def _table(pairs: list) -> dict:
    """A JSON object. Of two equal names one would win without a word."""
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a name twice in one table")
    return data


def _only(data: dict, known: list[str], where: str) -> None:
    """Exactly these names: a missing one has no value to take, a strange one has a meaning that nobody knows."""
    strange, lacking = [key for key in data if key not in known], [key for key in known if key not in data]
    if strange:
        raise BadPlan(f"{where}: {strange[0][:40]!r} does not belong there.")
    if lacking:
        raise BadPlan(f"{where}: {lacking[0]!r} is missing.")


def _number(data: dict, name: str, high: float = 1e12, where: str = "plan") -> float:
    # Compared before it is converted: an integer of 1000 digits is no float. NaN compares false.
    if type(data[name]) not in (int, float) or not 0 <= data[name] <= high:
        raise BadPlan(f"{where}: {name} is not a number from 0 to {high:g}.")
    return float(data[name])


def _count(value, name: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise BadPlan(f"plan: {name} is not a count.")
    return value


def _short(value, name: str) -> str:
    # What cannot be printed cannot be shown on a node, or, as half of a surrogate pair, not even be written.
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise BadPlan(f"plan: {name} is not a short text.")
    return value


def _no_constant(name: str):
    raise ValueError(f"{name} is no JSON number")
