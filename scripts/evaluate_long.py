"""Makes clips of 4 times the demo model's length in several ways, and measures their joints, way and repeats.

    python scripts/evaluate_long.py [--prompts 3] [--overlap 4] [--rate 100] [--steps 20] [--threads 2]

The model was trained on shapes that cross the frame in its own length, and no shape can cross it four times over: with
the frame rate of the prompt (LTXVConditioning) four times as high it moves a quarter as fast. Each prompt is sampled in
one window of the model's own length; four times as long by both methods of Video Attention Long Video Sampler; and all
at once: densely, by Long Video Sparse Attention, and with RIFLEx, which says that it cannot. Writes
output/long/table.md and long.png: a row for each clip of blend and extend, a picture for each latent frame. About ten
minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import demo_model, host_paths

RESULTS = ROOT / "output" / "long"
# Latent frames that the model was trained on, and pictures in one of them.
TRAINED, EACH, TIMES = 8, 8, 4
SIDE, GAP = 60, 2
PROMPTS = (
    ("red", "disc", "right"),
    ("blue", "square", "down"),
    ("green", "disc", "up-left"),
    ("white", "ring", "left"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=3, help=f"how many, at most {len(PROMPTS)}")
    parser.add_argument("--overlap", type=int, default=4, help="latent frames that windows share")
    parser.add_argument("--rate", type=float, default=100.0, help="frame rate of the prompt; it was trained with 25")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.out = RESULTS / "table.md"
    RESULTS.mkdir(parents=True, exist_ok=True)
    demo_model.run(options, lambda: to_table(evaluate(options)))


AT_ONCE, SPARSE = "at once, dense", "at once, long video"
WHOLE = {"window": float(TIMES * TRAINED), "overlap": 0.0}


def long_video(model):
    """All frames that the model was trained with, from the first step on, whatever the size."""
    node = host_paths.ours("pattern").VideoAttentionPattern
    pattern = {"pattern": "long video", "time": float(TRAINED), "window": 50.0, "first_frame": True}
    values = {**defaults_of(node), "start_percent": 0.0, "min_tokens": 0}
    return node.execute(model, **{**values, "pattern": pattern}).args[0]


def riflex(model):
    node = host_paths.ours("guidance").VideoAttentionRiflex
    return node.execute(model, **defaults_of(node)).args[0]


# What is made: latent frames, widgets of the sampler, what is done to the model before.
KINDS = {
    "one window": (TRAINED, {}, lambda model: model),
    "blend": (TIMES * TRAINED, {"method": "blend"}, lambda model: model),
    "extend": (TIMES * TRAINED, {"method": "extend"}, lambda model: model),
    AT_ONCE: (TIMES * TRAINED, WHOLE, lambda model: model),
    SPARSE: (TIMES * TRAINED, WHOLE, long_video),
    "at once, RIFLEx": (TIMES * TRAINED, WHOLE, riflex),
}


def evaluate(options) -> list[tuple]:
    """(prompt, what it is, clip (F, H, W, 3), the node's report) of each run; clip None where a node refuses."""
    from attention.demo import codec

    model, found = demo_model.TESTBEDS["small"].load(), []
    widgets = {"unit": "latent frames", "window": float(TRAINED), "overlap": float(options.overlap)}
    for words in PROMPTS[: options.prompts]:
        for name, (frames, more, prepare) in KINDS.items():
            begun, clip = time.monotonic(), None
            try:
                samples, text = sampled(prepare(model), words, frames, options, {**widgets, **more})
                clip = codec.decode(samples)[0]
            except ValueError as refused:
                text = str(refused)
            found.append((" ".join(words), name, clip, text))
            (RESULTS / "table.md").write_text(to_table(found))
            print(f"{' '.join(words)}, {name}: {time.monotonic() - begun:.0f} s\n{text}\n", flush=True)
    for file, names in (("long.png", ("blend", "extend")), ("at_once.png", (AT_ONCE, SPARSE))):
        draw([clip for _, name, clip, _ in found if name in names], RESULTS / file)
    return found


def sampled(model, words: tuple[str, str, str], frames: int, options, widgets: dict) -> tuple:
    """The latent of a clip of 256 x 256 pixels, and the node's report."""
    import node_helpers
    import torch

    node = host_paths.ours("long_sampler").VideoAttentionLongSampler
    prompts = host_paths.ours("demo").VideoAttentionDemoPrompt.execute(*words).args
    positive, negative = (node_helpers.conditioning_set_values(p, {"frame_rate": options.rate}) for p in prompts)
    values = {**defaults_of(node), "cfg": 1.0, "seed": 1, "scheduler_name": "simple", "steps": options.steps}
    latent = {"samples": torch.zeros(1, 128, frames, 8, 8)}
    out, *_, text = node.execute(model, positive, negative, latent, **{**values, **widgets}).args
    return out["samples"], text


def defaults_of(node) -> dict:
    """The widgets of a node as they come."""
    known = {i.id: getattr(i, "default", None) for i in node.GET_SCHEMA().inputs if hasattr(i, "default")}
    first = {i.id: i.options[0] for i in node.GET_SCHEMA().inputs if getattr(i, "options", None)}
    return {**{name: value for name, value in known.items() if value is not None}, **{
        name: value for name, value in first.items() if known.get(name) is None and isinstance(value, str)
    }}  # fmt: skip


def measure(clip, joints: list[int]) -> dict:
    """Of a clip (F, H, W, 3). Everything is about the steps from one latent frame to the next, where a seam would be.

    joints: latent frames whose step from the one before is a joint; empty: every step counts as one. seam: the largest
    change at a joint, mean absolute difference of pixels, over the median change of the other steps. other: the
    largest change of those over the same. way: of the shape's centre from the first picture to the last, in pixels.
    path: all that it moved. frozen, loop: as of Video Attention Temporal Metrics, of a picture for each latent frame.
    """
    import torch
    from evaluate_demo import find_shape

    from attention.measure.temporal import measure_clip

    change = (clip[1:] - clip[:-1]).abs().mean((1, 2, 3))[EACH - 1 :: EACH]
    at = torch.zeros(len(change), dtype=torch.bool)
    at[[joint - 1 for joint in joints]] = True
    others = change[~at]
    pictures = clip[EACH // 2 :: EACH]
    _, rows, columns = find_shape(torch.cat([clip[:1], pictures, clip[-1:]]))
    places = torch.stack([rows, columns], 1) * clip.shape[1]
    usual = float(others.median())
    worst, found = float(change[at].max() if joints else change.max()), measure_clip(pictures)
    return {
        "seam": worst / usual, "other": float(others.max()) / usual, "frozen": found.frozen, "loop": found.loop,
        "way": float((places[-1] - places[0]).norm()), "path": float(places.diff(dim=0).norm(dim=1).sum()),
    }  # fmt: skip


def to_table(found: list[tuple]) -> str:
    """A line for each clip, and the worst seam of each kind."""
    lines, worst = ["| prompt | clip | joint | other steps | way | path | frozen | loop |", "|" + "---|" * 8], {}
    for words, name, clip, text in found:
        if clip is None:
            lines.append(f"| {words} | {name} | refused: {text} | | | | | |")
            continue
        # The overlaps of blend are joints over nearly all of the clip.
        joints = [int(frame) for frame in re.findall(r"at (\d+): \d", text)] if name == "extend" else []
        of = measure(clip, joints)
        worst[name] = max(worst.get(name, 0.0), of["seam"])
        lines.append(
            f"| {words} | {name} | {of['seam']:.2f} | {of['other']:.2f} | {of['way']:.0f} px | {of['path']:.0f} px | "
            f"{of['frozen']:.0%} | {of['loop']:.0%} |"
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
        rows += [small[half].permute(1, 0, 2, 3).flatten(1, 2) for half in (slice(0, 16), slice(16, 32))]
    Image.fromarray((torch.cat(rows) * 255).round().byte().numpy()).save(path)


if __name__ == "__main__":
    main()
