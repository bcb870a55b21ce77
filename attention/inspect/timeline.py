"""One run step by step: which kernel ran how often in each, how long it took, and the same in words while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..backends.registry import HOST
from ..core.timing import elapsed
from ..forecast.record import COMPUTED
from ..routing.run_stats import RunStats
from . import step_cells
from .step_cells import Cell, cells_of


@dataclass(frozen=True)
class StepStats:
    """What one step of the sampler did.

    step: from 1.
    seconds: by the wall clock, all of the step, not attention alone.
    calls: (role, kernel) -> calls in this step.
    attention: (role, kernel) -> seconds of them; empty unless timed.
    forecast: evaluations of the model that were forecast in it, as a whole or in part.
    estimated_error: relative L2 of what was forecast beside a computed evaluation; None where nothing was.
    cells: (role, block) -> what ran there.
    """

    step: int
    seconds: float
    calls: dict[tuple[str, str], int]
    attention: dict[tuple[str, str], float]
    forecast: int = 0
    estimated_error: float | None = None
    cells: dict[tuple[str, int], Cell] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """Return plain data, for JSON."""
        rows = [
            {"role": role, "used": used, "calls": calls, "seconds": round(self.attention.get((role, used), 0.0), 6)}
            for (role, used), calls in self.calls.items()
        ]
        more = {"forecast": self.forecast, "estimated_error": self.estimated_error}
        more = {name: value for name, value in more.items() if value}
        return {"step": self.step, "seconds": round(self.seconds, 6), **more, "rows": rows}


def step_stats_of(stats: RunStats) -> tuple[StepStats, ...]:
    """Count a run step by step, as its marks tell. Waits for the GPU when calls were timed."""
    found, before, known, densities = [], stats.begun, {}, {}
    for step, (ended, counts) in enumerate(stats.marks, 1):
        calls: dict[tuple[str, str], int] = {}
        attention: dict[tuple[str, str], float] = {}
        for key, count in counts.items():
            decision, first = stats.decisions[key], known.get(key, 0)
            if count == first:
                continue
            row = decision.site.role, decision.used
            calls[row] = calls.get(row, 0) + count - first
            # With timing on, every call leaves one span.
            if decision.spans:
                attention[row] = attention.get(row, 0.0) + sum(elapsed(span) for span in decision.spans[first:count])
        of_step = stats.forecast.of_step(step)
        made = sum(one.kind != COMPUTED for one in of_step)
        error = max((one.error for one in of_step if one.error is not None), default=None)
        counted = [(stats.decisions[key], known.get(key, 0), count) for key, count in counts.items()]
        cells = cells_of(counted, densities)
        found.append(StepStats(step, ended - before, calls, attention, made, error, cells))
        before, known = ended, counts
    return tuple(found)


def as_data(timeline: tuple[StepStats, ...]) -> dict:
    """Return plain data of all steps, for JSON: the steps one by one, and what ran in each block."""
    return {
        "timeline": [one.as_dict() for one in timeline],
        "cells": step_cells.as_dict([one.cells for one in timeline]),
    }


def pace(timeline: tuple[StepStats, ...]) -> str:
    """Say in one line how long the run took and a step of it; empty without steps."""
    if not timeline:
        return ""
    total, rest = sum(one.seconds for one in timeline), [one.seconds for one in timeline[1:]]
    each = f": the first {timeline[0].seconds:.2f} s, then {sum(rest) / len(rest):.2f} s each" if rest else ""
    spent = sum(sum(one.attention.values()) for one in timeline)
    inside = f"; {spent:.2f} s of it in attention, {spent / total:.0%}" if spent and total else ""
    return f"Time: {len(timeline)} steps in {total:.2f} s{each}{inside}."


def live_text(stats: RunStats, total: int) -> str:
    """Say in a few lines what a running RunStats did so far, without a wait for the GPU.

    total: steps of the run.
    """
    done = len(stats.marks)
    total = max(total, done)  # some samplers tell parts of a step
    each = (stats.marks[-1][0] - stats.begun) / done
    lines = [f"Step {done} of {total}, {each:.2f} s each, {max(0, total - done) * each:.0f} s left."]
    lines += [f"{stats.forecast.counted()}."] if stats.forecast.forecast else []
    rows: dict[tuple[str, str], int] = {}
    reasons: dict[tuple[str, str, str], int] = {}
    for _, decision in stats.counted():
        row = decision.site.role, decision.used
        if decision.answered:
            rows[row] = rows.get(row, 0) + decision.answered
        if decision.fell_back and decision.wanted not in (None, HOST):
            why = decision.site.role, decision.wanted, decision.reason
            reasons[why] = reasons.get(why, 0) + decision.fell_back
    lines += [f"{role} on {used}: {calls} calls" for (role, used), calls in _most(rows)]
    lines += [f"fell back from {wanted}, {role}, {calls} calls: {why}" for (role, wanted, why), calls in _most(reasons)]
    return "\n".join(lines)


def _most(counts: dict) -> list[tuple]:
    return sorted(counts.items(), key=lambda pair: -pair[1])[:6]


def skipped(timeline: tuple[StepStats, ...]) -> str:
    """Say in a clause that something else than the model answered some steps, as a step cache does; empty for none.

    Those have hardly an attention call; a method's last step may have a third of the others' calls.
    """
    calls = [sum(one.calls.values()) for one in timeline]
    count = sum(4 * many < max(calls) for many in calls)
    if not count:
        return ""
    return (
        f"in {count} of {len(timeline)} steps something else answered for the model, without its attention, as Video "
        "Attention Forecast, EasyCache, LazyCache and TeaCache do"
    )
