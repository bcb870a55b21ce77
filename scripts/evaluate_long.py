"""Makes clips of 4 times the demo model's length in several ways, and measures their joints, way and repeats.

    python scripts/evaluate_long.py [--prompts 3] [--overlap 4] [--rate 100] [--steps 20] [--comfyui PATH]

The model was trained on shapes that cross the frame in its own length, and no shape can cross it four times over: with
the frame rate of the prompt (LTXVConditioning) four times as high it moves a quarter as fast. Each prompt is sampled in
one window of the model's own length; four times as long by both methods of Video Attention Long Video Sampler; and all
at once: densely, by Long Video Sparse Attention, and with RIFLEx, which says that it cannot. Writes
output/long/table.md and long.png: a row for each clip of blend and extend, a picture for each latent frame. About ten
minutes on two CPU cores.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import host

RESULTS = host.ROOT / "output" / "long"
# Latent frames that the model was trained on, and pictures in one of them.
TRAINED, EACH, TIMES = 8, 8, 4
SIDE, GAP = 60, 2
PROMPTS = (
    ("red", "disc", "right"),
    ("blue", "square", "down"),
    ("green", "disc", "up-left"),
    ("white", "ring", "left"),
)


def main() -> int:
    parser = host.parser(__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=3, help=f"how many, at most {len(PROMPTS)}")
    parser.add_argument("--overlap", type=int, default=4, help="latent frames that windows share")
    parser.add_argument("--rate", type=float, default=100.0, help="frame rate of the prompt; it was trained with 25")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    folder = host.enter_environment(options.comfyui, "evaluate_long.py")
    sys.path.insert(0, str(host.ROOT))
    RESULTS.mkdir(parents=True, exist_ok=True)
    with host.serve(folder, host.HOME / "long") as address:
        found = evaluate(address, options)
    table = to_table(found)
    draw([clip for _, name, clip, _ in found if name in ("blend", "extend")], RESULTS / "long.png")
    draw([clip for _, name, clip, _ in found if name in (AT_ONCE, SPARSE)], RESULTS / "at_once.png")
    host.say(f"\n{table}\n{RESULTS / 'long.png'}")
    return 0


AT_ONCE, SPARSE = "at once, dense", "at once, long video"
WHOLE = {"window": TIMES * TRAINED, "overlap": 0}
# All frames that the model was trained with; from the first step on, whatever the size.
PATTERN = {
    "pattern": "long video", "pattern.time": float(TRAINED), "pattern.window": 50.0, "pattern.first_frame": True,
    "start_percent": 0.0, "min_tokens": 0,
}  # fmt: skip
# What is made: latent frames, widgets of the sampler, a node before it with its widgets.
KINDS = {
    "one window": (TRAINED, {}, None),
    "blend": (TIMES * TRAINED, {"method": "blend"}, None),
    "extend": (TIMES * TRAINED, {"method": "extend"}, None),
    AT_ONCE: (TIMES * TRAINED, WHOLE, None),
    SPARSE: (TIMES * TRAINED, WHOLE, ("VideoAttentionPattern", PATTERN)),
    "at once, RIFLEx": (TIMES * TRAINED, WHOLE, ("VideoAttentionRiflex", {})),
}


def evaluate(address: str, options) -> list[tuple]:
    """(prompt, what it is, clip (F, H, W, 3), the node's report) of each run; clip None where a node refuses."""
    import client

    comfy, found = client.Client(address), []
    info = comfy.object_info()
    widgets = {"unit": "latent frames", "window": TRAINED, "overlap": options.overlap, "steps": options.steps}
    for words in PROMPTS[: options.prompts]:
        for name, (frames, more, before) in KINDS.items():
            begun, clip = time.monotonic(), None
            prompt = graph(info, words, frames, options.rate, {**widgets, **more}, before)
            try:
                outputs = comfy.run(prompt)
                text, clip = "\n".join(outputs["4"]["text"]), decode(outputs)
            except client.RunFailed as refused:
                text = str(refused)
            found.append((" ".join(words), name, clip, text))
            (RESULTS / "table.md").write_text(to_table(found))
            host.say(f"{' '.join(words)}, {name}: {time.monotonic() - begun:.0f} s\n{text}\n")
    return found


def defaults_of(info: dict, kind: str) -> dict:
    known = info[kind]["input"]["required"]
    plain = {name: spec[1] for name, spec in known.items() if len(spec) > 1 and "COMFY" not in str(spec[0])}
    return {name: of.get("default", of.get("options", [None])[0]) for name, of in plain.items() if name != "model"}


def graph(info: dict, words: tuple[str, str, str], frames: int, rate: float, widgets: dict, before=None) -> dict:
    """A prompt; before: (node, its widgets) that stands before the sampler."""
    sampler, between = "VideoAttentionLongSampler", {}
    known = info[sampler]["input"]["required"]
    defaults = {name: spec[1]["default"] for name, spec in known.items() if "default" in spec[1]}
    if before is not None:
        values = {**defaults_of(info, before[0]), **before[1], "model": ["1", 0]}
        between = {"7": {"class_type": before[0], "inputs": values}}
    links = {"model": ["7" if between else "1", 0], "positive": ["6", 0], "negative": ["6", 1], "latent": ["3", 0]}
    settings = {"cfg": 1.0, "seed": 1, "scheduler_name": "simple"}
    size = {"width": 256, "height": 256, "length": (frames - 1) * EACH + 1, "batch_size": 1}
    model = {"unet_name": "video-attention-demo.safetensors", "weight_dtype": "default"}
    return {
        **between,
        "1": {"class_type": "UNETLoader", "inputs": model},
        "2": {
            "class_type": "VideoAttentionDemoPrompt",
            "inputs": dict(zip(("colour", "shape", "direction"), words, strict=True)),
        },
        "3": {"class_type": "EmptyLTXVLatentVideo", "inputs": size},
        "4": {"class_type": sampler, "inputs": {**defaults, **settings, **widgets, **links}},
        "6": {
            "class_type": "LTXVConditioning",
            "inputs": {"positive": ["2", 0], "negative": ["2", 1], "frame_rate": rate},
        },
        "5": {"class_type": "SaveLatent", "inputs": {"samples": ["4", 0], "filename_prefix": "long"}},
    }


def decode(outputs: dict):
    from safetensors.torch import load_file

    from attention.demo import codec

    saved = next(o["latents"][0] for o in outputs.values() if "latents" in o)
    path = host.HOME / "long" / saved["type"] / saved["subfolder"] / saved["filename"]
    return codec.decode(load_file(path)["latent_tensor"])[0]


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
    host.main(main)
