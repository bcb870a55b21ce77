"""How the tokens between a model's blocks are shared out over several GPUs: what has an entry for each token.

Everything else of a block's work is the same for every token, so each GPU runs the host's own block on its tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

# (args, kwargs) of a block's forward.
Inputs = tuple[tuple, dict]


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
    """

    lists: tuple[str, ...]
    lengths: Callable[[tuple, dict], tuple[int, int]]
    enter: Callable[..., Inputs]
    tables: Callable[..., Inputs]
    leave: Callable
    refuses: Callable[[tuple, dict], str | None] = lambda args, kwargs: None
    models: tuple[str, ...] = ()

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the blocks of a loaded model, in the order in which they run."""
        return [block for name in self.lists for block in getattr(model, name)]


GUIDES = "guides of part strength attend to some of the tokens only"


def _enter_wan(own, args, kwargs) -> Inputs:
    return (own.part(args[0], 1), *args[1:]), kwargs


def _tables_of_wan(own, args, kwargs) -> Inputs:
    e = kwargs["e"]
    if e.ndim == 4 and e.shape[1] > 1:
        e = own.made(e, lambda: own.part(for_each_token(e, own.spread.length), 1))
    return args, {**kwargs, "e": e, "freqs": own.part(kwargs["freqs"], 1)}


def for_each_token(times: torch.Tensor, tokens: int) -> torch.Tensor:
    """Repeat what is told for each frame for each token, as Wan's blocks do.

    times: (B, frames, ...), one for each frame or one for each token.
    """
    each, rest = divmod(tokens, times.shape[1])
    return times.repeat_interleave(each + (rest > 0), dim=1)[:, :tokens]


WAN = TokenShare(
    lists=("blocks",),
    lengths=lambda args, kwargs: (args[0].shape[1], 0),
    enter=_enter_wan,
    tables=_tables_of_wan,
    leave=lambda own, x: own.whole(x, 1),
    models=("WanModel", "CameraWanModel"),
)


def _positions(own, pe):
    return (own.part(pe[0], 1), *pe[1:])


def _tables_of_ltxv(own, args, kwargs) -> Inputs:
    return args, {**kwargs, "pe": _positions(own, kwargs["pe"]), "timestep": _times(own, kwargs["timestep"])}


def _times(own, times):
    """Cut the times of video tokens: a tensor (B, 1 or L, C), or what LTX-2 packs one for each frame into."""
    if times is None:
        return None
    packed = hasattr(times, "expand_for_computation")
    told = times.num_frames if packed else times.shape[1]
    return times if told == 1 else own.made(times, lambda: own.part(times.expand() if packed else times, 1))


LTXV = TokenShare(
    lists=("transformer_blocks",),
    lengths=lambda args, kwargs: (args[0].shape[1], 0),
    enter=_enter_wan,
    tables=_tables_of_ltxv,
    leave=lambda own, x: own.whole(x, 1),
    refuses=lambda args, kwargs: None if kwargs.get("self_attention_mask") is None else GUIDES,
)


def _enter_ltx2(own, args, kwargs) -> Inputs:
    video, audio = args[0]
    return ((own.part(video, 1), audio), *args[1:]), kwargs


VIDEO_TIMES = ("v_timestep", "v_cross_scale_shift_timestep", "v_cross_gate_timestep")


def _tables_of_ltx2(own, args, kwargs) -> Inputs:
    told = {name: _positions(own, kwargs[name]) for name in ("v_pe", "v_cross_pe")}
    told |= {name: _times(own, kwargs[name]) for name in VIDEO_TIMES}
    return args, {**kwargs, **told}


# The sound is on every GPU: of its attention to the video only the keys are shared out.
LTX2 = TokenShare(
    lists=("transformer_blocks",),
    lengths=lambda args, kwargs: (args[0][0].shape[1], 0),
    enter=_enter_ltx2,
    tables=_tables_of_ltx2,
    leave=lambda own, out: (own.whole(out[0], 1), *out[1:]),
    refuses=lambda args, kwargs: None if kwargs.get("self_attention_mask") is None else GUIDES,
)


def _enter_hunyuan(own, args, kwargs) -> Inputs:
    return args, {**kwargs, "img": own.apart(kwargs["img"], 1)}


def _tables_of_hunyuan(own, args, kwargs) -> Inputs:
    return args, {**kwargs, "pe": own.part(kwargs["pe"], 2)}


# The prompt is on every GPU, in front of the video; the last block gives both out in one sequence.
HUNYUAN = TokenShare(
    lists=("double_blocks", "single_blocks"),
    lengths=lambda args, kwargs: (kwargs["img"].shape[1], kwargs["txt"].shape[1]),
    enter=_enter_hunyuan,
    tables=_tables_of_hunyuan,
    leave=lambda own, out: own.whole(out, 1),
    refuses=lambda args, kwargs: (
        None if kwargs.get("modulation_dims_img") is None else "its first frame has a time of its own"
    ),
    models=("HunyuanVideo",),
)


def _enter_minimax(own, args, kwargs) -> Inputs:
    return (own.part(args[0], 0).clone(), *args[1:]), kwargs


def _tables_of_minimax(own, args, kwargs) -> Inputs:
    x, times, segments, rotations, *rest = args
    mine = own.made(segments, lambda: _cut_segments(own, segments))
    return (x, times, mine, own.part(rotations, 1), *rest), kwargs


def _cut_segments(own, segments) -> list[tuple[int, int, int]]:
    """Cut [(start, stop, row of the times)] of the packed sequence to this GPU's tokens."""
    before, start, size = own.spread.before, own.spread.start(own.rank), own.spread.sizes[own.rank]
    found = [(a, min(b, before), row) for a, b, row in segments if a < before]
    shift = before - start
    own_part = [(max(a, start) + shift, min(b, start + size) + shift, row) for a, b, row in segments]
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
