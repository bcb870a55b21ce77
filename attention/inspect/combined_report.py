"""Several runs summed up as one report: the windows of a long clip, the stages of a sampler, the turns of a loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from .pattern_coverage import PatternCoverage
from .report import Report, ReportRow


def combine(reports: Sequence[Report]) -> Report | None:
    """Sum up Reports, in the order in which they ran, as one; None without any."""
    if len(reports) < 2:
        return reports[0] if reports else None
    timeline = [one for report in reports for one in report.timeline]
    return Report(
        model=" and ".join(_once(report.model for report in reports)),
        grids=_once(grid for report in reports for grid in report.grids),
        windows=sum(report.windows for report in reports),
        steps=sum(report.steps for report in reports),
        evaluations=sum(report.evaluations for report in reports),
        forecasts=sum(report.forecasts for report in reports),
        rows=_rows(reports),
        fallbacks=_added(reports, "fallbacks"),
        passed_over=_added(reports, "passed_over"),
        notes=_once(note for report in reports for note in report.notes),
        ruled=sum(report.ruled for report in reports),
        measured=_once(line for report in reports for line in report.measured),
        choosing=sum(report.choosing for report in reports),
        unplaced=_added(reports, "unplaced"),
        timeline=tuple(replace(one, step=step) for step, one in enumerate(timeline, 1)),
        runs=sum(report.runs for report in reports),
        coverage=_coverage(reports),
        missing=next((report.missing for report in reports if report.missing), ""),
        told=_added(reports, "told"),
        rules=_summed(reports, "rules", lambda rule: (rule.label, rule.node)),
        gains=_summed(reports, "gains", lambda gain: gain.role),
        hints=_added(reports, "hints"),
        forecast=next((report.forecast for report in reports if report.forecast), None),
        made=_once(rule for report in reports for rule in report.made),
        chunked=_added(reports, "chunked"),
        memory=max((report.memory for report in reports if report.memory), key=sum, default=None),
        untimed=_once(node for report in reports for node in report.untimed),
    )


def _coverage(reports: Sequence[Report]) -> PatternCoverage | None:
    found = [report.coverage for report in reports if report.coverage is not None]
    return sum(found[1:], start=found[0]) if found else None


def _summed(reports: Sequence[Report], name: str, key: Callable) -> tuple:
    """Add up what several reports have under `name`, in the order in which its keys are met."""
    found: dict = {}
    for one in (one for report in reports for one in getattr(report, name)):
        found[key(one)] = found[key(one)] + one if key(one) in found else one
    return tuple(found.values())


def _once(found) -> tuple:
    return tuple(dict.fromkeys(found))


def _added(reports: Sequence[Report], name: str) -> Counter:
    return sum((getattr(report, name) for report in reports), Counter())


def _rows(reports: Sequence[Report]) -> tuple[ReportRow, ...]:
    rows: dict[tuple[str, str], ReportRow] = {}
    for row in (row for report in reports for row in report.rows):
        into = rows.setdefault((row.role, row.used), ReportRow(row.role, row.used))
        into.calls += row.calls
        into.seconds += row.seconds
        into.add_peak(row.peak)
        into.blocks |= row.blocks
        into.tokens |= row.tokens
        for block, (calls, seconds) in row.by_block.items():
            before = into.by_block.get(block, (0, 0.0))
            into.by_block[block] = before[0] + calls, before[1] + seconds
    return tuple(sorted(rows.values(), key=lambda row: (-row.calls, row.role, row.used)))
