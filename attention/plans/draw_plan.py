"""A calibration in words and as a picture."""

from __future__ import annotations

from math import log10
from statistics import median

from PIL import Image

from ..core.canvas import INK, LINE, MARGIN, NEUTRAL, PALE, TEXT, WIDTH, Canvas, Colour, wrap
from ..core.peak_memory import in_mib
from ..inspect.kernel_colours import colours_of
from .calibrate import EXACT, unbeaten
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

    measured: has `every`, part -> PlanOptions, `dropped`, what -> why it was left out, `times`, seconds of whole exact
        samplings, `peak`, bytes at theirs or None, and `memory`, the budget of a call in MiB.
    settled: has `choice`, a WholeChoice, `times`, seconds of whole samplings with the plan, and `peak` of these.
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
        *memory_lines(choice, measured.memory),
        *_run_line(measured.peak, settled.peak),
        "",
        *_table(choice, measured.every),
    ]
    if measured.dropped:
        lines += ["", "Left out:", *_left_out(measured.dropped)]
    return "\n".join(lines)


def memory_lines(choice: WholeChoice, memory: int) -> list[str]:
    """Say what calls take beside their budget, and where nothing could keep it.

    memory: the budget in MiB; 0: there is none.
    """
    if not memory:
        return []
    peaks = [option.peak for option in choice.parts.values() if option.peak is not None and not option.over]
    lines = [f"Memory of a call beside its q, k and v: budget {memory} MiB."]
    if peaks:
        most = in_mib(max(peaks))
        lines = [f"Memory of a call beside its q, k and v: budget {memory} MiB, at most {most} MiB as chosen."]
    if over := "; ".join(part.text for part, option in choice.parts.items() if option.over):
        lines.append(f"Nothing kept both budgets in: {over}. What attends there is ComfyUI's own attention.")
    return lines


def _run_line(exact: int | None, planned: int | None) -> list[str]:
    if exact is None or planned is None:
        return []
    return [f"Peak of a run: {in_mib(planned)} MiB instead of {in_mib(exact)} MiB, beside what was taken before."]


def _table(choice: WholeChoice, every: dict) -> list[str]:
    """Write what each part runs on, a row each; memory where it was measured."""
    rows = [(part, choice.chosen[part], every[part][0].seconds) for part in choice.chosen if part in every]
    weighed = any(option.peak is not None for _, option, _ in rows)
    heads = ["part", "runs on", "error of a call", "of the block", "of the final latent alone", "time"]
    heads += ["peak MiB"] * weighed
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for part, option, exact in rows:
        errors = ["-" if e is None else f"{e:.1e}" for e in (option.local, option.effect, option.error)]
        cells = [part.text, option.label, *errors, f"{option.seconds / exact if exact else 1:.0%}"]
        cells += ["-" if option.peak is None else in_mib(option.peak)] * weighed
        lines.append(f"| {' | '.join(cells)} |")
    return lines


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
    peaks = [option.peak for option in choice.parts.values() if option.peak is not None]
    most = f", peak of a call {in_mib(max(peaks))} MiB" if peaks else ""
    return (
        f"right: relative L2 of the final latent, up: time beside exact; rings: the plan, {choice.whole:.2f} s of the "
        f"whole sampling instead of {exact:.2f} s{most}{cut}"
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
    canvas.line([at[option] for option in unbeaten(options)], NEUTRAL, 1)
    for option in options:
        canvas.dot(at[option], 4.5, colours[option.name])
    canvas.ring(at[chosen], 8.5, INK, 2)


def _across(error: float) -> float:
    return min(1.0, log10(max(error, SMALLEST) / SMALLEST) / log10(LARGEST / SMALLEST))


def _share(option, exact: float) -> float:
    return min(1.0, (option.seconds / exact if exact else 1.0) / 1.1)
