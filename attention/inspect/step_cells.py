"""What ran in each block at each step, as the page shows it: kernel, density, time, reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.timing import elapsed
from ..core.tokens import VideoSpan
from ..patterns.density import density
from ..routing.run_stats import Decision

# A block whose number is not known.
UNKNOWN = -1
# Block x step cells of one role that a report holds at most; a long clip in many windows has more.
MOST = 40_000


@dataclass(frozen=True)
class Ran:
    """Calls of one kind in one block and step.

    used: the kernel, or the pattern with its engine.
    calls: how many there were.
    density: the part of the video's (query, key) pairs that a pattern computes; None where all are.
    wanted: the backend or pattern that was asked for and did not run; empty where what was asked for ran.
    reason: why.
    """

    used: str
    calls: int
    density: float | None = None
    wanted: str = ""
    reason: str = ""

    def as_dict(self) -> dict:
        """Return plain data, for JSON, without what there is none of."""
        more = {"density": self.density, "wanted": self.wanted, "reason": self.reason}
        said = {name: value for name, value in more.items() if value not in (None, "")}
        return {"used": self.used, "calls": self.calls, **said}


# What ran in one block of one role in a step, and the seconds of that.
Cell = tuple[tuple[Ran, ...], float]


def cells_of(counted: Sequence[tuple[Decision, int, int]], known: dict) -> dict[tuple[str, int], Cell]:
    """Sum up one step by (role, block).

    counted: (decision, its calls before the step, its calls after it).
    known: {(pattern, grid): its density}, filled on the way, for a whole run.
    """
    found: dict[tuple[str, int], Cell] = {}
    for decision, first, last in counted:
        if last == first:
            continue
        block = UNKNOWN if decision.site.block is None else decision.site.block
        ran, seconds = found.get((decision.site.role, block), ((), 0.0))
        seconds += sum(elapsed(span) for span in decision.spans[first:last])
        found[decision.site.role, block] = (*ran, _ran(decision, last - first, known)), seconds
    return found


def _ran(decision: Decision, calls: int, known: dict) -> Ran:
    wanted, reason = _refused(decision)
    return Ran(decision.used, calls, None if wanted else _density(decision, known), wanted, reason)


def _refused(decision: Decision) -> tuple[str, str]:
    """Say what did not run, and why; two empty texts where all did."""
    if decision.fell_back:
        return decision.wanted or "", decision.reason or ""
    return decision.unshaped or decision.lost or ("", "")


def _density(decision: Decision, known: dict) -> float | None:
    shape, span = decision.rule.shape if decision.rule is not None else None, decision.video_span
    if shape is None or not isinstance(span, VideoSpan):
        return None
    key = shape.pattern, span.grid
    if key not in known:
        seen = density(*key)
        known[key] = None if seen is None else round(seen, 4)
    return known[key]


def as_dict(steps: Sequence[dict[tuple[str, int], Cell]]) -> dict:
    """Pack the cells of all steps for JSON: what differs stands once, a cell is its number.

    Returns {"states": [[Ran, ...], ...], "roles": {role: {"blocks", "steps", "seconds"}}}: `steps` has for each step a
    row of numbers in `states`, one for each block, -1 for no call; `seconds` is there when calls were timed.
    """
    states: dict[tuple[Ran, ...], int] = {}
    roles = {}
    for role in dict.fromkeys(role for cells in steps for role, _ in cells):
        blocks = sorted({block for cells in steps for other, block in cells if other == role})
        if len(blocks) * len(steps) > MOST:
            continue
        rows = [[cells.get((role, block), ((), 0.0)) for block in blocks] for cells in steps]
        numbers = [[states.setdefault(ran, len(states)) if ran else -1 for ran, _ in row] for row in rows]
        roles[role] = {"blocks": blocks, "steps": numbers}
        if any(seconds for row in rows for _, seconds in row):
            roles[role]["seconds"] = [[round(seconds, 6) for _, seconds in row] for row in rows]
    return {"states": [[ran.as_dict() for ran in state] for state in states], "roles": roles}
