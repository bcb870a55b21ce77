"""Plans as files: JSON of numbers and names alone, safe to share; what is not exactly a plan is refused."""

from __future__ import annotations

import dataclasses
import json

from .. import patterns
from ..backends import registry
from ..core.grid import ORDERS
from ..core.site import ROLES
from ..forecast import ForecastSettings
from ..patterns.blocks import MOST_SINGLES
from ..patterns.ramp import Ramp
from ..reuse import ReuseSettings
from ..routing.rules import CHOICES
from .plain_values import BadPlan, count, no_constant, number, only, short, table
from .plan import Candidate, Plan, PlanForecast, PlanRule

# Of the file. A new field of a pattern is a new schema: no file from before has a value for it, and none is guessed.
NAME, SCHEMA = "video_attention_plan", 1
# Of a file with a rule whose pattern's percentage changes: "ramp" in its steps, {"end": percent, "shape": name}.
WITH_RAMP = 2
# Of a file with the fields of a Plan that came with forecasts: what it predicts the error of, the time of the whole
# sampling, and the forecasts themselves, settings and all; its steps may have "reuse", settings of kept outputs.
WITH_FORECAST = 3
# Of a file with a pattern that chooses blocks anew by how alike two choices are: "refresh_overlap" in its steps.
WITH_OVERLAP = 4
# Of a file with "memory" in its steps: the most MiB that a call may take. A step without one has no limit.
WITH_MEMORY = 5
# Of a file with "singles" in its steps: how many single tokens a pattern sees beside the blocks that it chooses.
WITH_SINGLES = 6
SCHEMAS = (SCHEMA, WITH_RAMP, WITH_FORECAST, WITH_OVERLAP, WITH_MEMORY, WITH_SINGLES)
ADDED = ("quantile", "whole_exact_seconds", "whole_seconds", "forecasts")
# What a step has only where its candidate does; each came with the schema after SCHEMA of its place here.
MORE = ("ramp", "reuse", "refresh_overlap", "memory", "singles")
MAX_BYTES = 1 << 20
MAX_STEPS = 1024
# Of MiB that a call may take.
MAX_MEMORY = 1 << 20
# Of heads, in a pattern that has a number for each.
MAX_GROUPS = 64
# Patterns that a plan may name: those that are plain numbers and words.
PATTERNS = {p.name: p for p in patterns.TABLE if p not in (patterns.Union, patterns.Intersection)}


def to_json(plan: Plan) -> str:
    """Write a plan as a file's text."""
    lists = ("steps", "versions", "forecasts")
    schema = _schema_of(plan)
    new = schema >= WITH_FORECAST
    left = lists if new else (*lists, *ADDED)
    fields = {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan) if f.name not in left}
    steps = [
        {
            "backend": step.candidate.backend,
            "pattern": _pattern_to_dict(step.candidate.pattern),
            **{name: _plain(made) for name in MORE if (made := getattr(step.candidate, name))},
            **{f.name: getattr(step, f.name) for f in dataclasses.fields(step) if f.name != "candidate"},
        }
        for step in plan.steps
    ]
    data = {NAME: schema, **fields, "versions": dict(plan.versions), "steps": steps}
    if new:
        data["forecasts"] = [dataclasses.asdict(one) for one in plan.forecasts]
    return json.dumps(data, indent=1, allow_nan=False)


def _schema_of(plan: Plan) -> int:
    """Return the oldest schema that says all of a plan, so that older versions of the pack read what they can."""
    found = {name for step in plan.steps for name in MORE if getattr(step.candidate, name)}
    since = [SCHEMA + 1 + MORE.index(name) for name in found]
    since += [WITH_FORECAST] * any(getattr(plan, name) for name in ADDED)
    return max(since, default=SCHEMA)


def _plain(value):
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value


def _pattern_to_dict(pattern) -> dict | None:
    return None if pattern is None else {"name": pattern.name, **{f: getattr(pattern, f) for f in _fields(pattern)}}


def _fields(pattern) -> dict[str, object]:
    """List the fields of a pattern that a file has with it, and their defaults: what came later is the step's own."""
    return {field.name: field.default for field in dataclasses.fields(pattern) if field.name not in MORE}


def from_json(text: str) -> Plan:
    """Read a plan from a file's text. Raises BadPlan, with a sentence, for all that is not exactly one."""
    if len(text) > MAX_BYTES:
        raise BadPlan(f"plan: {len(text)} characters, more than the {MAX_BYTES} that a plan may have.")
    try:
        data = json.loads(text, parse_constant=no_constant, object_pairs_hook=table)
    except (ValueError, RecursionError) as wrong:
        raise BadPlan(f"plan: not JSON ({str(wrong).splitlines()[0][:200]}).") from None
    if not isinstance(data, dict) or type(data.get(NAME)) is not int:
        raise BadPlan("plan: not a video attention plan.")
    if data[NAME] not in SCHEMAS:
        raise BadPlan(
            f"plan: of schema {str(data[NAME])[:20]}, this version of the pack reads schema {SCHEMAS[0]} to "
            f"{SCHEMAS[-1]}."
        )
    new = data[NAME] >= WITH_FORECAST
    only(data, [NAME, *(f.name for f in dataclasses.fields(Plan) if new or f.name not in ADDED)], "plan")
    numbers = {name: number(data, name) for name in ("budget", "error", "realised", "exact_seconds", "seconds")}
    if new:
        numbers |= {name: number(data, name) for name in ("whole_exact_seconds", "whole_seconds")}
        numbers["quantile"] = number(data, "quantile", 1)
    counts = {name: count(data[name], name) for name in ("blocks", "heads", "head_dim", "tokens")}
    words = {name: short(data[name], name) for name in ("model", "fingerprint", "device", "sampling")}
    versions, steps = data["versions"], data["steps"]
    if not isinstance(versions, dict) or len(versions) > 64:
        raise BadPlan("plan: versions is not a short table.")
    if not isinstance(steps, list) or len(steps) > MAX_STEPS:
        raise BadPlan(f"plan: steps is not a list of at most {MAX_STEPS}.")
    rules = tuple(_step(one, index, MORE[: data[NAME] - SCHEMA]) for index, one in enumerate(steps))
    named = tuple((short(key, "versions"), short(value, "versions")) for key, value in versions.items())
    forecasts = _forecasts(data["forecasts"]) if new else ()
    return Plan(**words, **counts, **numbers, versions=named, steps=rules, forecasts=forecasts)


def _forecasts(data) -> tuple[PlanForecast, ...]:
    if not isinstance(data, list) or len(data) > MAX_STEPS:
        raise BadPlan(f"plan: forecasts is not a list of at most {MAX_STEPS}.")
    return tuple(_forecast(one, f"plan: forecast {index}") for index, one in enumerate(data))


def _forecast(data, where: str) -> PlanForecast:
    if not isinstance(data, dict):
        raise BadPlan(f"{where} is not a table.")
    only(data, [field.name for field in dataclasses.fields(PlanForecast)], where)
    start, end = _range(data, where)
    numbers = {name: number(data, name, where=where) for name in ("error", "seconds", "exact_seconds")}
    return PlanForecast(_settings(ForecastSettings, data["settings"], where), start, end, **numbers)


def _settings(made, data, where: str):
    """Read every field of a dataclass of settings, each of the type of its default."""
    fields = dataclasses.fields(made)
    if not isinstance(data, dict):
        raise BadPlan(f"{where}: settings is not a table.")
    only(data, [field.name for field in fields], f"{where}: settings")
    for field in fields:
        value, kind = data[field.name], type(field.default)
        fits = type(value) in (int, float) and value <= 100 if kind is float else type(value) is kind
        if not fits or (kind is int and value > 1 << 16):
            raise BadPlan(f"{where}: {field.name} cannot be {repr(value)[:40]}.")
    try:
        return made(**data)
    except ValueError as wrong:
        raise BadPlan(f"{where}: {str(wrong)[:120]}") from None


def _range(data: dict, where: str) -> tuple[float, float]:
    start, end = (number(data, name, 1, where) for name in ("start", "end"))
    if start >= end:
        raise BadPlan(f"{where}: ends before it begins.")
    return start, end


def _step(data, index: int, more: tuple[str, ...]) -> PlanRule:
    where = f"plan: step {index}"
    if not isinstance(data, dict):
        raise BadPlan(f"{where} is not a table.")
    given = ["backend", "pattern", *(f.name for f in dataclasses.fields(PlanRule) if f.name != "candidate")]
    only(data, [*given, *(name for name in more if name in data)], where)
    role, blocks = data["role"], data["blocks"]
    if not isinstance(role, str) or role not in ROLES:
        raise BadPlan(f"{where}: role {str(role)[:40]!r} is not known.")
    if not isinstance(blocks, list) or len(blocks) != 2 or not all(type(b) is int and 0 <= b < 10**6 for b in blocks):
        raise BadPlan(f"{where}: blocks is not a pair of block numbers.")
    start, end = _range(data, where)
    if blocks[0] > blocks[1]:
        raise BadPlan(f"{where}: ends before it begins.")
    numbers = {name: number(data, name, where=where) for name in ("error", "seconds", "exact_seconds")}
    maybe = {n: None if data[n] is None else number(data, n, where=where) for n in ("local", "effect")}
    return PlanRule(_candidate(data, where), role, tuple(blocks), start, end, **numbers, **maybe)


def _candidate(data: dict, where: str) -> Candidate:
    backend, pattern = data["backend"], data["pattern"]
    overlap = _overlap(data, where)
    lonely = [words for name, words in (("ramp", "a ramp"), ("singles", "singles")) if name in data]
    if pattern is None and lonely:
        raise BadPlan(f"{where}: {lonely[0]} without a pattern.")
    if "reuse" in data:
        if backend != "" or pattern is not None or "memory" in data:
            raise BadPlan(f"{where}: reuse comes with a backend, a pattern or memory.")
        return Candidate(reuse=_settings(ReuseSettings, data["reuse"], where))
    memory = data.get("memory", 0)
    if type(memory) is not int or not ("memory" in data) <= memory <= MAX_MEMORY:
        raise BadPlan(f"{where}: memory is not a number of MiB from 1 to {MAX_MEMORY}.")
    if pattern is None:
        if not isinstance(backend, str) or backend not in CHOICES or backend == registry.AUTO:
            raise BadPlan(f"{where}: backend {str(backend)[:40]!r} is not known.")
        return Candidate(backend, memory=memory)
    name = pattern.get("name") if isinstance(pattern, dict) else None
    if backend != "" or not isinstance(name, str) or name not in PATTERNS:
        raise BadPlan(f"{where}: pattern {str(name)[:40]!r} is not known, or it comes with a backend.")
    made = _pattern(PATTERNS[name], pattern, where)
    if overlap and not hasattr(made, "refresh"):
        raise BadPlan(f"{where}: {made.name} chooses no blocks that refresh_overlap could keep.")
    made = _with_singles(made, data, where)
    ramp = _ramp(made, data["ramp"], where) if "ramp" in data else None
    return Candidate(pattern=made, ramp=ramp, refresh_overlap=overlap, memory=memory)


def _with_singles(pattern, data: dict, where: str):
    if "singles" not in data:
        return pattern
    singles = data["singles"]
    if not hasattr(pattern, "singles") or type(singles) is not int or not 1 <= singles <= MOST_SINGLES:
        raise BadPlan(f"{where}: singles of {pattern.name} cannot be {repr(singles)[:40]}.")
    return dataclasses.replace(pattern, singles=singles)


def _overlap(data: dict, where: str) -> float:
    """Read how alike two choices of blocks must be; 0 where the file does not say."""
    if "refresh_overlap" not in data:
        return 0.0
    overlap = number(data, "refresh_overlap", 1, where)
    if not overlap or data["pattern"] is None:
        raise BadPlan(f"{where}: a refresh_overlap of 0, or without a pattern.")
    return overlap


def _ramp(pattern, data, where: str) -> Ramp:
    """Read how a pattern's percentage changes."""
    if not isinstance(data, dict) or not hasattr(pattern, "amount"):
        raise BadPlan(f"{where}: a ramp of {pattern.name} cannot be {repr(data)[:40]}.")
    only(data, [field.name for field in dataclasses.fields(Ramp)], f"{where}: ramp")
    end = number(data, "end", 100, f"{where}: ramp")
    try:
        return Ramp(end, str(data["shape"])[:20])
    except ValueError as wrong:
        raise BadPlan(f"{where}: {wrong}") from None


def _pattern(kind, data: dict, where: str):
    """Read every field of the pattern's dataclass, each of the type and within the reach of its default."""
    fields = _fields(kind)
    only(data, ["name", *fields], where)
    for field, default in fields.items():
        if not _fits(data[field], default):
            raise BadPlan(f"{where}: {field} of {kind.name} cannot be {repr(data[field])[:40]}.")
    values = {field: data[field] for field in fields}
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
