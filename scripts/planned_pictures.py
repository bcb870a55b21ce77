"""Draws the thumbnail of a workflow that no machine here can render: what its dial computes in each step.

Of the rows of attention/presets and of the workflow's own steps, and of nothing else.
"""

from __future__ import annotations

import math
import sys

import host
from PIL import Image

sys.path.insert(0, str(host.ROOT))

from attention import presets
from attention.core.canvas import Canvas, length, mix, wrap
from attention.families import ltxv, wan
from attention.forecast.samplers import TABLE as SAMPLERS
from attention.forecast.schedule import StepSchedule
from attention.presets.spec import Preset
from attention.sampling import lengths, windows

SIDE, EDGE = 512, 24
GROUND, INK, PALE = (28, 31, 38), (238, 240, 244), (166, 174, 188)
# Steps that attend to everything, to a part of the video, and that may be forecast.
DENSE, SPARSE, FORECAST = (92, 104, 126), (46, 168, 160), (240, 182, 40)
LEFT, TOP, ROW, APART_ROWS = 140, 172, 54, 14
GAP = 16  # between stages
# Of all of a workflow's name that is no model's.
APART = (" text", " image", " references", " long", " motion")
# comfy/supported_models.py: LTXV, and LTX-2 after it.
LTX_SHIFT = math.exp(2.37)
# Of Wan's two experts, by ModelSamplingSD3 in the workflow.
CLIPS = {"Wan 2.2 5B": wan.CLIPS_OF_5B, "LTX-2.3": ltxv.CLIPS}


def draw(name: str, prompt: dict) -> Image.Image:
    """A square picture. prompt: of the workflow, as client.to_prompt gives it."""
    canvas = Canvas(SIDE, SIDE, GROUND)
    title, below = words_of(name)
    canvas.text((EDGE, 22), title, INK, 42)
    for row, line in enumerate(wrap(below, 26, SIDE - 2 * EDGE)):
        canvas.text((EDGE, 78 + 32 * row), line, PALE, 26)
    stages, long = stages_of(prompt), windows_of(title, prompt)
    row = ROW - 12 if long else ROW
    for number, level in enumerate(presets.LEVELS):
        y = TOP + row * number
        own = level == value(prompt, "quality")
        high = row - APART_ROWS
        canvas.text((LEFT - 14, y + high / 2), level, INK if own else PALE, 24, "rm")
        cells(canvas, y, high, stages, presets.find(preset_of(name), level), prompt)
    for x, text in edges(stages, prompt):
        canvas.text((x, TOP - 30), text, PALE, 20)
    y = TOP + row * len(presets.LEVELS)
    if long:
        y = drawn_windows(canvas, y + 4, *long)
    legend(canvas, y + 14)
    canvas.text((EDGE, SIDE - 40), "what Faster computes in each step; no render", PALE, 20)
    return canvas.picture()


def words_of(name: str) -> tuple[str, str]:
    """The model and what the workflow does with it."""
    at = min(name.index(word) for word in APART if word in name)
    return name[:at], name[at + 1 :]


def preset_of(name: str) -> str:
    """The model that presets know, by the longest beginning of the name."""
    known = (model for row in presets.TABLE for model in row.models)
    return max((model for model in known if name.startswith(model)), key=len)


def value(prompt: dict, name: str, kind: str = ""):
    """The first input of that name, of a node whose type begins with `kind`; what a link leads to, None for none."""
    for node in prompt.values():
        found = node["inputs"].get(name)
        if found is not None and node["class_type"].startswith(kind):
            return prompt[found[0]]["inputs"].get("value") if isinstance(found, list) else found
    return None


def stages_of(prompt: dict) -> list[list[float]]:
    """Where each step begins, 0 to 1 of the noise schedule, in each stage."""
    own = [n["inputs"]["sigmas"] for n in prompt.values() if n["class_type"] == "ManualSigmas"]
    if own:
        return [[begin_of(float(sigma)) for sigma in text.split(",")[:-1]] for text in own]
    steps = value(prompt, "steps", "VideoAttention") or value(prompt, "steps")
    begins = [step / steps for step in range(steps)]
    boundary, shift = value(prompt, "boundary", "VideoAttentionTwoStage"), value(prompt, "shift", "ModelSamplingSD3")
    if boundary is None or shift is None:
        return [begins]
    first = sum(shift * (1 - b) / (1 + (shift - 1) * (1 - b)) >= boundary for b in begins)
    return [begins[:first], begins[first:]]


def begin_of(sigma: float) -> float:
    """What part of LTX's noise schedule is done at a noise level."""
    return 1 - sigma / (LTX_SHIFT - sigma * (LTX_SHIFT - 1))


def cells(canvas: Canvas, y: float, high: float, stages: list, preset: Preset, prompt: dict) -> None:
    """A box for each step of one level."""
    for x, wide, begin, forecast in steps_of(stages, preset, prompt):
        colour, choice = DENSE, preset.pattern
        if choice is not None and choice.start <= begin < choice.end:
            part = (begin - choice.start) / (choice.end - choice.start)
            kept = choice.percentages
            colour = mix(SPARSE, GROUND, 0.35 + 0.65 * (1 - kept[min(int(part * len(kept)), len(kept) - 1)] / 100))
        if forecast:
            canvas.box((x, y + high * 0.7, x + wide, y + high), FORECAST, 2)
        else:
            canvas.box((x, y, x + wide, y + high), colour, 2)


def steps_of(stages: list, preset: Preset, prompt: dict):
    """(left, width, begin, whether it may be forecast) of each step, the stages beside each other."""
    count = sum(map(len, stages))
    whole = SIDE - EDGE - LEFT - GAP * (len(stages) - 1)
    x = float(LEFT)
    for begins in stages:
        skipped = may_be_forecast(len(begins), preset, prompt)
        for begin, forecast in zip(begins, skipped, strict=True):
            yield x, whole / count - 3, begin, forecast
            x += whole / count
        x += GAP


def may_be_forecast(steps: int, preset: Preset, prompt: dict) -> list[bool]:
    """Which steps are forecast where every forecast keeps the bound."""
    if preset.forecast is None:
        return [False] * steps
    most = SAMPLERS.get(value(prompt, "sampler_name") or "euler")
    schedule, found = StepSchedule([preset.forecast] * steps, most), []
    for step in range(steps):
        found.append(schedule.forecasts(step))
        if found[-1]:
            schedule.note_forecast()
        else:
            schedule.note_computed(0.0)
    return found


def edges(stages: list, prompt: dict) -> list[tuple[float, str]]:
    """What stands over the first step of each stage or expert."""
    if len(stages) == 1:
        return [(LEFT, f"{len(stages[0])} steps")]
    first = LEFT + GAP + len(stages[0]) / sum(map(len, stages)) * (SIDE - EDGE - LEFT - GAP)
    sizes = any(node["class_type"] == "ManualSigmas" for node in prompt.values())
    names = ("half the size", "all of it") if sizes else ("high noise", "low noise")
    return list(zip((LEFT, first), names, strict=True))


def windows_of(title: str, prompt: dict) -> tuple | None:
    """(spans, latent frames, seconds) of a long clip's windows; None of others."""
    if value(prompt, "method", "VideoAttentionLongSampler") is None:
        return None
    clips = CLIPS[title]
    pictures = next(
        n["inputs"].get("length") for n in prompt.values() if isinstance(n["inputs"].get("length"), (int, list))
    )
    pictures = prompt[pictures[0]]["inputs"]["value"] if isinstance(pictures, list) else pictures
    frames, window = (lengths.latent_frames(n, clips.ratio) for n in (pictures, clips.count(clips.rate)))
    spans, done = [], 0
    while done < frames:
        spans.append(windows.next_span(done, frames, window, max(1, round(window / 4))))
        done = spans[-1][1]
    return spans, frames, pictures / clips.rate


def drawn_windows(canvas: Canvas, y: float, spans: list, frames: int, seconds: float) -> float:
    """The windows over the clip; returns where they end."""
    whole = SIDE - EDGE - LEFT
    canvas.text((LEFT - 14, y + 20), f"{seconds:.0f} s", INK, 24, "rm")
    for number, (first, end) in enumerate(spans):
        top = y + 22 * (number % 2)
        canvas.box((LEFT + whole * first / frames, top, LEFT + whole * end / frames - 2, top + 18), INK, 3)
    return y + 44


def legend(canvas: Canvas, y: float) -> None:
    x = EDGE
    for text, colour in (("dense", DENSE), ("sparse", SPARSE), ("forecast at best", FORECAST)):
        canvas.box((x, y + 4, x + 20, y + 24), colour, 3)
        canvas.text((x + 28, y + 2), text, INK, 22)
        x += 28 + length(text, 22) + 24
