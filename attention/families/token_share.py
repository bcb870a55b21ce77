"""How the tokens between a model's blocks are shared out over several GPUs: what has an entry for each token.

Everything else of a block's work is the same for every token, so each GPU runs the host's own block on its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch

from ..core.query_parts import QueryParts

# (args, kwargs) of a block's forward.
Inputs = tuple[tuple, dict]
# (own, args, kwargs) of a module that works on whole frames -> (the Frames it is given, its args, its kwargs).
ByFrame = Callable[..., tuple]


@dataclass(frozen=True)
class TokenShare:
    """What a family's blocks get that has an entry for each token.

    lists: the attributes of the model that are its lists of blocks, in the order in which they run.
    lengths: (args, kwargs) of the first block -> (tokens to share out, tokens in front of them that every GPU has).
    enter: (own, args, kwargs) of the first block -> the same with this GPU's tokens. own.part(x, dim) cuts a sequence,
        own.apart(x, dim) one without the tokens in front.
    tables: (own, args, kwargs) of each block -> the same with this GPU's part of what is told for each token.
    leave: (own, output) of the last block -> the output of all tokens; own.whole(x, dim) puts a sequence together.
    refuses: (args, kwargs) of the first block -> why its tokens cannot be shared out; None where they can.
    models: class names of the models for which that holds; () for all of the family.
    beside: the attributes that are lists of blocks which run between those, each behind one of them.
    by_frame: model -> (module, ByFrame) of what works on each frame of the video by itself, in a block or between two:
        it is given whole frames, those that this GPU has a part of. Its first argument and its output are (B, L, C).
    heads: the attributes that are modules in front of one of which the tokens are put together, its first argument
        being the blocks' output; () for behind the last block.
    """

    lists: tuple[str, ...]
    lengths: Callable[[tuple, dict], tuple[int, int]]
    enter: Callable[..., Inputs]
    tables: Callable[..., Inputs]
    leave: Callable
    refuses: Callable[[tuple, dict], str | None] = lambda args, kwargs: None
    models: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    by_frame: Callable[[torch.nn.Module], Iterable[tuple[torch.nn.Module, ByFrame]]] = lambda model: ()
    heads: tuple[str, ...] = ()

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the blocks of a loaded model, in the order in which they run."""
        return [block for name in self.lists for block in getattr(model, name)]

    def blocks_beside(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the blocks that run between those; a model may have none."""
        return [block for name in self.beside for block in getattr(model, name, ())]

    def heads_of(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the modules in front of one of which the tokens are put together."""
        return [getattr(model, name) for name in self.heads if hasattr(model, name)]


class Frames:
    """The whole frames that one GPU's tokens are in, of frames of equal size at the begin of a sequence.

    count: frames of the sequence.
    tokens: of them together. ValueError where they are not `count` frames.
    start: the first of the GPU's tokens, counted from the sequence's first.
    stop: one past the last of them.
    """

    def __init__(self, count: int, tokens: int, start: int, stop: int):
        size, rest = divmod(tokens, count)
        if rest:
            raise ValueError(f"{tokens} tokens are not {count} frames of equal size")
        start, stop = min(start, tokens), min(stop, tokens)
        self.any = start < stop
        self.first, self.last = start // size, -(-stop // size)
        self._missing = (start - self.first * size, self.last * size - stop)
        self.tokens = (self.last - self.first) * size

    def filled(self, x: torch.Tensor) -> torch.Tensor:
        """Fill this GPU's tokens (B, L, C) up to whole frames; each token is worked on by itself."""
        front, back = (x.new_zeros(x.shape[0], missing, x.shape[2]) for missing in self._missing)
        return torch.cat([front, x, back], 1) if any(self._missing) else x

    def cut(self, told: torch.Tensor, dim: int, each: int = 1) -> torch.Tensor:
        """Cut what has `each` entries for each frame along an axis."""
        return told.narrow(dim, self.first * each, (self.last - self.first) * each)

    def emptied(self, x: torch.Tensor) -> torch.Tensor:
        """Take away what `filled` added."""
        front, back = self._missing
        return x.narrow(1, front, x.shape[1] - front - back)


GUIDES = "it is not known how the mask of its guides tells the tokens apart"


def enter_first(own, args, kwargs) -> Inputs:
    """Cut the sequence that is a block's first argument, (B, L, C)."""
    return (own.part(args[0], 1), *args[1:]), kwargs


def count_first(args, kwargs) -> tuple[int, int]:
    """Count the tokens of that sequence, which nothing stands in front of."""
    return args[0].shape[1], 0


def put_together(own, x: torch.Tensor) -> torch.Tensor:
    """Put the sequence together again behind the blocks, (B, L, C)."""
    return own.whole(x, 1)


def for_each_token(times: torch.Tensor, tokens: int) -> torch.Tensor:
    """Repeat what is told for each frame for each token, as Wan's blocks do.

    times: (B, frames, ...), one for each frame or one for each token.
    """
    each, rest = divmod(tokens, times.shape[1])
    return times.repeat_interleave(each + (rest > 0), dim=1)[:, :tokens]


def _positions(own, pe):
    return (own.part(pe[0], 1), *pe[1:])


def _tables_of_ltxv(own, args, kwargs) -> Inputs:
    told = {"pe": _positions(own, kwargs["pe"]), "timestep": _times(own, kwargs["timestep"])}
    return args, {**kwargs, **told, **_guides(own, kwargs)}


# What the host attends to guides of part strength by: those before them and they have a mask each, for all keys.
GUIDED = ("guide_start", "tracked_count", "noisy_mask", "tracked_mask")


def _refuses_guides(args, kwargs) -> str | None:
    mask = kwargs.get("self_attention_mask")
    known = mask is None or isinstance(mask, torch.Tensor) or all(hasattr(mask, name) for name in GUIDED)
    return None if known else GUIDES


def _guides(own, kwargs) -> dict:
    """Tell attention the masks of guides of part strength: the host cuts the queries by them, which lie over the GPUs.

    A tensor is for all tokens, as attention is behind the trade.
    """
    mask = kwargs.get("self_attention_mask")
    if mask is None or isinstance(mask, torch.Tensor):
        return {}
    return {"self_attention_mask": own.made(mask, lambda: _query_parts(mask, own.spread.length))}


def _query_parts(mask, length: int) -> QueryParts:
    start, end = mask.guide_start, mask.guide_start + mask.tracked_count
    parts = ((0, start, mask.noisy_mask), (start, end, mask.tracked_mask), (end, length, None))
    # Both masks say how strong each guide's token is.
    return QueryParts(parts, mask.noisy_mask)


def _times(own, times):
    """Cut the times of video tokens: a tensor (B, 1 or L, C), or what LTX-2 packs one for each frame into."""
    if times is None:
        return None
    packed = hasattr(times, "expand_for_computation")
    told = times.num_frames if packed else times.shape[1]
    return times if told == 1 else own.made(times, lambda: own.part(times.expand() if packed else times, 1))


LTXV = TokenShare(
    lists=("transformer_blocks",),
    lengths=count_first,
    enter=enter_first,
    tables=_tables_of_ltxv,
    leave=put_together,
    refuses=_refuses_guides,
)


def _enter_ltx2(own, args, kwargs) -> Inputs:
    video, audio = args[0]
    return ((own.part(video, 1), audio), *args[1:]), kwargs


VIDEO_TIMES = ("v_timestep", "v_cross_scale_shift_timestep", "v_cross_gate_timestep")


def _tables_of_ltx2(own, args, kwargs) -> Inputs:
    told = {name: _positions(own, kwargs[name]) for name in ("v_pe", "v_cross_pe")}
    told |= {name: _times(own, kwargs[name]) for name in VIDEO_TIMES}
    return args, {**kwargs, **told, **_guides(own, kwargs)}


# The sound is on every GPU: of its attention to the video only the keys are shared out.
LTX2 = TokenShare(
    lists=("transformer_blocks",),
    lengths=lambda args, kwargs: (args[0][0].shape[1], 0),
    enter=_enter_ltx2,
    tables=_tables_of_ltx2,
    leave=lambda own, out: (own.whole(out[0], 1), *out[1:]),
    refuses=_refuses_guides,
)


def _enter_hunyuan(own, args, kwargs) -> Inputs:
    return args, {**kwargs, "img": own.apart(kwargs["img"], 1)}


def _tables_of_hunyuan(own, args, kwargs) -> Inputs:
    told = {"pe": own.part(kwargs["pe"], 2)}
    # Where the first frame has a time of its own. The last blocks count from the begin of the sequence, prompt and all.
    for name, before in (("modulation_dims_img", 0), ("modulation_dims", own.spread.before)):
        if kwargs.get(name) is not None:
            told[name] = own.made(kwargs[name], partial(_cut_segments, own, kwargs[name], before), name)
    return args, {**kwargs, **told}


# The prompt is on every GPU, in front of the video; the last block gives both out in one sequence.
HUNYUAN = TokenShare(
    lists=("double_blocks", "single_blocks"),
    lengths=lambda args, kwargs: (kwargs["img"].shape[1], kwargs["txt"].shape[1]),
    enter=_enter_hunyuan,
    tables=_tables_of_hunyuan,
    leave=put_together,
    models=("HunyuanVideo",),
)


def _enter_minimax(own, args, kwargs) -> Inputs:
    return (own.part(args[0], 0).clone(), *args[1:]), kwargs


def _tables_of_minimax(own, args, kwargs) -> Inputs:
    x, times, segments, rotations, *rest = args
    mine = own.made(segments, lambda: _cut_segments(own, segments, own.spread.before))
    return (x, times, mine, own.part(rotations, 1), *rest), kwargs


def _cut_segments(own, segments, before: int) -> list[tuple[int, int, int]]:
    """Cut [(start, stop or None, row of the times)] of a sequence to this GPU's tokens.

    before: of its tokens, those in front that every GPU has.
    """
    start, size = own.spread.start(own.rank) - own.spread.before + before, own.spread.sizes[own.rank]
    whole = [(a, before + sum(own.spread.sizes) if b is None else b, row) for a, b, row in segments]
    found = [(a, min(b, before), row) for a, b, row in whole if a < before]
    shift = before - start
    own_part = [(max(a, start) + shift, min(b, start + size) + shift, row) for a, b, row in whole]
    return [*found, *(each for each in own_part if each[0] < each[1])]


def _lengths_of_minimax(args, kwargs) -> tuple[int, int]:
    # The video is the last segment of the packed sequence; text, references and sound are on every GPU.
    start, stop, _ = args[2][-1]
    return stop - start, start


MINIMAX = TokenShare(
    lists=("blocks",),
    lengths=_lengths_of_minimax,
    enter=_enter_minimax,
    tables=_tables_of_minimax,
    leave=lambda own, x: own.whole(x, 0),
)
