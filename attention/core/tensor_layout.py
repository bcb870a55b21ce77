"""(B, L, H*D) <-> (B, H, L, D): the one place that reshapes the tensors of a call.

Not by einops.rearrange, which takes twice as long for the same view: 5.4 us a tensor instead of 2.7, four in each call
(2000 calls in turns, medians of 25, on one of two shared x86 cores, torch 2.13, einops 0.8.2, 2026-11-28).
"""

from __future__ import annotations

import torch


def to_heads(q, k, v, heads: int, split: bool):
    """View the host's tensors as q: (B, H, Lq, D) and k, v: (B, Hkv, Lk, D).

    q: (B, H, Lq, D) where split, else (B, Lq, H*D).
    k: (B, Hkv, Lk, D) where split, else (B, Lk, Hkv*D): the number of its heads follows from its width.
    v: as k.
    heads: H, of q.
    split: whether the tensors come in heads already.
    """
    if split:
        return q, k, v
    head_dim = q.shape[-1] // heads
    return tuple(t.unflatten(-1, (t.shape[-1] // head_dim, head_dim)).transpose(1, 2) for t in (q, k, v))


def first_query_of(q, k, split: bool) -> tuple[int, int] | None:
    """Return (which token of its sequence the first query is, tokens of that sequence), where q is a slice of memory.

    That sequence is the one of the keys, or they have as many tokens of another one behind theirs as q has. None where
    q and k have equal lengths, and where memory does not tell: a copy stands by itself.

    q: as in to_heads.
    k: as in to_heads.
    split: as in to_heads.
    """
    axis = 2 if split else 1
    if not q.ndim == k.ndim == axis + 2 or (count := q.shape[axis]) >= k.shape[axis]:
        return None
    step, outer = q.stride(axis), [s for s in q.stride()[:axis] if s > q.stride(axis)]
    try:
        held = q.untyped_storage().nbytes() // q.element_size()
    except RuntimeError:  # a tensor without memory of its own
        return None
    if not step:
        return None
    for length in (k.shape[axis], k.shape[axis] - count):
        around = min(outer, default=held)
        if around // step != length:
            around = held if q.shape[0] == 1 else 0
        if around // step == length:
            begin = q.storage_offset() % around // step
            return (begin, length) if begin + count <= length else None
    return None


def from_heads(out: torch.Tensor, split: bool) -> torch.Tensor:
    """Return an output as the host wants it.

    out: (B, H, L, D).
    split: True: as it is; False: as (B, L, H*D).
    """
    return out if split else out.transpose(1, 2).flatten(2)


def empty_output(q: torch.Tensor) -> torch.Tensor:
    """Make (B, H, Lq, D) over memory of (B, Lq, H, D): joining a token's heads is then a view."""
    batch, heads, length, dim = q.shape
    return q.new_empty(batch, length, heads, dim).transpose(1, 2)


def to_mask(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Return any mask that the host passes as (1|B, 1|H, 1|Lq, Lk), None without one.

    mask: (Lq, Lk), (B, Lq, Lk) or four axes. Bool (True: may be seen) and float (added to the scores) both pass; other
        dtypes are read as bool.
    dtype: what a float mask is turned into; its huge finite values stay finite in float16.
    """
    if mask is None:
        return None
    if mask.ndim == 2:
        mask = mask.unsqueeze(0)
    if mask.ndim == 3:
        mask = mask.unsqueeze(1)
    if not mask.is_floating_point():
        return mask.bool()
    if mask.dtype == dtype:
        return mask
    finite = torch.finfo(dtype)
    narrowed = mask.to(dtype).clamp(min=finite.min, max=finite.max)
    return narrowed.masked_fill_(mask == -torch.inf, -torch.inf)


def dense_rows(*tensors: torch.Tensor):
    """Return the tensors as they are where the last axis is contiguous, else copies: many kernels read whole rows.

    tensors: of any shape.
    """
    return tuple(t if t.stride(-1) == 1 else t.contiguous() for t in tensors)


def expand_kv(k: torch.Tensor, v: torch.Tensor, heads: int):
    """Repeat grouped-query keys and values for each head of the queries: both (B, H, L, D).

    k: (B, Hkv, L, D).
    v: (B, Hkv, L, D).
    heads: H, a multiple of Hkv.
    """
    if k.shape[1] == heads:
        return k, v
    repeats = heads // k.shape[1]
    return k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
