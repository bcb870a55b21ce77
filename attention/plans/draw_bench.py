"""Picture of Benchmark's trials."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..backends.autotune import HOST_RUN, KernelTrial
from ..core.canvas import INK, LINE, MARGIN, NAME, WIDTH, Canvas, wrap
from ..core.peak_memory import in_mib
from ..inspect.kernel_colours import colours_of


def draw_trials(trials: dict) -> Image.Image:
    """Draw a bar for each kernel and geometry, as long as its speed beside ComfyUI's own. RGB.

    trials: (role, Geometry) -> KernelTrials, as Bench has them; those that were refused are left out.
    """
    canvas = Canvas(WIDTH)
    y = canvas.title("Speed beside ComfyUI's own attention", () if trials else ("No attention call was seen.",))
    for (role, geometry), found in trials.items():
        for line in wrap(f"{role}-attention, {geometry.shape_text}", NAME, WIDTH - 2 * MARGIN):
            canvas.text((MARGIN, y), line, INK, NAME)
            y += LINE + 4
        y = _speeds(canvas, [trial for trial in found if trial.reason is None], y + 4) + 12
    return canvas.picture(y + 12)


def _speeds(canvas: Canvas, found: Sequence[KernelTrial], y: float) -> float:
    """Draw a bar for each kernel; return where the last ends."""
    base = next(trial.seconds for trial in found if trial.name == HOST_RUN)
    fastest = max(base / trial.seconds for trial in found)
    colours = colours_of((trial.name for trial in found), {HOST_RUN})
    for trial in found:
        speed = base / trial.seconds
        peak = "" if trial.peak is None else f"  peak {in_mib(trial.peak)} MiB"
        figures = f"{speed:.2f}x  {trial.seconds * 1e3:.2f} ms  error {trial.error:.0e}{peak}"
        y = canvas.bar(y, _name(trial), figures, speed / fastest, colours[trial.name], well=False)
    return y


def _name(trial: KernelTrial) -> str:
    if trial.name != HOST_RUN:
        return trial.name
    return f"{trial.host} (file)" if trial.named else "ComfyUI's own"
