"""A calibration in words and as a picture."""

from __future__ import annotations

from math import log10
from statistics import median

from PIL import Image

from ..core.canvas import INK, LINE, MARGIN, NEUTRAL, PALE, TEXT, WIDTH, Canvas, Colour, wrap
from ..inspect.kernel_colours import colours_of
from .calibrate import EXACT
from .choose_whole import WholeChoice
from .plan import Plan

# A panel: its own size, its axes inside of it, lines of its name; powers of ten between two figures of its errors.
PANEL, AXES, NAMED, POWERS = (304, 250), (62, 58, 290, 216), 2, 2
PANELS = 24
GRID = (236, 237, 240)
# Errors below the first are drawn at the left edge.
SMALLEST, LARGEST = 1e-5, 1.0


def to_text(plan: Plan, measured, settled) -> str:
    """Write down what was chosen and what it costs, in a few lines.

    measured: has `every`, part -> PlanOptions, `dropped`, what -> why it was left out, and `times`, seconds of whole
        exact samplings.
    settled: has `choice`, a WholeChoice, and `times`, seconds of whole samplings with the plan.
    """
    choice = settled.choice
    whole, attention = faster(plan.whole_exact_seconds, plan.whole_seconds), faster(plan.exact_seconds, plan.seconds)
    ran = median(measured.times), median(settled.times)
    lines = [
        f"Whole sampling {whole}: {plan.whole_seconds:.2f} s instead of {plan.whole_exact_seconds:.2f} s by "
        f"prediction, {ran[1]:.2f} s instead of {ran[0]:.2f} s as it ran. No choice of these can take less than "
        f"{choice.bound:.2f} s within the budget, by the same prediction.",
        f"Attention {attention}: {plan.seconds:.2f} s of it instead of {plan.exact_seconds:.2f} s.",
        f"Error of the final latent (relative L2): budget {plan.budget:g}, predicted for {plan.quantile:.0%} of all "
        f"prompts at most {plan.error:.2g}, on this prompt and seed {plan.realised:.2g}.".replace("%", " %"),
        "",
        "| part | runs on | error of a call | of the block | of the final latent alone | time |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for part, option in choice.chosen.items():
        errors = " | ".join("-" if e is None else f"{e:.1e}" for e in (option.local, option.effect, option.error))
        if part not in measured.every:
            continue
        exact = measured.every[part][0].seconds
        lines.append(f"| {part.text} | {option.name} | {errors} | {option.seconds / exact if exact else 1:.0%} |")
    if measured.dropped:
        lines += ["", "Left out:", *_left_out(measured.dropped)]
    return "\n".join(lines)


def faster(exact: float, planned: float) -> str:
    """Write how much faster something is: `2.39x as fast`."""
    return f"{exact / planned:.2f}x as fast" if planned else "free"


def _left_out(dropped: dict[str, str]) -> list[str]:
    """Write one line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for what, reason in dropped.items():
        by_reason.setdefault(reason, []).append(what)
    return [f"  {', '.join(what)}: {reason}" for reason, what in by_reason.items()]


def draw_plan(measured, choice: WholeChoice) -> Image.Image:
    """Draw a panel for each part of the model, its options as dots, error to the right, time upwards. RGB.

    A line joins those that no other beats; a ring marks the chosen one. The parts that take the most time, PANELS of
    them at most, in the model's order.

    measured: has `every`, part -> PlanOptions.
    """
    every = measured.every
    heavy = sorted(every, key=lambda part: -every[part][0].seconds)[:PANELS]
    shown = [part for part in every if part in heavy]
    names = list(dict.fromkeys(option.name for part in shown for option in every[part]))
    known, columns, canvas = colours_of(names, {EXACT}), max(1, WIDTH // PANEL[0]), Canvas(WIDTH)
    colours = {name: known[name] for name in names}
    top = canvas.title("Error and time of every choice", [_caption(measured, choice, len(shown))])
    for index, part in enumerate(shown):
        corner = 16 + PANEL[0] * (index % columns), top + PANEL[1] * (index // columns)
        _panel(canvas, corner, part, every[part], choice.of(part, every[part]), colours)
    foot = top + PANEL[1] * -(-len(shown) // columns) + 4
    return canvas.picture(canvas.legend((MARGIN, foot), colours, WIDTH - 2 * MARGIN, 1) + 16)


def _caption(measured, choice: WholeChoice, shown: int) -> str:
    exact = sum(found[0].seconds for found in measured.steps.values())
    cut = f"; the {shown} parts that take the most time" if shown < len(measured.every) else ""
    return (
        f"right: relative L2 of the final latent, up: time beside exact; rings: the plan, {choice.whole:.2f} s of the "
        f"whole sampling instead of {exact:.2f} s{cut}"
    )


def _panel(canvas: Canvas, corner, part, options, chosen, colours: dict[str, Colour]) -> None:
    left, top, right, bottom = (corner[i % 2] + AXES[i] for i in range(4))
    for row, line in enumerate(reversed(wrap(part.text, TEXT, PANEL[0] - 24)[:NAMED])):
        canvas.text((corner[0] + 12, top - 8 - LINE * row), line, INK, TEXT, "ls")
    for power in range(round(log10(SMALLEST)), round(log10(LARGEST)) + 1):
        x = left + (right - left) * _across(10.0**power)
        canvas.box((x, top, x + 1, bottom), GRID)
        if power % POWERS == 0:
            canvas.text((x, bottom + 6), f"1e{power}" if power else "1", PALE, TEXT, "ma")
    for share in (0.0, 0.5, 1.0):
        y = bottom - (bottom - top) * share / 1.1
        canvas.box((left, y, right, y + 1), GRID)
        canvas.text((left - 10, y if share else y - 4), f"{share:.0%}", PALE, TEXT, "rm")
    exact = options[0].seconds
    at = {o: (left + (right - left) * _across(o.error), bottom - (bottom - top) * _share(o, exact)) for o in options}
    canvas.line([at[option] for option in best(options)], NEUTRAL, 1)
    for option in options:
        canvas.dot(at[option], 4.5, colours[option.name])
    canvas.ring(at[chosen], 8.5, INK, 2)


def best(options) -> list:
    """Find the options that no other beats both in error and in time, nearest first."""
    kept: list = []
    for option in sorted(options, key=lambda o: (o.error, o.seconds)):
        if not kept or option.seconds < kept[-1].seconds:
            kept.append(option)
    return kept


def _across(error: float) -> float:
    return min(1.0, log10(max(error, SMALLEST) / SMALLEST) / log10(LARGEST / SMALLEST))


def _share(option, exact: float) -> float:
    return min(1.0, (option.seconds / exact if exact else 1.0) / 1.1)
