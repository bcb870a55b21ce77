"""Calls through the Router as a model's module makes them, without ComfyUI: what the host's side would be."""

from __future__ import annotations

from collections.abc import Callable

import torch

from attention.backends import registry
from attention.core.site import CALLER, SELF, SITE, AttentionSite, Caller
from attention.core.tensor_layout import from_heads, to_heads
from attention.core.tokens import Grid, Tokens
from attention.core.torch_sdpa import sdpa
from attention.routing.compiled_op import SLOT
from attention.routing.router import Router
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT, StepContext
from attention.sparse.proof import worst_error

from .context import Context
from .place import OURS
from .timing import truth_of

# In the middle of a model: presets leave first and last blocks dense.
BLOCK = 10


def host_attention(q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw):
    """Attend as ComfyUI's attention_pytorch does."""
    return from_heads(sdpa(*to_heads(q, k, v, heads, skip_reshape), attn_mask=mask), skip_output_reshape)


class Routed:
    """A Router with what a run would put into transformer_options around it.

    rules: of the Router.
    grid: of the video's tokens, which are the whole sequence.
    heads: of the module.
    """

    def __init__(self, rules: tuple, grid: Grid, heads: int, family: str = ""):
        self.stats, self.router, self.heads = RunStats(), Router(rules, host=host_attention), heads
        self.context = StepContext(self.stats, tokens=Tokens(grid))
        site = AttentionSite(family, SELF, BLOCK, heads=heads)
        self.options = {SLOT: self.router, CONTEXT: self.context, SITE: site, CALLER: Caller(live=True)}

    def __call__(self, q, k, v) -> torch.Tensor:
        """Attend over (B, H, L, D)."""
        return self.router(
            host_attention, q, k, v, self.heads, None, None, True, True, transformer_options=self.options
        )

    @property
    def ran(self) -> str:
        """Say what its calls ran on, and why not on what was asked for."""
        told = []
        for decision in self.stats.decisions.values():
            why = decision.reason or (decision.unshaped[1] if decision.unshaped else None)
            told.append(decision.used + (f" ({why})" if why else ""))
        return ", ".join(dict.fromkeys(told))

    @property
    def choosing(self) -> float:
        """Seconds that measuring candidates took."""
        return self.stats.choosing


def see_ours(context: Context, head_dim: int) -> None:
    """Let `auto` take our kernels where they are right, as Video Attention Benchmark does, on a small call."""
    place = context.place
    shape = place.shape(6144, head_dim)
    q, k, v = place.draw(shape)
    geometry, truth = place.geometry(q, k, v), truth_of(q, k, v)
    span = place.span(shape.grid)

    def run(kernel: Callable):
        return kernel(q, k, v, mask=None, scale=None)

    for name in OURS:
        if registry.why_not(name, geometry) is not None:
            continue
        with context.attempt(f"{name}, seen"):
            limit = registry.get(name).promise + torch.finfo(place.dtype).eps / 2
            registry.note(name, geometry, truth(run(registry.load(name))) <= limit)
            if not place.dry:  # it runs exact engines in float32 beside ours
                error = worst_error(name, span, geometry, run, (q, k, v))
                registry.note(name, geometry, error is not None and error <= limit, by_lists=True)
