"""How Wan's tokens are shared out over several GPUs, and what its relatives do with whole frames of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .token_share import ByFrame, Frames, Inputs, TokenShare, count_first, enter_first, for_each_token, put_together


def _tables(own, args, kwargs) -> Inputs:
    e = kwargs["e"]
    if e.ndim == 4 and e.shape[1] > 1:
        e = own.made(e, lambda: own.part(for_each_token(e, own.spread.length), 1))
    told = {"e": e, "freqs": own.part(kwargs["freqs"], 1)}
    if "x" in kwargs:
        # A block of VACE's: the control's tokens, which only its first block gets whole, beside the video's.
        told["x"] = own.part(kwargs["x"], 1)
        if args[0].shape[1] == own.spread.length:
            args = (own.spread.part(args[0], own.rank), *args[1:])
    return args, {**kwargs, **told}


def _frames(own, count: int, tokens: int) -> Frames:
    start = own.spread.start(own.rank)
    return Frames(count, tokens, start, start + own.spread.sizes[own.rank])


INJECTED = ("x", "block_id", "audio_emb", "audio_emb_global", "seq_len", "scale")


def _inject(own, args, kwargs) -> tuple:
    """Cut the sound of S2V and WanDancer: AudioInjector_WAN(x, block, sound, of all frames, tokens of the video)."""
    given = dict(zip(INJECTED[: len(args)], args, strict=True)) | kwargs
    sound, everywhere = given["audio_emb"], given["audio_emb_global"]
    frames = _frames(own, sound.shape[1], given["seq_len"])
    if not frames.any:
        # References alone: there is no such block, so nothing is done.
        return frames, (), {**given, "block_id": -1}
    given |= {"x": frames.filled(given["x"]), "audio_emb": frames.cut(sound, 1), "seq_len": frames.tokens}
    return frames, (), given | {"audio_emb_global": None if everywhere is None else frames.cut(everywhere, 1)}


def _look(own, args, kwargs) -> tuple:
    """Cut the face of Animate: FaceBlock(x, face), which has one entry for each frame of the whole sequence."""
    x, face, *rest = args
    frames = _frames(own, face.shape[1], own.spread.length)
    return frames, (frames.filled(x), frames.cut(face, 1), *rest), kwargs


# Tokens of sound in each frame of HuMo, as its module has it.
HEARD = 16


def _hear(own, args, kwargs) -> tuple:
    """Cut the sound of HuMo: WanT2VCrossAttentionGather(x, sound), which has HEARD tokens for each frame."""
    x, sound, *rest = args
    frames = _frames(own, sound.shape[1] // HEARD, own.spread.length)
    return frames, (frames.filled(x), frames.cut(sound, 1, HEARD), *rest), kwargs


def _by_frame(model) -> Iterator[tuple[torch.nn.Module, ByFrame]]:
    """List what works on whole frames: sound and faces, which each frame has its own of."""
    for name in ("audio_injector", "music_injector"):
        if hasattr(model, name):
            yield getattr(model, name), _inject
    if hasattr(model, "face_adapter"):
        for block in model.face_adapter.fuser_blocks:
            yield block, _look
    for block in model.blocks:
        if hasattr(block, "audio_cross_attn_wrapper"):
            yield block.audio_cross_attn_wrapper.audio_cross_attn, _hear


WAN = TokenShare(
    lists=("blocks",),
    lengths=count_first,
    enter=enter_first,
    tables=_tables,
    leave=put_together,
    beside=("vace_blocks",),
    by_frame=_by_frame,
    # VACE's control and the sound may be added behind the last block. WanDancer has a head more.
    heads=("head", "head_global"),
)
