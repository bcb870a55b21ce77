"""A Report in words, as it stands on a node."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.peak_memory import in_mib
from ..routing.rules import format_blocks
from .report import Report, notes_of
from .rule_coverage import sentences
from .timeline import pace

# How many grids the line of what was run names, and how many backends the line of those that `auto` passed over.
GRIDS, PASSED_OVER = 3, 3
# Before what each of several samplers did.
TOTAL = "All of it together is of these samplers, one after the other:"


def to_text(report: Report) -> str:
    """Write a report down so that it fits a node."""
    lines = list(head_lines(report))
    if report.stages:
        lines += ["", TOTAL, *(f"  {stage}" for stage in report.stages)]
    if report.rows:
        lines += ["", *_table(report)]
    if report.memory_line:
        lines += ["", report.memory_line]
    if report.coverage is not None and report.coverage.density is not None:
        lines += ["", report.coverage.density_line()]
    if report.coverage is not None and report.coverage.asked:
        lines += ["", report.coverage.choices_line()]
    if report.timeline:
        lines += ["", pace(report.timeline)]
    if report.fallbacks:
        lines += ["", "Fell back:", *fallback_lines(report)]
    if report.chunked:
        lines += ["", "In chunks:", *chunk_lines(report)]
    if report.measured:
        lines += [
            "",
            f"Measured by auto ({report.choosing:.2f} s in this run):",
            *(f"  {line}" for line in report.measured),
        ]
    if report.passed_over:
        lines += ["", passed_over_line(report)]
    if report.unplaced:
        lines += ["", "Not on the video's grid:"]
        lines += [f"  {calls} calls, {role}: {why}" for (role, why), calls in report.unplaced.most_common()]
    notes = [note for note in notes_of(report) if report.calls or note != report.missing]
    if notes:
        lines += ["", *notes]
    return "\n".join(lines)


def head_lines(report: Report) -> tuple[str, ...]:
    """Write the first lines: how much faster, what ran, and what each rule did of what it could have."""
    return tuple(filter(None, (report.answer.sentence, *ran_lines(report))))


def ran_lines(report: Report) -> tuple[str, ...]:
    """Write a line about what was run, and one for each rule."""
    return (facts(report), *(sentences(report.rules) if report.calls else ()))


def stages_of(each: Sequence[tuple[str, Report]]) -> tuple[str, ...]:
    """Write a line for each of several samplers that worked on one latent, one after the other.

    each: (its name, its Report), in their order.
    """
    found = []
    for number, (name, report) in enumerate(each, 1):
        faster = report.answer.sentence if report.answer.speedup is not None else ""
        said = (f"{number}. {name}:", faster, *ran_lines(report), pace(report.timeline))
        found.append(" ".join(filter(None, said)))
    return tuple(found)


def headline(report: Report) -> str:
    """Write all that head_lines has in one line."""
    return " ".join(head_lines(report))


def facts(report: Report) -> str:
    """Say what was run: model, tokens, steps, calls; or why nothing was seen of it."""
    where = report.model or "model"
    if not report.calls:
        return " ".join(filter(None, (f"{where}: no attention call was seen.", report.missing)))
    runs = f", {report.runs} runs" if report.runs > 1 else ""
    return f"{where}{_grids(report)}{runs}, {_steps(report)}: {report.calls} attention calls."


def _grids(report: Report) -> str:
    """Write `, 2 windows of 4 x 8 x 16 tokens (time x height x width)`; empty where no grid is known."""
    if not report.grids:
        return ""
    sizes = [" x ".join(map(str, grid)) for grid in report.grids]
    shown = [*sizes[:GRIDS], *([f"{len(sizes) - GRIDS} more"] if len(sizes) > GRIDS else [])]
    windows = f"{report.windows} windows of " if report.windows > 1 else ""
    return f", {windows}{' and '.join(shown)} tokens (time x height x width)"


def _steps(report: Report) -> str:
    """Write `20 steps`, and how often the model was evaluated where a step takes more than one evaluation, or less."""
    more = f" ({report.evaluations} model evaluations)" if report.evaluations not in (0, report.steps) else ""
    if report.forecasts:
        more = f" ({report.forecasts} of {report.evaluations} evaluations forecast)"
    return f"{report.steps} steps{more}"


def _table(report: Report) -> list[str]:
    timed, weighed = report.seconds > 0, any(row.peak is not None for row in report.rows)
    heads = ["role", "ran on", "calls", "blocks", "tokens"]
    cells = [[*heads, *(["time"] if timed else []), *(["peak MiB"] if weighed else [])]]
    for row in report.rows:
        tokens = ", ".join(f"{q}x{k}" for q, k in sorted(row.tokens)[:3]) + (", ..." if len(row.tokens) > 3 else "")
        share = [f"{row.seconds:.2f} s, {row.seconds / report.seconds:.0%}"] if timed else []
        peak = ["-" if row.peak is None else in_mib(row.peak)] if weighed else []
        cells.append(
            [row.role, row.used, str(row.calls), format_blocks(row.blocks) or "unknown", tokens, *share, *peak]
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells]


def chunk_lines(report: Report) -> list[str]:
    """Write one line for each role, kernel and way in which its calls were cut, most calls first."""
    return [
        f"  {calls} calls, {role}-attention, {used}, {how}" for (role, used, how), calls in report.chunked.most_common()
    ]


def fallback_lines(report: Report) -> list[str]:
    """Write one line for each role, backend and reason, most calls first."""
    return [
        f"  {calls} calls, {role}-attention, {wanted}: {reason}"
        for (role, wanted, reason), calls in report.fallbacks.most_common()
    ]


def passed_over_line(report: Report) -> str:
    """Say in one line which backends `auto` could not take; most are just not installed, JSON has the reasons."""
    names = list(dict.fromkeys(name for name, _ in report.passed_over))
    more = f" and {len(names) - PASSED_OVER} more" if len(names) > PASSED_OVER else ""
    return f"Not open to auto: {', '.join(names[:PASSED_OVER])}{more}; the JSON output says why."
