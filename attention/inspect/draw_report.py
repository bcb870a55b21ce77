"""Pictures of reports, with Pillow: the host ships it, matplotlib it does not."""

from __future__ import annotations

import textwrap

from PIL import Image, ImageDraw, ImageFont

from ..backends.autotune import HOST_RUN
from ..backends.registry import HOST, names
from ..core.function_owner import OTHER
from ..core.site import SELF
from .report import Report, fallback_lines, headline, passed_over_line
from .timeline import Lap, pace

INK, PALE, PAPER = (34, 38, 46), (120, 126, 138), (250, 250, 248)
HOST_COLOUR = (176, 180, 188)
PATTERN_COLOURS = ((192, 60, 96), (108, 84, 204), (0, 108, 120), (228, 156, 72))
STEP_COLOUR, COLUMN, TIMELINE = (214, 217, 224), 84, 178
# One for each backend of the table, all of them and those above easily told apart.
COLOURS = (
    (29, 105, 150), (237, 173, 8), (15, 133, 84), (204, 80, 62), (56, 166, 165), (148, 52, 110), (115, 175, 72),
    (225, 124, 5), (95, 70, 144), (0, 96, 252), (120, 0, 168), (160, 120, 40), (60, 72, 24), (200, 110, 140),
    (240, 144, 252), (12, 144, 252), (110, 30, 20),
)  # fmt: skip


def draw_report(report: Report, width: int = 960) -> Image.Image:
    """RGB picture: a bar for each role and kernel, its share of calls (of time, when timed) long, steps, reasons."""
    bars, notes, said = list(report.rows), _reasons(report), textwrap.wrap(headline(report), 116)
    head = 96 + 20 * (len(said) - 1)
    height = head + 58 * max(1, len(bars)) + (TIMELINE if report.laps else 0) + 26 * len(notes) + 24
    picture = Image.new("RGB", (width, height), PAPER)
    canvas = ImageDraw.Draw(picture)
    canvas.text(
        (28, 22), "Attention of these runs" if report.runs > 1 else "Attention of this run", INK, font=_font(24)
    )
    for line, text in enumerate(said):
        canvas.text((28, 58 + 20 * line), text, PALE, font=_font(15))
    y = head
    for row in bars:
        y = _bar(canvas, report, row, y, width)
    if report.laps:
        y = _timeline(canvas, report, y + 8, width)
    for line in notes:
        canvas.text((28, y + 6), line, PALE, font=_font(14))
        y += 26
    return picture


def _bar(canvas, report: Report, row, y: int, width: int) -> int:
    timed = report.seconds > 0
    share = row.seconds / report.seconds if timed else row.calls / max(1, report.calls)
    right = 28 + max(4, int((width - 56) * share))
    canvas.text((28, y), f"{row.role}  on  {row.used}", INK, font=_font(16))
    figure = (
        f"{row.calls} calls"
        + (f", {row.seconds:.2f} s" if timed else "")
        + f"  ({share:.0%} of {'time' if timed else 'calls'})"
    )
    canvas.text((width - 28, y), figure, PALE, font=_font(15), anchor="ra")
    canvas.rounded_rectangle((28, y + 26, width - 28, y + 42), 5, fill=(232, 233, 236))
    canvas.rounded_rectangle((28, y + 26, right, y + 42), 5, fill=_colour(row.used, row.role))
    return y + 58


def _timeline(canvas, report: Report, y: int, width: int) -> int:
    """A column for each step, as high as it took long, cut into kernels when timed; below it which kernels ran."""
    canvas.text((28, y), "Steps", INK, font=_font(16))
    canvas.text((width - 28, y), pace(report.laps).removeprefix("Time: "), PALE, font=_font(15), anchor="ra")
    top, floor, most = y + 28, y + 28 + COLUMN, max(lap.seconds for lap in report.laps)
    step = (width - 56) / len(report.laps)
    gap = min(4.0, step / 5)
    for index, lap in enumerate(report.laps):
        left, right = 28 + index * step, 28 + (index + 1) * step - gap
        high = COLUMN * lap.seconds / max(most, 1e-9)
        canvas.rectangle((left, floor - high, right, floor), fill=STEP_COLOUR)
        y = float(floor)
        for (role, used), seconds in lap.attention.items():
            part = COLUMN * seconds / max(most, 1e-9)
            if part >= 1:
                canvas.rectangle((left, y - part, right, y), fill=_colour(used, role))
            y -= part
        _ran(canvas, lap, (left, floor + 6, right, floor + 18))
    canvas.text((28, floor + 24), "step 1", PALE, font=_font(13))
    canvas.text((width - 28, floor + 24), f"step {len(report.laps)}", PALE, font=_font(13), anchor="ra")
    words = "time of each step, attention in colour" if report.seconds else "time of each step"
    canvas.text((width / 2, floor + 24), f"{words}; strip: share of calls", PALE, font=_font(13), anchor="ma")
    return top - 28 + TIMELINE - 8


def _ran(canvas, lap: Lap, box: tuple[float, float, float, float]) -> None:
    """A strip cut into the kernels of one step, by calls."""
    left, top, right, bottom = box
    width, total = right - left, max(1, sum(lap.calls.values()))
    for (role, used), calls in lap.calls.items():
        wide = width * calls / total
        canvas.rectangle((left, top, left + wide, bottom), fill=_colour(used, role))
        left += wide


def _reasons(report: Report) -> list[str]:
    lines = [f"Fell back: {line.strip()}" for line in fallback_lines(report)[:4]]
    lines += [f"Measured: {line}" for line in report.measured[:4]]
    lines += [passed_over_line(report)] if report.passed_over else []
    lines += [note for note in report.notes if report.calls or note != report.missing][:2]
    return [part for line in lines for part in textwrap.wrap(line, 118)]


def _colour(used: str, role: str) -> tuple[int, int, int]:
    """The kernel's colour, lighter for other roles than self-attention."""
    if used in names():
        found = COLOURS[names().index(used)]
    elif used.startswith((HOST, OTHER)) or not used.endswith(")") and ": " not in used:  # ComfyUI or another pack
        return HOST_COLOUR
    else:  # a pattern, with its engine in brackets, or what a guidance does
        found = PATTERN_COLOURS[sum(used.encode()) % len(PATTERN_COLOURS)]
    return found if role == SELF else tuple(round(0.6 * part + 0.4 * ground) for part, ground in zip(found, PAPER))


def _font(size: int):
    return ImageFont.load_default(size)


def draw_trials(trials: dict, width: int = 960) -> Image.Image:
    """RGB picture of bench trials: a bar for each kernel and geometry, as long as its speed beside ComfyUI's own."""
    rows = [(key, [t for t in found if t.reason is None]) for key, found in trials.items()]
    height = 84 + sum(44 + 30 * len(found) for _, found in rows)
    picture = Image.new("RGB", (width, max(height, 120)), PAPER)
    canvas = ImageDraw.Draw(picture)
    canvas.text((28, 22), "Speed beside ComfyUI's own attention", INK, font=_font(24))
    y = 72
    for (role, call), found in rows:
        canvas.text((28, y), f"{role}-attention, {call.shape_text}", INK, font=_font(16))
        y = _speeds(canvas, found, y + 30, width) + 14
    return picture


def _speeds(canvas, found: list, y: int, width: int) -> int:
    base = next(t.seconds for t in found if t.name == HOST_RUN)
    fastest = max(base / t.seconds for t in found)
    left, room = 220, width - 220 - 260
    for trial in found:
        speed, host = base / trial.seconds, trial.name == HOST_RUN
        own = f"{trial.host} (file)" if trial.named else "ComfyUI's own"
        canvas.text((28, y), own if host else trial.name, INK, font=_font(15))
        bar = (left, y + 2, left + max(3, int(room * speed / fastest)), y + 18)
        canvas.rounded_rectangle(bar, 4, fill=HOST_COLOUR if host else _colour(trial.name, SELF))
        note = f"{speed:.2f}x   {trial.seconds * 1e3:.2f} ms   error {trial.error:.0e}"
        canvas.text((width - 28, y), note, PALE, font=_font(14), anchor="ra")
        y += 30
    return y
