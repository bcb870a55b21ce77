"""Makes the thumbnails of the demo model's workflows: runs them and shows what came out, moving where it moves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import client
import host
from PIL import Image, ImageSequence
from planned_pictures import EDGE, GROUND, INK, PALE, SIDE, SPARSE

sys.path.insert(0, str(host.ROOT))

from attention.core.canvas import Canvas, wrap

# What is looked at beside what the workflow shows: a node's type -> its output.
LOOKED_AT = {"VideoAttentionMaps": "heat", "VideoAttentionCalibrate": "picture"}
MOST = 300 << 10


@dataclass(frozen=True)
class Moving:
    """A picture, or several that follow each other."""

    frames: list[Image.Image]
    milliseconds: int = 80

    def save(self, file: Path) -> None:
        """As small as it must be: what a page loads for a list of templates."""
        if len(self.frames) == 1:
            self.frames[0].save(file, "JPEG", quality=88, optimize=True)
            return
        first, *others = self.frames
        for quality in (80, 65, 50, 35, 20):
            how = {"save_all": True, "duration": self.milliseconds, "loop": 0, "quality": quality, "method": 6}
            first.save(file, "WEBP", append_images=others, **how)
            if file.stat().st_size <= MOST:
                return
        raise host.SetUpError(f"{file.name} takes {file.stat().st_size} bytes, more than {MOST}: fewer frames.")


@dataclass(frozen=True)
class Found:
    """What a run of a workflow gave. outputs: node -> what it showed; folder: of the server."""

    workflow: dict
    outputs: dict
    folder: Path

    def nodes(self, kind: str) -> list[dict]:
        """What nodes of a type gave, in order."""
        return [self.outputs[str(n["id"])] for n in self.workflow["nodes"] if n["type"] == kind]

    def clip(self, number: int = 0, every: int = 2) -> list[Image.Image]:
        """Frames of a saved clip."""
        (file,) = client.files({"clip": self.nodes("SaveAnimatedWEBP")[number]}, self.folder)
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(Image.open(file))][::every]

    def shown(self, kind: str) -> list[Image.Image]:
        """What a node of LOOKED_AT gave."""
        return [Image.open(file).convert("RGB") for file in client.files({"all": self.outputs[kind]}, self.folder)]


def draw(name: str, workflow: dict, server: client.Client, info: dict, folder: Path) -> Moving:
    """Run a workflow as it is and draw what it gave."""
    prompt = client.to_prompt(workflow, info)
    for key, node in list(prompt.items()):
        kind = node["class_type"]
        if kind in LOOKED_AT:
            slot = info[kind]["output_name"].index(LOOKED_AT[kind])
            prompt[kind] = {"class_type": "PreviewImage", "inputs": {"images": [key, slot]}}
    return PICTURES[name](Found(workflow, server.run(prompt), folder))


def fitted(picture: Image.Image, side: int) -> Image.Image:
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def captioned(picture: Image.Image, text: str) -> Image.Image:
    """A line on a dark band at the bottom."""
    canvas = Canvas.over(picture)
    canvas.box((0, SIDE - 56, SIDE, SIDE), GROUND)
    canvas.text((SIDE / 2, SIDE - 28), text, INK, 28, "mm")
    return canvas.picture()


def demo(found: Found) -> Moving:
    return Moving([captioned(fitted(frame, SIDE), "no download, no GPU") for frame in found.clip()])


def beside(found: Found, names: tuple[str, str], lines: list[str], every: int = 2) -> Moving:
    """A and B, and what was measured of them."""
    side, frames = 240, []
    for a, b in zip(found.clip(0, every), found.clip(1, every), strict=True):
        canvas = Canvas(SIDE, SIDE, GROUND)
        for x, name, one in ((10, names[0], a), (SIDE - 10 - side, names[1], b)):
            canvas.text((x + side / 2, 60), name, INK, 28, "mm")
            canvas.paste(fitted(one, side), (x, 92))
        y = 364
        for number, line in enumerate(lines):
            for part in wrap(line, 28, SIDE - 2 * EDGE):
                canvas.text((SIDE / 2, y), part, INK if number == 0 else PALE, 28, "ma")
                y += 36
            y += 8
        frames.append(canvas.picture())
    return Moving(frames)


def compare(found: Found) -> Moving:
    return beside(found, ("A: dense", "B: sparse"), [decibels(found), "B sees its neighbours in time alone"])


def worth(found: Found) -> Moving:
    told = found.nodes("VideoAttentionReport")[1]["report"][0]
    computed = told["steps"] - told["evaluations_forecast"]
    lines = [decibels(found), f"B computes {computed} of {told['steps']} steps"]
    return beside(found, ("A: as it is", "B: faster"), lines)


def scenes(found: Found) -> Moving:
    return beside(found, ("A: all tokens", "B: own frame"), [decibels(found), "2,304 tokens"], 4)


def decibels(found: Found) -> str:
    """How near B is to A."""
    return f"{found.nodes('VideoAttentionCompare')[0]['figures'][0]['PSNR']:.1f} dB between them"


def long_video(found: Found) -> Moving:
    told, frames = found.nodes("VideoAttentionLongSampler")[0]["windows"][0], []
    clip, side = found.clip(every=5), 372
    for number, frame in enumerate(clip):
        canvas = Canvas(SIDE, SIDE, GROUND)
        canvas.paste(fitted(frame, side), ((SIDE - side) // 2, 12))
        whole = SIDE - 2 * EDGE
        for at, (first, end) in enumerate(told["spans"]):
            top, left, right = 400 + 24 * (at % 2), *(EDGE + whole * edge / told["frames"] for edge in (first, end))
            canvas.box((left, top, right - 2, top + 20), SPARSE, 3)
        x = EDGE + whole * number / len(clip)
        canvas.box((x, 394, x + 3, 450), INK)
        text = f"{len(told['spans'])} windows of {told['spans'][0][1]} latent frames"
        canvas.text((SIDE / 2, 462), text, INK, 28, "ma")
        frames.append(canvas.picture())
    return Moving(frames, 120)


def inside(found: Found) -> Moving:
    return Moving([fitted(picture, SIDE) for picture in found.shown("VideoAttentionMaps")], 160)


def learn(found: Found) -> Moving:
    """A beside B, and below where A looks at that time."""
    heat, frames = found.shown("VideoAttentionMaps"), []
    side = 236
    for number, (a, b) in enumerate(zip(found.clip(0, 8), found.clip(1, 8), strict=True)):
        canvas = Canvas(SIDE, SIDE, GROUND)
        for x, y, one in ((10, 10, a), (SIDE - 10 - side, 10, b)):
            canvas.paste(fitted(one, side), (x, y))
        look = heat[min(number, len(heat) - 1)]
        look = look.crop((0, 0, look.width, look.width))
        canvas.paste(fitted(look, side), (10, SIDE - 10 - side))
        for line, words in enumerate(("above: as trained,", "inside each frame", "left: where", "a token looks")):
            canvas.text((SIDE - 10 - side + 6, SIDE - side + 24 + 44 * line + 16 * (line > 1)), words, INK, 26)
        frames.append(canvas.picture())
    return Moving(frames, 240)


def calibrate(found: Found) -> Moving:
    """What was tried, and the clip by the plan."""
    plan = found.nodes("VideoAttentionCalibrate")[0]["plan"][0]
    chart = found.shown("VideoAttentionCalibrate")[0]
    wide = SIDE * chart.height // chart.width
    chart, side, frames = chart.resize((SIDE, wide), Image.Resampling.LANCZOS), 240, []
    for frame in found.clip():
        canvas = Canvas(SIDE, SIDE, GROUND)
        canvas.paste(chart.crop((0, 0, SIDE, SIDE - side)), (0, 0))
        canvas.paste(fitted(frame, side), (0, SIDE - side))
        gain = plan["whole_exact_seconds"] / plan["whole_seconds"]
        for number, line in enumerate(("the plan:", f"{gain:.2f} times", "as fast,", f"error {plan['realised']:.3f}")):
            canvas.text((side + EDGE, SIDE - side + 44 + 42 * number), line, INK, 30)
        frames.append(canvas.picture())
    return Moving(frames)


PICTURES: dict[str, Callable[[Found], Moving]] = {
    "Video attention demo": demo,
    "Is it worth it": worth,
    "Compare attention, A against B": compare,
    "Calibrate and share a plan": calibrate,
    "Long video": long_video,
    "Inside a model": inside,
    "Learn attention in video": learn,
    "Two shapes": scenes,
}
