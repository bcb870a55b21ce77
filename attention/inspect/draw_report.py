"""Picture of a Report: a bar for each role and kernel, the steps, the reasons."""

from __future__ import annotations

from PIL import Image

from ..backends.registry import HOST, names
from ..core.canvas import INK, LIGHT, MARGIN, PALE, WELL, WIDTH, Canvas, Colour, length, wrap
from ..core.function_owner import OTHER
from ..core.site import SELF
from .kernel_colours import colours_of, lighter
from .report import Report, ReportRow
from .report_text import fallback_lines, head_lines, passed_over_line
from .timeline import StepStats, pace

STEP_COLOUR, COLUMN, TIMELINE = LIGHT, 84, 178
# A step that was forecast, by name, and how many pixels its column has at least.
FORECAST, FEW = "forecast", 3


def draw_report(report: Report, width: int = WIDTH) -> Image.Image:
    """Draw a bar for each role and kernel, as long as its share of the calls, or of the time where calls were timed;
    below them the steps and the reasons. RGB.

    width: of the picture, in pixels.
    """
    room = width - 2 * MARGIN
    said = [part for line in head_lines(report) for part in wrap(line, 15, room)]
    notes = [part for line in _reasons(report) for part in wrap(line, 14, room)]
    head, colours = 96 + 20 * (len(said) - 1), _colours(report)
    steps = TIMELINE if report.timeline else 0
    bars = max(58, sum(_height(report, row, room) for row in report.rows))
    canvas = Canvas(width, head + bars + steps + 26 * len(notes) + 24)
    canvas.title("Attention of these runs" if report.runs > 1 else "Attention of this run", said)
    y = head
    for row in report.rows:
        _bar(canvas, report, row, y, colours)
        y += _height(report, row, room)
    if report.timeline:
        _timeline(canvas, report, y + 8, colours)
    y += steps
    for line in notes:
        canvas.text((MARGIN, y + 6), line, PALE, 14)
        y += 26
    return canvas.picture()


def _share(report: Report, row: ReportRow) -> tuple[float, str]:
    """Return a row's share of the time, or of the calls where they were not timed, and its figures in words."""
    if not report.seconds:
        share = row.calls / max(1, report.calls)
        return share, f"{row.calls} calls  ({share:.0%} of calls)"
    share = row.seconds / report.seconds
    return share, f"{row.calls} calls, {row.seconds:.2f} s  ({share:.0%} of time)"


def _names(report: Report, row: ReportRow, room: float) -> list[str]:
    """Break a row's name into lines that leave room for its figures."""
    return wrap(f"{row.role} on {row.used}", 16, room - 20 - length(_share(report, row)[1], 15))


def _height(report: Report, row: ReportRow, room: float) -> int:
    return 38 + 20 * len(_names(report, row, room))


def _bar(canvas: Canvas, report: Report, row: ReportRow, y: int, colours: dict) -> None:
    right = canvas.size[0] - MARGIN
    share, figures = _share(report, row)
    canvas.text((right, y), figures, PALE, 15, "ra")
    for line in _names(report, row, right - MARGIN):
        canvas.text((MARGIN, y), line, INK, 16)
        y += 20
    canvas.box((MARGIN, y + 6, right, y + 22), WELL, 5)
    wide = max(4.0, (right - MARGIN) * share)
    canvas.box((MARGIN, y + 6, MARGIN + wide, y + 22), colours[row.role, row.used], min(5.0, wide / 2))


def _timeline(canvas: Canvas, report: Report, y: int, colours: dict) -> None:
    """Draw a column for each step, as high as it took long, cut into kernels when timed; below it which kernels ran."""
    width = canvas.size[0]
    said = pace(report.timeline).removeprefix("Time: ")
    fits = (size for size in (15, 14, 13, 12) if length(said, size) < width - 2 * MARGIN)
    canvas.text((MARGIN, y), said, INK, next(fits, 11))
    floor, most = y + 28 + COLUMN, max(1e-9, *(one.seconds for one in report.timeline))
    step = (width - 2 * MARGIN) / len(report.timeline)
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
        _ran(canvas, one, (left, floor + 6, right, floor + 18), colours)
    canvas.text((MARGIN, floor + 24), "step 1", PALE, 13)
    canvas.text((width - MARGIN, floor + 24), f"step {len(report.timeline)}", PALE, 13, "ra")
    words = "time of each step, attention in colour" if report.seconds else "time of each step"
    canvas.text((width / 2, floor + 24), f"{words}; strip: share of calls", PALE, 13, "ma")
    if report.forecasts:
        canvas.box((width - MARGIN - 160, floor + 25, width - MARGIN - 148, floor + 37), colours[FORECAST], 2)
        canvas.text((width - MARGIN - 142, floor + 24), FORECAST, PALE, 13)


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
    if used in names():
        return False
    return used.startswith((HOST, OTHER)) or not used.endswith(")") and ": " not in used
