"""Phase e: two blocks of a video model's size with random weights: attention's share, and what a step gains by presets.

In plain torch, attention through our Router as in ComfyUI: the rules of each level's preset act as in the middle of the
sampling, on blocks that no preset leaves dense. Forecast steps are not in it: they save whole steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from attention import presets
from attention.core.reference import relative_l2
from attention.core.timing import elapsed, end_span, start_span
from attention.core.torch_sdpa import sdpa
from attention.routing.rules import Rule, Shape

from .context import Context
from .place import Place
from .router_calls import Routed, host_attention, see_ours

BLOCKS, ROUNDS = 2, 5


@dataclass(frozen=True)
class Model:
    """Sizes of one model's blocks, from its published configuration.

    family: as presets know it.
    tokens: of the video.
    width: numbers of a token.
    heads, head_dim: H, D.
    inner: of the feed-forward.
    text: tokens of the prompt, which blocks attend to besides; 0: no such attention.
    gated: whether the feed-forward has a gate, so that its first product is twice as wide.
    """

    family: str
    tokens: int
    width: int
    heads: int
    head_dim: int
    inner: int
    text: int
    gated: bool = False


MODELS = {
    "LTX-2.3": Model("LTX-2.3", 32640, 4096, 32, 128, 16384, 1024),
    "Wan 14B": Model("Wan", 75600, 5120, 40, 128, 13824, 512),
    # The defaults of ComfyUI's class.
    "MiniMax-H3": Model("MiniMax-H3", 38016, 5376, 56, 128, 14336, 0, gated=True),
}


class Blocks:
    """The blocks' weights, random, and their arithmetic. attend: of self-attention, over (1, H, L, D)."""

    def __init__(self, model: Model, place: Place):
        self.model, inner = model, model.heads * model.head_dim

        def linear(fan_in: int, fan_out: int):
            return torch.randn(fan_out, fan_in, device=place.device, dtype=place.dtype) * fan_in**-0.5

        self.weights = [
            {"qkv": linear(model.width, 3 * inner), "out": linear(inner, model.width),
             "up": linear(model.width, model.inner * (1 + model.gated)), "down": linear(model.inner, model.width),
             **({"text q": linear(model.width, inner), "text kv": linear(model.width, 2 * inner),
                 "text out": linear(inner, model.width)} if model.text else {})}
            for _ in range(BLOCKS)
        ]  # fmt: skip
        angles = torch.rand(model.tokens, model.head_dim // 2, device=place.device) * 6.28
        self.turn = torch.polar(torch.ones_like(angles), angles)
        self.prompt = torch.randn(1, model.text, model.width, device=place.device, dtype=place.dtype)
        self.modulation = torch.randn(6, model.width, device=place.device, dtype=place.dtype) * 0.1

    def __call__(self, x: torch.Tensor, attend) -> torch.Tensor:
        """Run all blocks. x: (1, L, C)."""
        shift, scale, gate, shift_2, scale_2, gate_2 = self.modulation
        for weights in self.weights:
            x = x + (1 + gate) * self._attention(weights, self._norm(x) * (1 + scale) + shift, attend)
            if self.model.text:
                x = x + self._cross(weights, self._norm(x))
            hidden = F.linear(self._norm(x) * (1 + scale_2) + shift_2, weights["up"])
            if self.model.gated:
                hidden, gates = hidden.chunk(2, -1)
                hidden = hidden * F.silu(gates)
            else:
                hidden = F.gelu(hidden, approximate="tanh")
            x = x + (1 + gate_2) * F.linear(hidden, weights["down"])
        return x

    def _norm(self, x):
        return F.rms_norm(x, x.shape[-1:])

    def _heads(self, x):
        return x.unflatten(-1, (self.model.heads, self.model.head_dim)).transpose(1, 2)

    def _attention(self, weights, x, attend):
        q, k, v = (self._heads(t) for t in F.linear(x, weights["qkv"]).chunk(3, -1))
        q, k = (self._turned(self._norm(t)) for t in (q, k))
        return F.linear(attend(q, k, v).transpose(1, 2).flatten(2), weights["out"])

    def _turned(self, x):
        return torch.view_as_real(torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * self.turn).flatten(-2).to(x)

    def _cross(self, weights, x):
        q, (k, v) = F.linear(x, weights["text q"]), F.linear(self.prompt, weights["text kv"]).chunk(2, -1)
        return F.linear(sdpa(*map(self._heads, (q, k, v))).transpose(1, 2).flatten(2), weights["text out"])


def levels_of(family: str, dry: bool) -> dict[str, tuple[Rule, ...]]:
    """Make the rules of each level; of one with a pattern at the first and at the last percentage of its ramp."""
    made = {}
    for level in presets.LEVELS:
        preset = presets.find(family, level)
        kernel = Rule(preset.kernel.backend, max_error=preset.kernel.max_error)
        if preset.pattern is None:
            made[level] = (kernel,)
            continue
        choice = preset.pattern
        seen = choice.percentages
        for percent in dict.fromkeys((seen[0], seen[-1])):
            pattern = replace(choice.pattern, **{choice.pattern.amount: percent})
            shape = Shape(pattern, min_tokens=0 if dry else choice.min_tokens)
            made[f"{level}, {percent:g} %"] = (kernel, Rule(shape=shape, max_error=preset.kernel.max_error))
    return made


def run(context: Context, model: str) -> None:
    """Measure one model: without us first, then each level, in turns."""
    place, sizes = context.place, MODELS[model]
    context.at("weights", 60)
    if place.dry:
        sizes = replace(sizes, tokens=place.shape(sizes.tokens, 32).tokens, width=32, heads=1, head_dim=32, inner=48,
                        text=min(sizes.text, 7))  # fmt: skip
    see_ours(context, sizes.head_dim)
    grid = place.shape(sizes.tokens, sizes.head_dim).grid
    blocks, spans = Blocks(sizes, place), []
    ways = {"host's own": None, "router, host default": (Rule("host default"),), **levels_of(sizes.family, place.dry)}
    routed = {name: rules and Routed(rules, grid, sizes.heads, sizes.family) for name, rules in ways.items()}

    def timed(attend):
        def run_one(q, k, v):
            begin = start_span(place.device)
            out = attend(q, k, v)
            spans.append(end_span(begin, place.device))
            return out

        return run_one

    def host(q, k, v):
        return host_attention(q, k, v, sizes.heads, skip_reshape=True, skip_output_reshape=True)

    attends = {name: timed(one or host) for name, one in routed.items() if name not in context.without}
    with torch.inference_mode():
        times, shares, effects = in_turns(context, blocks, attends, spans, sizes)
    for name in times:
        if not times[name] or not times["host's own"]:
            continue
        ours = median(times[name])
        beside = median([b / o for b, o in zip(times["host's own"], times[name])])
        context.row(model=model, tokens=sizes.tokens, level=name, ms=ours * 1e3, share=median(shares[name]) / ours,
                    times=beside, effect=effects.get(name), rounds=len(times[name]),
                    ran=routed[name].ran if routed[name] else "torch sdpa")  # fmt: skip
    context.note(
        f"{model}: {BLOCKS} blocks of {sizes}; share: of attention to the video in the step's time; times: how many "
        "times as fast as the host's own, round by round; effect: relative L2 of the blocks' output"
    )


def in_turns(context: Context, blocks: Blocks, attends: dict, spans: list, sizes: Model) -> tuple[dict, dict, dict]:
    """Time all ways, the first round, which chooses and compiles, not counted."""
    place = context.place
    times, shares, effects = ({name: [] for name in attends} for _ in range(3))
    effects.clear()
    out = set()
    for turn in range(2 if place.dry else ROUNDS + 1):
        x = torch.randn(1, sizes.tokens, sizes.width, device=place.device, dtype=place.dtype)
        truth = None
        for name in list(attends)[:: -1 if turn and turn % 2 == 0 else 1]:
            if name in out:
                continue
            out.add(name)
            with context.attempt(name, 120 if turn == 0 else 30):
                spans.clear()
                begin = start_span(place.device)
                y = blocks(x, attends[name])
                seconds = elapsed(end_span(begin, place.device))
                if turn:
                    times[name].append(seconds)
                    shares[name].append(sum(map(elapsed, spans)))
                elif truth is None:
                    truth = y
                else:
                    effects[name] = relative_l2(y, truth)
                out.discard(name)
        if turn >= 2 and context.left < 2:
            break
    return times, shares, effects


def median(numbers: list[float]) -> float:
    """Give the median."""
    return sorted(numbers)[len(numbers) // 2]
