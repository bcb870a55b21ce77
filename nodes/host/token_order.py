"""Moves the video's tokens into a pattern's order once for each model call, and back behind the last block.

Everything in a block but self-attention works on each token alone, so only the tokens and the tables of their positions
have to move. That holds where both pass through one place and nothing else in the block knows a token by its number:
Wan's plain class. LTX gives each token a time of its own, HunyuanVideo's blocks take the text's positions in the same
tables, and VACE, S2V, Animate and others add to tokens by their number: there the engines move q, k, v in each call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import torch

from ...attention.core.grid import CUBE, RASTER, order
from ...attention.core.site import SELF
from ...attention.core.tokens import VideoSpan
from ...attention.routing.compiled_op import OPTIONS, SLOT
from ...attention.routing.router import Router
from ...attention.routing.step_context import CONTEXT, IDLE
from . import hooks, temporal_grafts
from .hooks import Handle

KEY = "video_attention.orders"
# Class of the diffusion model -> the blocks' argument that holds the tables of positions, and its axis of tokens.
TABLES = {"WanModel": ("freqs", 1)}


def attach(patcher) -> None:
    """Lets `patcher` move tokens while it is sampled."""
    hooks.during_runs(patcher, KEY, publish)


def detach(patcher) -> None:
    """Undoes attach."""
    hooks.take_off(patcher, KEY)


def publish(patcher) -> Iterator[Handle]:
    """Hooks the blocks of a model whose tokens can be moved, if a pattern wants them moved."""
    model = patcher.model.diffusion_model
    router = patcher.model_options.get(OPTIONS, {}).get(SLOT)
    if type(model).__name__ not in TABLES or not isinstance(router, Router) or not _orders(router.rules):
        return
    mover = Mover(*TABLES[type(model).__name__], model)
    for block in model.blocks:
        yield hooks.hook_before(block, mover.before)
    yield hooks.hook_behind(model.blocks[-1], mover.behind)


class Mover:
    """What happens to the tokens between the first block and the last. table, axis: see TABLES."""

    def __init__(self, table: str, axis: int, model: torch.nn.Module):
        self.table, self.axis, self.model, self.first = table, axis, model, model.blocks[0]
        self.back, self.context, self.known = None, None, (None, None)

    def before(self, module, args, kwargs):
        """Pre-hook of each block."""
        if torch.compiler.is_compiling():
            return None
        if module is self.first:
            self.back, self.context, self.known = None, None, (None, None)
            found = self._find(args, kwargs)
            if found is None:
                return None
            to, self.back, self.context = found
            self.known = kwargs[self.table], kwargs[self.table].index_select(self.axis, to)
            args = (args[0].index_select(1, to), *args[1:])
        if self.back is None:
            return None
        if kwargs[self.table] is not self.known[0]:
            raise RuntimeError("Video Attention: the tables of positions changed between two blocks.")
        options = {**kwargs[OPTIONS], CONTEXT: self.context}
        return args, {**kwargs, self.table: self.known[1], OPTIONS: options}

    def behind(self, module, args, kwargs, output):
        """Hook behind the last block."""
        if self.back is None:
            return None
        back, self.back = self.back, None
        return output.index_select(1, back)

    def _find(self, args, kwargs):
        """(to, back, moment) of a model call whose tokens are moved; None where they stay."""
        options, table = kwargs.get(OPTIONS) or {}, kwargs.get(self.table)
        context, router = options.get(CONTEXT, IDLE), options.get(SLOT)
        if not args or table is None or context.tokens is None or not isinstance(router, Router):
            return None
        x, times = args[0], kwargs.get("e")
        wanted = _orders([rule for rule, on in zip(router.rules, context.active_of(router)) if on])
        video_span = context.tokens.video_span(SELF, x.shape[1], x.shape[1])
        if len(wanted) != 1 or not isinstance(video_span, VideoSpan) or table.shape[self.axis] != x.shape[1]:
            return None
        # Who else looks at tokens by their number: other overrides, patches, blocks of ours, a time for each frame.
        others = router.previous, options.get("patches"), options.get("patches_replace", {}).get("dit")
        if any(others) or hooks.is_on(self.model, temporal_grafts.KEY):
            return None
        # Blocks compiled one by one do not ask: see `before`.
        if any(hasattr(block, "_orig_mod") for block in self.model.blocks):
            return None
        if times is not None and times.ndim > 3 and times.shape[1] != 1:
            return None
        (name,) = wanted
        note = f"The video's tokens were moved into {name} order once for each model call."
        if context.stats is not None and note not in context.stats.notes:
            context.stats.notes.append(note)
        tokens = replace(context.tokens, order=name)
        return *_permutation(video_span, name, x.shape[1], x.device), context.but(tokens=tokens)


def _orders(rules) -> set[str]:
    """The orders that patterns ask for; empty when one of the rules needs the tokens as they stand."""
    shapes = [rule.shape.pattern for rule in rules if rule.shape]
    orders = {getattr(pattern, "order", RASTER) for pattern in shapes}
    if RASTER in orders or any(rule.strength and rule.strength.cross_frame for rule in rules):
        return set()
    return orders


def forget() -> None:
    """Frees the permutations of the last runs."""
    _permutation.cache_clear()


@lru_cache(maxsize=4)
def _permutation(video_span: VideoSpan, name: str, length: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a whole sequence, to the order and back, both (L,)."""
    to = torch.arange(length)
    to[video_span.start : video_span.stop] = video_span.start + order(video_span.grid, name, CUBE)[0]
    return to.to(device), to.argsort().to(device)
