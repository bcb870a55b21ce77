"""What a video model's evaluation costs against the clip's size: attention and all the rest, U-Net and transformer.

    python -m benchmarks.scaling [--out FILE] [--time] [--threads N]

Counts the multiplications and additions of one evaluation in ComfyUI's own classes at the real models' sizes, without
weights or memory (torch's meta device): Stable Video Diffusion's U-Net (arXiv:2311.15127) and LTX-Video's transformer
(arXiv:2501.00103). Attention is what queries times keys and weights times values take; linear layers in front of it and
behind it are the rest. `--time` also measures small models of the same classes here, with the transformer's attention
joint and factorised: each token sees its frame, then its place in all frames, and the mean of both is taken.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from . import host_paths

SLOT = "optimized_attention_override"
# Frames, rows and columns of the clips, in pixels, growing in size and then in length.
CLIPS = ((25, 256, 448), (25, 576, 1024), (25, 768, 1344), (49, 576, 1024), (97, 576, 1024), (257, 576, 1024))
# For small models: a U-Net has many more positions in a clip.
SMALL_CLIPS_SVD = ((25, 128, 128), (57, 128, 128), (121, 128, 128))
SMALL_CLIPS_LTX = ((121, 256, 256), (257, 256, 256), (257, 384, 384))
LTX = {
    "in_channels": 128, "cross_attention_dim": 2048, "attention_head_dim": 64, "num_attention_heads": 32,
    "caption_channels": 4096, "num_layers": 28,
}  # fmt: skip
SVD = {
    "image_size": 32, "in_channels": 8, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "num_head_channels": 64, "context_dim": 1024,
    "adm_in_channels": 768, "num_classes": "sequential", "use_spatial_transformer": True, "legacy": False,
    "use_linear_in_transformer": True, "use_temporal_attention": True, "use_temporal_resblock": True,
    "extra_ff_mix_layer": True, "use_spatial_context": True, "merge_strategy": "learned_with_images",
    "merge_factor": 0.0, "video_kernel_size": [3, 1, 1],
}  # fmt: skip
SMALL_LTX = {**LTX, "cross_attention_dim": 256, "num_attention_heads": 4, "caption_channels": 64, "num_layers": 4}
SMALL_SVD = {**SVD, "model_channels": 32, "num_head_channels": 16, "context_dim": 64, "adm_in_channels": 32}


@dataclass
class Attended:
    """The attention calls of one evaluation: (sequences, heads, queries, keys, channels of a head), and their time."""

    calls: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def operations(self) -> int:
        """Multiplications and additions: two products of two operations each."""
        return sum(4 * math.prod(call) for call in self.calls)

    def count(self, func, q, k, v, heads, *args, **kwargs) -> torch.Tensor:
        """Stand in the slot for a model without memory: write the call down, compute nothing."""
        self.write_down(q, k, heads, kwargs)
        return torch.empty_like(q)

    def clock(self, func, q, k, v, heads, *args, **kwargs) -> torch.Tensor:
        """Stand in the slot: write the call down with its processor time."""
        self.write_down(q, k, heads, kwargs)
        began = time.process_time()
        out = func(q, k, v, heads, *args, **kwargs)
        self.seconds += time.process_time() - began
        return out

    def write_down(self, q, k, heads: int, kwargs: dict) -> None:
        """Keep the call's sizes; the models of this benchmark call with (B, L, H * D)."""
        if kwargs.get("skip_reshape"):
            raise ValueError("this benchmark reads calls of three dims only")
        self.calls.append((q.shape[0], heads, q.shape[1], k.shape[1], q.shape[2] // heads))


def factorise(grid: tuple[int, int, int], attended: Attended) -> Callable:
    """What stands in the slot to attend within frames, then within places, for self-attention of T * Y * X tokens."""
    frames, places = grid[0], grid[1] * grid[2]

    def run(func, q, k, v, heads, *args, **kwargs):
        if q.shape[1] != k.shape[1]:
            return attended.clock(func, q, k, v, heads, *args, **kwargs)
        cut = [x.unflatten(1, (frames, places)) for x in (q, k, v)]
        inside = attended.clock(func, *(x.flatten(0, 1) for x in cut), heads, *args, **kwargs)
        across = attended.clock(func, *(x.transpose(1, 2).flatten(0, 1) for x in cut), heads, *args, **kwargs)
        inside = inside.unflatten(0, (-1, frames)).flatten(1, 2)
        return (inside + across.unflatten(0, (-1, places)).transpose(1, 2).flatten(1, 2)) / 2

    return run


def build_ltx(config: dict, device: str):
    """LTX-Video's transformer in the host's class."""
    import comfy.ops
    from comfy.ldm.lightricks.model import LTXVModel

    return LTXVModel(**config, dtype=torch.float32, device=device, operations=comfy.ops.disable_weight_init)


def build_svd(config: dict, device: str):
    """SVD's U-Net in the host's class."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    return UNetModel(**config, dtype=torch.float32, device=device, operations=comfy.ops.disable_weight_init)


def latent_of_ltx(clip) -> tuple[int, int, int]:
    """Tokens over time, rows and columns: one for 8 frames (the first alone) of 32 x 32 pixels."""
    return (clip[0] - 1) // 8 + 1, clip[1] // 32, clip[2] // 32


def latent_of_svd(clip) -> tuple[int, int, int]:
    """Latent frames, rows and columns: every frame, 8 x 8 pixels."""
    return clip[0], clip[1] // 8, clip[2] // 8


def run_ltx(model, config: dict, clip, device: str, options: dict) -> None:
    """One evaluation of a transformer, of a prompt of 128 tokens."""
    latent = torch.zeros(1, config["in_channels"], *latent_of_ltx(clip), device=device)
    context = torch.zeros(1, 128, config["caption_channels"], device=device)
    model(latent, torch.ones(1, device=device), context, None, transformer_options=options)


def run_svd(model, config: dict, clip, device: str, options: dict) -> None:
    """One evaluation of a U-Net, of a picture's one token in each frame."""
    frames, rows, columns = latent_of_svd(clip)
    latent = torch.zeros(frames, config["in_channels"], rows, columns, device=device)
    context = torch.zeros(frames, 1, config["context_dim"], device=device)
    more = {"y": torch.zeros(frames, config["adm_in_channels"], device=device), "num_video_frames": frames}
    more["image_only_indicator"] = torch.zeros(1, frames, device=device)
    model(latent, torch.ones(frames, device=device), context, transformer_options=options, **more)


@dataclass(frozen=True)
class Kind:
    """A host class: how it is built and run, its configs, what a latent of a clip is, and clips for its small one."""

    name: str
    build: Callable
    run: Callable
    config: dict
    small: dict
    latent: Callable
    small_clips: tuple[tuple[int, int, int], ...]


KINDS = (
    Kind("SVD, U-Net", build_svd, run_svd, SVD, SMALL_SVD, latent_of_svd, SMALL_CLIPS_SVD),
    Kind("LTX-Video, transformer", build_ltx, run_ltx, LTX, SMALL_LTX, latent_of_ltx, SMALL_CLIPS_LTX),
)


def count(kind: Kind, config: dict, clip) -> tuple[Attended, int]:
    """The attention calls of one evaluation, and the operations of all the rest."""
    attended = Attended()
    model = kind.build(config, "meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        kind.run(model, config, clip, "meta", {SLOT: attended.count})
    return attended, counter.get_total_flops()


def count_other(kind: Kind, attended: Attended, clip) -> int:
    """Operations of attention if it were joint where it is factorised (SVD), or factorised where it is joint (LTX)."""
    frames, other = kind.latent(clip)[0], 0
    for batch, heads, queries, keys, width in attended.calls:
        each = 4 * heads * width
        if queries != keys:
            other += each * batch * queries * keys
        elif kind.run is run_ltx:
            other += each * batch * queries * (keys // frames + frames)
        elif batch == frames:
            other += each * (frames * queries) ** 2
    return other


def tabulate_counts(clips) -> list[str]:
    """The table of operations, one row for each clip and model."""
    lines = [
        "| clip | model | positions | attention, 10^12 | rest, 10^12 | attention's share | other way |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for clip in clips:
        for kind in KINDS:
            attended, rest = count(kind, kind.config, clip)
            mine, other = attended.operations, count_other(kind, attended, clip)
            way = "joint" if kind.run is run_svd else "factorised"
            lines.append(
                f"| {clip[0]} x {clip[1]} x {clip[2]} | {kind.name} | {math.prod(kind.latent(clip)):,} | "
                f"{mine / 1e12:.3g} | {rest / 1e12:.3g} | {mine / (mine + rest):.0%} | {way}: {other / 1e12:.3g} |"
            )
    return lines


def clock(kind: Kind, clip, factorised: bool) -> tuple[float, float]:
    """Processor seconds of attention and of the rest in one evaluation of a small model, the faster of two."""
    model, found = kind.build(kind.small, "cpu").eval(), []
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    for _ in range(2):
        attended = Attended()
        slot = factorise(kind.latent(clip), attended) if factorised else attended.clock
        began = time.process_time()
        with torch.inference_mode():
            kind.run(model, kind.small, clip, "cpu", {SLOT: slot})
        found.append((time.process_time() - began, attended.seconds))
    whole, attention = min(found)
    return attention, whole - attention


def tabulate_times() -> list[str]:
    """The table of processor times of small models."""
    lines = [
        "| clip | model, small | positions | attention | attention, s | rest, s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, factorised in ((KINDS[0], False), (KINDS[1], False), (KINDS[1], True)):
        for clip in kind.small_clips:
            attention, rest = clock(kind, clip, factorised)
            way = "factorised" if factorised or kind.run is run_svd else "joint"
            lines.append(
                f"| {clip[0]} x {clip[1]} x {clip[2]} | {kind.name} | {math.prod(kind.latent(clip)):,} | {way} | "
                f"{attention:.3f} | {rest:.3f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the tables here too")
    parser.add_argument("--time", action="store_true", help="also measure small models on this CPU")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if host_paths.enter(cpu=True) is None:
        raise SystemExit("no ComfyUI in .host: python scripts/test.py fetches it")
    lines = tabulate_counts(CLIPS)
    if options.time:
        lines += ["", *tabulate_times()]
    text = "\n".join(lines)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
