"""Spot check of a kernel's output: compared with float32 attention on some queries of every batch entry and head.

A batch holds the positive and the negative prompt, and kernels go wrong in one head or one entry alone. So all are
looked at, each at queries of its own: both ends of the sequence, and others spread between them.

What it costs: SAMPLED queries in all, at least FEWEST for each entry and head, against all keys, once for a geometry.
That is SAMPLED / (B * H * Lq) of one attention in float32: 0.03 % of Wan's 75,600 tokens, 40 heads and two prompts.
Memory: CHUNK numbers, or the keys and values of one head in float32, and copies of q, k and v; see InputCopies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from .error_handling import error_text, free_frames, is_out_of_memory
from .gpu import widest
from .input_copies import WRITES, InputCopies
from .reason import Reason
from .reference import scaled_dot_product_attention

SAMPLED, MOST, FEWEST = 2048, 128, 3
CHUNK = 1 << 24
# Errors are told for so many parts of a batch: of each entry, where it has no more.
PARTS = 64
GOLDEN = 0.618034


class SpotCheck:
    """Holds some queries of a call, what attention gives for them, and copies of the inputs.

    q: (B, H, Lq, D).
    k: (B, Hkv, Lk, D).
    v: (B, Hkv, Lk, D).
    mask: the host's, (1|B, 1|H, 1|Lq, Lk), or None.
    scale: factor of the scores; None: 1 / sqrt(D).
    seen: pairs of a weight and a function, whose attentions are averaged: (b, h, R) numbers of queries -> what of the
        keys each of them sees besides, (b, h, R, Lk) bool; None in its place: all.
    first: number of the first query that may be looked at.
    last: one past the last; None: to the end.
    """

    def __init__(self, q, k, v, mask=None, scale: float | None = None, seen=((1.0, None),), first=0, last=None):
        self.device, self.copies = q.device, InputCopies(q, k, v, mask)
        self.rows = first + query_rows(*q.shape[:2], (q.shape[2] if last is None else last) - first, q.device)
        wide = torch.promote_types(q.dtype, torch.float32)
        self.truth = torch.zeros(*self.rows.shape, q.shape[3], dtype=wide, device=q.device)
        for batch, heads, keys in chunks(q, k, self.rows.shape[2]):
            rows = self.rows[batch, heads]
            few, some = gather_rows(q[batch, heads], rows).to(wide), tuple(t[batch, keys].to(wide) for t in (k, v))
            bias = None if mask is None else gather_mask_rows(mask, batch, heads, rows)
            for weight, sees in seen:
                both = combine_masks(None if sees is None else sees(rows), bias)
                self.truth[batch, heads] += weight * grouped_attention(few, *some, both, scale)

    def __call__(self, out: torch.Tensor) -> float:
        """Compute the relative L2 error of an output, the largest of any batch entry; NaN where it has one.

        out: (B, H, Lq, D).
        """
        wrong = gather_rows(out, self.rows).to(self.truth.dtype) - self.truth
        return worst_error(wrong, self.truth)

    def error_of_run(self, run: Callable) -> float | Reason:
        """Run a kernel and return the error of its output, or why it is out. What it wrote into its inputs is restored.

        Where memory is missing our copies leave the device and it has another try.

        run: calls the kernel: (B, H, Lq, D).
        """
        for last in (False, True):
            try:
                found, short = self(run()), False
            except Exception as failure:
                found, short = Reason(error_text(failure)), is_out_of_memory(failure)
                free_frames(failure)
            if self.copies.restore():
                return WRITES
            if last or not short:
                break
            self.copies.offload()
        return found


def query_rows(batch: int, heads: int, length: int, device) -> torch.Tensor:
    """Choose queries, (B, H, R): the first, the last, and others between them, for each entry and head its own.

    batch: B.
    heads: H.
    length: queries of the call.
    device: of the result.
    """
    number = max(FEWEST, min(MOST, SAMPLED // (batch * heads)))
    if length <= number:
        return torch.arange(length, device=device).expand(batch, heads, length)
    shift = (torch.arange(batch * heads, device=device, dtype=widest(device)) * GOLDEN % 1).view(batch, heads, 1)
    between = (torch.arange(number - 2, device=device) + shift) * ((length - 1) / (number - 2))
    ends = (torch.full((batch, heads, 1), n, dtype=torch.long, device=device) for n in (0, length - 1))
    return torch.cat([*ends, between.long()], dim=-1)


def chunks(q, k, rows: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield (batch entries, heads, key heads) that hold about CHUNK numbers at once in float32: keys, values, scores.

    q: (B, H, Lq, D).
    k: (B, Hkv, Lk, D).
    rows: R, queries of each entry and head.
    """
    (batch, heads), (_, kv_heads, length, dim) = q.shape[:2], k.shape
    group = heads // kv_heads
    each = max(1, CHUNK // (length * (2 * dim + 3 * group * rows)))
    entries, some = max(1, each // kv_heads), min(each, kv_heads)
    for b in range(0, batch, entries):
        for h in range(0, kv_heads, some):
            yield slice(b, b + entries), slice(h * group, (h + some) * group), slice(h, h + some)


def gather_rows(t: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Gather the rows of t: (B, H, L, D) at rows: (B, H, R) as (B, H, R, D)."""
    return t.gather(2, rows[..., None].expand(-1, -1, -1, t.shape[3]))


def gather_mask_rows(mask, batch: slice, heads: slice, rows: torch.Tensor) -> torch.Tensor:
    """Gather the rows of a mask: (1|B, 1|H, 1|Lq, Lk) at rows: (b, h, R) as (b, h, R, Lk)."""
    mask = mask[batch if mask.shape[0] > 1 else slice(None), heads if mask.shape[1] > 1 else slice(None)]
    entry, head = (torch.arange(n, device=rows.device) * (size > 1) for n, size in zip(rows.shape[:2], mask.shape))
    return mask[entry[:, None, None], head[:, None], rows if mask.shape[2] > 1 else torch.zeros_like(rows)]


def combine_masks(seen: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor | None:
    """Return one mask of a pattern's, bool, and the host's, bool or added to the scores; None without any."""
    if seen is None or mask is None:
        return mask if seen is None else seen
    return mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, -torch.inf)


def grouped_attention(q, k, v, mask, scale: float | None) -> torch.Tensor:
    """Compute attention without repeating keys: (b, H, R, D).

    q: (b, H, R, D).
    k: (b, Hkv, Lk, D).
    v: (b, Hkv, Lk, D).
    mask: (b, H, R, Lk), or None.
    scale: factor of the scores; None: 1 / sqrt(D).
    """
    shape, (_, heads, rows, _) = (k.shape[1], -1), q.shape
    if mask is not None:
        mask = mask.unflatten(1, shape).flatten(2, 3)
    out = scaled_dot_product_attention(q.unflatten(1, shape).flatten(2, 3), k, v, mask, scale)
    return out.unflatten(2, (heads // k.shape[1], rows)).flatten(1, 2)


def worst_error(wrong: torch.Tensor, truth: torch.Tensor) -> float:
    """Compute ||wrong|| / ||truth|| in the batch entry where it is largest; ||wrong|| where truth is zero.

    wrong: output - truth, (B, ...).
    truth: (B, ...).
    """
    error, size = (t.to(widest(t.device)).square().flatten(1).sum(1) for t in (wrong, truth))
    if len(error) > PARTS:
        error, size = (torch.stack([part.sum() for part in t.tensor_split(PARTS)]) for t in (error, size))
    return (error / torch.where(size > 0, size, 1.0)).sqrt().max().item()
