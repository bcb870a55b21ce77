"""Several runs summed up as one report: the windows of a long clip, the stages of a sampler, the turns of a loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from .report import Report, Row
from .shaping import Shaping


def combine(reports: Sequence[Report]) -> Report | None:
    """Sum up Reports, in the order in which they ran, as one; None without any."""
    if len(reports) < 2:
        return reports[0] if reports else None
    laps = [lap for report in reports for lap in report.laps]
    return Report(
        model=" and ".join(_once(report.model for report in reports)),
        grids=_once(grid for report in reports for grid in report.grids),
        windows=sum(report.windows for report in reports),
        steps=sum(report.steps for report in reports),
        evaluations=sum(report.evaluations for report in reports),
        rows=_rows(reports),
        fallbacks=_added(reports, "fallbacks"),
        passed_over=_added(reports, "passed_over"),
        notes=_once(note for report in reports for note in report.notes),
        ruled=sum(report.ruled for report in reports),
        measured=_once(line for report in reports for line in report.measured),
        choosing=sum(report.choosing for report in reports),
        unplaced=_added(reports, "unplaced"),
        laps=tuple(replace(lap, step=step) for step, lap in enumerate(laps, 1)),
        runs=sum(report.runs for report in reports),
        shaping=_shaping(reports),
        missing=next((report.missing for report in reports if report.missing), ""),
        told=_added(reports, "told"),
    )


def _shaping(reports: Sequence[Report]) -> Shaping | None:
    found = [report.shaping for report in reports if report.shaping is not None]
    return sum(found[1:], start=found[0]) if found else None


def _once(found) -> tuple:
    return tuple(dict.fromkeys(found))


def _added(reports: Sequence[Report], name: str) -> Counter:
    return sum((getattr(report, name) for report in reports), Counter())


def _rows(reports: Sequence[Report]) -> tuple[Row, ...]:
    rows: dict[tuple[str, str], Row] = {}
    for row in (row for report in reports for row in report.rows):
        into = rows.setdefault((row.role, row.used), Row(row.role, row.used))
        into.calls += row.calls
        into.seconds += row.seconds
        into.blocks |= row.blocks
        into.tokens |= row.tokens
        for block, (calls, seconds) in row.by_block.items():
            before = into.by_block.get(block, (0, 0.0))
            into.by_block[block] = before[0] + calls, before[1] + seconds
    return tuple(sorted(rows.values(), key=lambda row: (-row.calls, row.role, row.used)))
