"""Picture of a Report: a bar for each role and kernel, the steps, the reasons."""

from __future__ import annotations

from PIL import Image

from ..backends.registry import HOST, names
from ..core.canvas import INK, LIGHT, LINE, MARGIN, PALE, TEXT, WIDTH, Canvas, Colour, length
from ..core.function_owner import OTHER
from ..core.peak_memory import in_mib
from ..core.site import SELF
from ..routing.reused_calls import REUSED
from .kernel_colours import colours_of, lighter
from .report import Report, ReportRow
from .report_text import TOTAL, fallback_lines, head_lines, passed_over_line
from .timeline import StepStats, pace

STEP_COLOUR, COLUMN, STRIP = LIGHT, 96, 14
# A step that was forecast, by name, and how many pixels its column has at least.
FORECAST, FEW = "forecast", 3
# Of several samplers one after the other.
STAGES = 4


def draw_report(report: Report) -> Image.Image:
    """Draw a bar for each role and kernel, as long as its share of the calls, or of the time where calls were timed;
    below them the steps and the reasons. RGB.
    """
    canvas, colours = Canvas(WIDTH), _colours(report)
    y = canvas.title(
        "Attention of these runs" if report.runs > 1 else "Attention of this run",
        [*head_lines(report), *_stages(report)],
    )
    for row in report.rows:
        share, figures = _share(report, row)
        y = canvas.bar(y, f"{row.role} on {row.used}", figures, share, colours[row.role, row.used])
    if report.timeline:
        y = _timeline(canvas, report, y + 8, colours)
    said = [*filter(None, [report.memory_line]), *_reasons(report)]
    return canvas.picture(canvas.lines((MARGIN, y + 4), said) + 20)


def _stages(report: Report) -> list[str]:
    """List what the first STAGES of several samplers did, and say that it is part of a whole, and how many more."""
    more = len(report.stages) - STAGES
    return [TOTAL, *report.stages[:STAGES], *([f"and {more} more"] if more > 0 else [])] if report.stages else []


def _share(report: Report, row: ReportRow) -> tuple[float, str]:
    """Return a row's share of the time, or of the calls where they were not timed, and its figures in words."""
    peak = "" if row.peak is None else f", peak {in_mib(row.peak)} MiB"
    if not report.seconds:
        share = row.calls / max(1, report.calls)
        return share, f"{row.calls} calls{peak}  ({share:.0%} of calls)"
    share = row.seconds / report.seconds
    return share, f"{row.calls} calls, {row.seconds:.2f} s{peak}  ({share:.0%} of time)"


def _timeline(canvas: Canvas, report: Report, y: float, colours: dict) -> float:
    """Draw a column for each step, as high as it took long, cut into kernels when timed; below it which kernels ran.

    Returns where it ends.
    """
    y = canvas.lines((MARGIN, y), [pace(report.timeline).removeprefix("Time: ")], INK)
    room, floor = canvas.size[0] - 2 * MARGIN, y + 6 + COLUMN
    most = max(1e-9, *(one.seconds for one in report.timeline))
    step = room / len(report.timeline)
    gap = min(4.0, step / 5)
    for index, one in enumerate(report.timeline):
        left, right = MARGIN + index * step, MARGIN + (index + 1) * step - gap
        colour = colours[FORECAST] if one.forecast else STEP_COLOUR
        # One that was forecast takes next to no time, and must be seen nevertheless.
        canvas.box((left, floor - max(FEW * bool(one.forecast), COLUMN * one.seconds / most), right, floor), colour)
        foot = float(floor)
        for used, seconds in one.attention.items():
            high = COLUMN * seconds / most
            canvas.box((left, foot - high, right, foot), colours[used])
            foot -= high
        _ran(canvas, one, (left, floor + 6, right, floor + 6 + STRIP), colours)
    return _captions(canvas, report, floor + STRIP + 12, colours)


def _captions(canvas: Canvas, report: Report, y: float, colours: dict) -> float:
    """Say below the columns which step is where and what they mean; return where it ends."""
    first, last, right = "step 1", f"step {len(report.timeline)}", canvas.size[0] - MARGIN
    canvas.text((MARGIN, y), first, PALE)
    if length(first + last, TEXT) + 20 < right - MARGIN and len(report.timeline) > 1:
        canvas.text((right, y), last, PALE, TEXT, "ra")
    words = "time of each step, attention in colour" if report.seconds else "time of each step"
    y = canvas.lines((MARGIN, y + LINE), [f"Columns: {words}; strip: share of calls."])
    return canvas.legend((MARGIN, y + 4), {FORECAST: colours[FORECAST]}, 200) + 8 if report.forecasts else y + 8


def _ran(canvas: Canvas, one: StepStats, box: tuple[float, float, float, float], colours: dict) -> None:
    """Draw a strip cut into the kernels of one step, by calls; of one whose model did not run, that it was forecast."""
    left, top, right, bottom = box
    if one.forecast and not one.calls:
        canvas.box(box, colours[FORECAST])
    each = (right - left) / max(1, sum(one.calls.values()))
    for used, calls in one.calls.items():
        canvas.box((left, top, left + each * calls, bottom), colours[used])
        left += each * calls


def _reasons(report: Report) -> list[str]:
    lines = [f"Fell back: {line.strip()}" for line in fallback_lines(report)[:4]]
    lines += [f"Measured: {line}" for line in report.measured[:4]]
    lines += [passed_over_line(report)] if report.passed_over else []
    return lines + [note for note in report.notes if report.calls or note != report.missing][:2]


def _colours(report: Report) -> dict[tuple[str, str] | str, Colour]:
    """Return (role, kernel) -> colour of all that ran, lighter for other roles than self-attention; and FORECAST's."""
    ran = dict.fromkeys((row.role, row.used) for row in report.rows)
    ran |= dict.fromkeys(used for one in report.timeline for used in (*one.calls, *one.attention))
    of_others = {used for _, used in ran if _is_another_s(used)}
    made = [FORECAST] if report.forecasts else []
    colours = colours_of((*(used for _, used in ran), *made), of_others)
    return {name: colours[name] for name in made} | {
        (role, used): colours[used] if role == SELF or used in of_others else lighter(colours[used])
        for role, used in ran
    }


def _is_another_s(used: str) -> bool:
    """Tell whether it is ComfyUI's or another pack's: no backend, no pattern with its engine behind it, no guidance."""
    if used in (*names(), REUSED):
        return False
    return used.startswith((HOST, OTHER)) or not used.endswith(")") and ": " not in used
