"""Makes clips longer than a demo model was trained for in several ways, and measures their joints, way and repeats.

    python scripts/evaluate_long.py [--model scenes|small] [--prompts 3] [--overlap N] [--rate N] [--steps N]
                                    [--threads 2]

The models were trained on shapes that cross the frame in their own length, and no shape can cross it several times
over: with the frame rate of the prompt (LTXVConditioning) as many times as high it moves that much slower. Windows of
scenes keep the model's own rate, 25: to that model a window's two ends are those of the clip. Each prompt is sampled in
one window of the model's own length; longer, twice for scenes and four times for the small model, by both methods of
Video Attention Long Video Sampler; and all at once: densely, by Long Video Sparse Attention, and with RIFLEx, which
says that it cannot. Writes output/long/table.md and long.png: a row for each clip of blend and extend, a picture for
each latent frame. Half an hour of one CPU core.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import demo_model, host_paths

RESULTS = ROOT / "output" / "long"
EACH = 8  # pictures in a latent frame
SIDE, GAP = 60, 2


@dataclass(frozen=True)
class Long:
    """How a demo model is asked for long clips.

    trained: latent frames it was trained on. times: as many times as long. overlap: latent frames that windows share.
    rate, whole_rate: of the prompt, in windows and all at once; both models were trained with 25. words: of the
    prompts, if they are not the testbed's own.
    """

    trained: int
    times: int
    overlap: int
    rate: float
    whole_rate: float
    words: tuple[tuple[str, ...], ...] = ()

    @property
    def frames(self) -> int:
        return self.trained * self.times


LONG = {
    "scenes": Long(trained=16, times=2, overlap=8, rate=25.0, whole_rate=50.0),
    "small": Long(
        trained=8, times=4, overlap=4, rate=100.0, whole_rate=100.0,
        words=(
            ("red", "disc", "right"), ("blue", "square", "down"), ("green", "disc", "up-left"),
            ("white", "ring", "left"),
        ),
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    demo_model.add_model(parser)
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--overlap", type=int, help="latent frames that windows share")
    parser.add_argument("--rate", type=float, help="frame rate of the prompt; it was trained with 25")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.testbed, options.long = demo_model.TESTBEDS[options.model], LONG[options.model]
    options.steps = options.steps or options.testbed.asked.steps
    options.overlap = options.long.overlap if options.overlap is None else options.overlap
    options.out = RESULTS / "table.md"
    RESULTS.mkdir(parents=True, exist_ok=True)
    demo_model.run(options, lambda: to_table(evaluate(options)))


AT_ONCE, SPARSE = "at once, dense", "at once, long video"


def long_video(model, trained: int):
    """As many frames as the model was trained with, from the first step on, whatever the size."""
    node = host_paths.ours("pattern").VideoAttentionPattern
    pattern = {"pattern": "long video", "time": float(trained), "window": 50.0, "first_frame": True}
    values = {**defaults_of(node), "start_percent": 0.0, "min_tokens": 0}
    return node.execute(model, **{**values, "pattern": pattern}).args[0]


def riflex(model):
    node = host_paths.ours("guidance").VideoAttentionRiflex
    return node.execute(model, **defaults_of(node)).args[0]


def kinds_of(long: Long) -> dict:
    """Name -> latent frames, frame rate, widgets of the sampler, what is done to the model before."""
    whole = long.frames, long.whole_rate, {"window": float(long.frames), "overlap": 0.0}
    return {
        "one window": (long.trained, long.rate, {}, lambda model: model),
        "blend": (long.frames, long.rate, {"method": "blend"}, lambda model: model),
        "extend": (long.frames, long.rate, {"method": "extend"}, lambda model: model),
        AT_ONCE: (*whole, lambda model: model),
        SPARSE: (*whole, lambda model: long_video(model, long.trained)),
        "at once, RIFLEx": (*whole, riflex),
    }


def evaluate(options) -> list[tuple]:
    """(words, what it is, clip (F, H, W, 3), the node's report, what was measured) of each run; clip and figures are
    None where a node refuses."""
    testbed, long = options.testbed, options.long
    model, found = testbed.load(), []
    widgets = {"unit": "latent frames", "window": float(long.trained), "overlap": float(options.overlap)}
    for words in (long.words or (testbed.calibrated, *testbed.unseen(None)))[: options.prompts]:
        for name, (frames, rate, more, prepare) in kinds_of(long).items():
            begun, clip, figures = time.monotonic(), None, None
            try:
                given = {**widgets, **more}
                samples, text = sampled(prepare(model), words, frames, options.rate or rate, options, given)
            except ValueError as refused:
                text = str(refused)
            else:
                clip = testbed.decode(samples)[0]
                # The overlaps of blend are joints over nearly all of the clip.
                joints = [int(frame) for frame in re.findall(r"at (\d+): \d", text)] if name == "extend" else []
                figures = measure(clip, joints, testbed, words)
            found.append((words, name, clip, text, figures))
            (RESULTS / "table.md").write_text(to_table(found))
            print(f"{' '.join(words)}, {name}: {time.monotonic() - begun:.0f} s\n{text}\n", flush=True)
    for file, names in (("long.png", ("blend", "extend")), ("at_once.png", (AT_ONCE, SPARSE))):
        draw([clip for _, name, clip, *_ in found if name in names], RESULTS / file)
    return found


def sampled(model, words: tuple[str, ...], frames: int, rate: float, options, widgets: dict) -> tuple:
    """The latent of a clip, and the node's report."""
    import node_helpers
    import torch

    node, shape = host_paths.ours("long_sampler").VideoAttentionLongSampler, options.testbed.shape
    prompts = options.testbed.prompts_of(words)
    positive, negative = (node_helpers.conditioning_set_values(p, {"frame_rate": rate}) for p in prompts)
    values = {**defaults_of(node), "cfg": 1.0, "seed": 1, "scheduler_name": "simple", "steps": options.steps}
    latent = {"samples": torch.zeros(*shape[:2], frames, *shape[3:])}
    out, *_, text = node.execute(model, positive, negative, latent, **{**values, **widgets}).args
    return out["samples"], text


def defaults_of(node) -> dict:
    """The widgets of a node as they come."""
    known = {i.id: getattr(i, "default", None) for i in node.GET_SCHEMA().inputs if hasattr(i, "default")}
    first = {i.id: i.options[0] for i in node.GET_SCHEMA().inputs if getattr(i, "options", None)}
    return {**{name: value for name, value in known.items() if value is not None}, **{
        name: value for name, value in first.items() if known.get(name) is None and isinstance(value, str)
    }}  # fmt: skip


def measure(clip, joints: list[int], testbed, words: tuple[str, ...]) -> dict:
    """Of a clip (F, H, W, 3). Everything is about the steps from one latent frame to the next, where a seam would be.

    joints: latent frames whose step from the one before is a joint; empty: every step counts as one. seam: the largest
    change at a joint, mean absolute difference of pixels, over the median change of the other steps. other: the
    largest change of those over the same. way: of the first shape's centre from the first picture to the last that show
    it, in pixels. path: all that it moved. frozen, loop: as of Video Attention Temporal Metrics, of a picture for each
    latent frame. right: whether the clip shows what the prompt says.
    """
    import torch

    from attention.measure.temporal import measure_clip

    change = (clip[1:] - clip[:-1]).abs().mean((1, 2, 3))[EACH - 1 :: EACH]
    at = torch.zeros(len(change), dtype=torch.bool)
    at[[joint - 1 for joint in joints]] = True
    others = change[~at]
    pictures = clip[EACH // 2 :: EACH]
    places = torch.stack(testbed.find_places(torch.cat([clip[:1], pictures, clip[-1:]]), words), 1) * clip.shape[1]
    usual = float(others.median())
    worst, found = float(change[at].max() if joints else change.max()), measure_clip(pictures)
    return {
        "seam": worst / usual, "other": float(others.max()) / usual, "frozen": found.frozen, "loop": found.loop,
        "way": float((places[-1:] - places[:1]).norm()), "path": float(places.diff(dim=0).norm(dim=1).sum()),
        "right": testbed.is_right(clip, words),
    }  # fmt: skip


def to_table(found: list[tuple]) -> str:
    """A line for each clip, and the worst seam of each kind."""
    columns = "prompt", "clip", "joint", "other steps", "way", "path", "frozen", "loop", "right"
    lines, worst = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)], {}
    for words, name, _, text, of in found:
        prompt = " ".join(words)
        if of is None:
            lines.append(f"| {prompt} | {name} | refused: {text} | | | | | | |")
            continue
        worst[name] = max(worst.get(name, 0.0), of["seam"])
        lines.append(
            f"| {prompt} | {name} | {of['seam']:.2f} | {of['other']:.2f} | {of['way']:.0f} px | {of['path']:.0f} px | "
            f"{of['frozen']:.0%} | {of['loop']:.0%} | {'yes' if of['right'] else 'no'} |"
        )
    ends = ", ".join(f"{name} {ratio:.2f}" for name, ratio in worst.items())
    return "\n".join([*lines, "", f"Largest seam: {ends}."]) + "\n"


def draw(clips: list, path: Path) -> None:
    """A row for each clip, the middle picture of each latent frame."""
    import torch
    from PIL import Image

    rows = []
    for clip in clips:
        small = torch.nn.functional.interpolate(clip[EACH // 2 :: EACH].movedim(-1, 1), (SIDE, SIDE), mode="area")
        small = torch.nn.functional.pad(small, (GAP,) * 4, value=1.0).movedim(1, -1)
        rows += [half.permute(1, 0, 2, 3).flatten(1, 2) for half in small.split(16)]
    Image.fromarray((torch.cat(rows) * 255).round().byte().numpy()).save(path)


if __name__ == "__main__":
    main()
