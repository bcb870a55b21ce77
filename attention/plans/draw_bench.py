"""Picture of Benchmark's trials."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..backends.autotune import HOST_RUN, KernelTrial
from ..core.canvas import INK, MARGIN, PALE, WIDTH, Canvas, length
from ..inspect.kernel_colours import colours_of

NAMES, FIGURES = 220, 260


def draw_trials(trials: dict, width: int = WIDTH) -> Image.Image:
    """Draw a bar for each kernel and geometry, as long as its speed beside ComfyUI's own. RGB.

    trials: (role, Geometry) -> KernelTrials, as Bench has them; those that were refused are left out.
    width: of the picture, in pixels.
    """
    ran = {key: [trial for trial in found if trial.reason is None] for key, found in trials.items()}
    canvas = Canvas(width, max(120, 84 + sum(44 + 30 * len(found) for found in ran.values())))
    canvas.title("Speed beside ComfyUI's own attention")
    names = [_name(trial) for found in ran.values() for trial in found]
    left = max(NAMES, MARGIN + 16 + round(max((length(name, 15) for name in names), default=0)))
    y = 72
    for (role, geometry), found in ran.items():
        canvas.text((MARGIN, y), f"{role}-attention, {geometry.shape_text}", INK, 16)
        _speeds(canvas, found, left, y + 30)
        y += 44 + 30 * len(found)
    return canvas.picture()


def _speeds(canvas: Canvas, found: Sequence[KernelTrial], left: int, y: int) -> None:
    base = next(trial.seconds for trial in found if trial.name == HOST_RUN)
    fastest = max(base / trial.seconds for trial in found)
    colours = colours_of((trial.name for trial in found), {HOST_RUN})
    room = canvas.size[0] - left - FIGURES
    for trial in found:
        speed = base / trial.seconds
        canvas.text((MARGIN, y), _name(trial), INK, 15)
        canvas.box((left, y + 2, left + max(3.0, room * speed / fastest), y + 18), colours[trial.name], 4)
        figures = f"{speed:.2f}x   {trial.seconds * 1e3:.2f} ms   error {trial.error:.0e}"
        canvas.text((canvas.size[0] - MARGIN, y), figures, PALE, 14, "ra")
        y += 30


def _name(trial: KernelTrial) -> str:
    if trial.name != HOST_RUN:
        return trial.name
    return f"{trial.host} (file)" if trial.named else "ComfyUI's own"
