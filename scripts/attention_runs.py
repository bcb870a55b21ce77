"""What the page on attention shows, taken from a model as it runs in ComfyUI's own classes: q, k, v, clips, figures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "lib")]

from attention.core.site import site_of
from benchmarks import demo_model, host_paths

PATTERN, METRICS, BLOCKS = "Sparse Pattern", "Temporal Metrics", "Temporal Blocks"
# What Temporal Metrics measures and the page tells, in the order of its columns.
FIGURES = ("flicker", "identity_drift", "motion", "acceleration_ratio")
OPTIONS = "transformer_options"


@dataclass(frozen=True)
class Subject:
    """The model that the page is about, and what it is asked for. For another model: another one of these, as DEMO.

    testbed: the model with its nodes and prompt. temporal: file of the temporal blocks that were trained for it.
    percent: the step whose attention is shown, 0 to 1.
    """

    testbed: demo_model.Testbed = demo_model.TESTBEDS["scenes"]
    temporal: str = "video-attention-scenes-temporal.safetensors"
    seed: int = 7
    steps: int = 10
    percent: float = 0.5


DEMO = Subject()
# Frames of tokens that a picture has room for.
ROOM = 8


@dataclass(frozen=True)
class Clip:
    """One way to attend: frames (F, H, W, 3), the latent, and what Temporal Metrics measured of the middle half."""

    frames: Tensor
    latent: Tensor
    figures: dict[str, float]


@dataclass(frozen=True)
class Lesson:
    """All that the page shows.

    clips: way -> its Clip, joint first. grid: (T, Y, X) of tokens. calls: (role, block) -> q (H, L, D), k and v
    (H, S, D). query: raster index of the token whose view is shown. shape: (T, Y, X), which tokens hold the shape.
    sound: of a small LTX-2: role -> the shapes of its call.
    """

    subject: Subject
    clips: dict[str, Clip]
    grid: tuple[int, int, int]
    calls: dict[tuple[str, int], tuple[Tensor, Tensor, Tensor]]
    query: int
    shape: Tensor
    sound: dict[str, tuple] = field(default_factory=dict)

    @property
    def shown(self) -> range:
        """Tell the frames of tokens that pictures show, the query's among them."""
        step = -(-self.grid[0] // ROOM)
        return range(self.query // self.shape[0].numel() % step, self.grid[0], step)

    def scores(self, role: str, block: int) -> Tensor:
        """Compute (H, L, S): each query times each key, over the root of the channels of a head."""
        q, k, _ = self.calls[role, block]
        return q @ k.transpose(1, 2) * q.shape[-1] ** -0.5

    def weights(self, role: str, block: int) -> Tensor:
        """Compute (H, L, S): the softmax of the scores."""
        return self.scores(role, block).softmax(-1)

    def blocks(self, role: str) -> list[int]:
        """List the blocks with calls of a role."""
        return sorted(block for known, block in self.calls if known == role)

    def sharpest(self) -> tuple[int, int]:
        """Find the block and the head that look most from the query to the shape in other frames that are shown."""
        others, frame = torch.zeros_like(self.shape), self.query // self.shape[0].numel()
        seen = [number for number in self.shown if number != frame]
        others[seen] = self.shape[seen]
        on_shape = torch.stack(
            [self.weights("self", b)[:, self.query, others.flatten()].sum(-1) for b in self.blocks("self")]
        )
        return divmod(int(on_shape.argmax()), on_shape.shape[1])


def run_node(node, *sockets, **widgets) -> tuple:
    """What a node gives, its other widgets as they come."""
    from widget_defaults import defaults

    return node.execute(*sockets, **{**defaults(node), **widgets}).args


def shaped(model, name: str, **choice):
    """The MODEL with Video Attention Sparse Pattern in front of it, in all steps."""
    node = host_paths.ours("pattern").VideoAttentionPattern
    # Below the video's tokens and above a place's frames: temporal blocks have attention of their own. Without timing.
    widgets = {"start_percent": 0.0, "min_tokens": 64, "auto_choice": "table order"}
    return run_node(node, model, pattern={"pattern": name, **choice}, **widgets)[0]


def ways_of(model, subject: Subject) -> dict:
    """Way to attend -> the MODEL that does it."""
    inside = shaped(model, "spatial")
    trained = host_paths.ours("temporal_blocks").VideoAttentionTemporalBlocks.execute(inside, subject.temporal).args[0]
    return {
        "joint": model,
        "spatial": inside,
        "temporal": shaped(model, "temporal"),
        "in turn": shaped(model, "spatial and temporal", blocks_do="alternate", spatial_weight=0.5),
        "trained": trained,
    }


def sample(model, subject: Subject) -> Clip:
    """Sample, decode and measure a clip."""
    runs, metrics = host_paths.ours("runs.sampling_job"), host_paths.ours("metrics")
    job = subject.testbed.job_of(model, subject.testbed.calibrated, subject.seed, subject.steps)
    latent = runs.run(job, lambda *step: None)
    frames, node = subject.testbed.decode(latent)[0], metrics.VideoAttentionTemporalMetrics
    # Its middle half, where the shape is whole: what is half outside would count as another.
    middle = frames[len(frames) // 4 : 3 * len(frames) // 4]
    # Whose identity is followed: else the place of what moves would count.
    mask = subject.testbed.mask_shape(middle, subject.testbed.calibrated).round()
    found = dict(zip([output.id for output in node.GET_SCHEMA().outputs], run_node(node, middle, mask=mask)))
    return Clip(frames, latent, {name: found[name] for name in FIGURES})


def keep_calls(model, evaluate: Callable) -> dict:
    """(role, block) -> q, k and v of the model's calls, (B, L, H, D) each, while `evaluate` runs a clone of it."""
    kept = {}

    def look(func, q, k, v, heads, *args, **kwargs):
        site = site_of(kwargs[OPTIONS])
        kept[site.role, site.block] = tuple(x.unflatten(-1, (heads, -1)).clone() for x in (q, k, v))
        return func(q, k, v, heads, *args, **kwargs)

    evaluate(host_paths.ours("host.model_rules").fill_slot(model, lambda found: look)[0])
    return kept


def find_shape(mask: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Tell which tokens (T, Y, X) hold the shape of a mask (F, H, W): those with half as much of it as the fullest."""
    cells = torch.nn.functional.adaptive_avg_pool3d(mask[None, None], grid)[0, 0]
    return cells > cells.max() / 2


def middle_of(shape: Tensor) -> int:
    """Find the raster index of the token in the middle of the shape, a third into the clip: before shapes meet."""
    frame = len(shape) // 3
    row, column = shape[frame].nonzero().float().mean(0).round().long().tolist()
    return (frame * shape.shape[1] + row) * shape.shape[2] + column


def attention_of(model, subject: Subject, latent: Tensor) -> dict:
    """(role, block) -> q, k, v of (H, L, D), at `percent` of the sampling of a finished latent."""
    maps, positive = host_paths.ours("runs.attention_maps"), subject.testbed.prompts_of(subject.testbed.calibrated)[0]
    sigma = maps.sigma_at(model, subject.percent)
    kept = keep_calls(model, lambda m: maps.evaluate(m, positive, {"samples": latent}, sigma, subject.seed, True))
    return {site: tuple(x[0].transpose(0, 1).float() for x in call) for site, call in kept.items()}


def sound_of() -> dict[str, tuple]:
    """Role -> shapes of q and k in a small LTX-2 of random weights, in the host's own class."""
    from tiny import CASES
    from witness import given

    case = next(case for case in CASES if str(case) == "LTX-2")
    model, (positive, latent), maps = case.build(), given(case), host_paths.ours("runs.attention_maps")
    kept = keep_calls(model, lambda m: maps.evaluate(m, positive, latent, 0.7, 0, True))
    return {role: (tuple(q.shape), tuple(k.shape)) for (role, block), (q, k, _) in kept.items() if block == 0}


def gather(subject: Subject = DEMO) -> Lesson:
    """Run all that the page shows. ComfyUI must have been imported, see benchmarks/host_paths.py."""
    model = subject.testbed.load()
    clips = {name: sample(way, subject) for name, way in ways_of(model, subject).items()}
    joint = clips["joint"]
    grid = tuple(joint.latent.shape[2:])
    shape = find_shape(subject.testbed.mask_shape(joint.frames, subject.testbed.calibrated), grid)
    calls = attention_of(model, subject, joint.latent)
    return Lesson(subject, clips, grid, calls, middle_of(shape), shape, sound_of())
