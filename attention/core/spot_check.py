"""Whether a kernel's output is right: compared with float32 attention on some queries of every batch entry and head.

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
from .input_copies import WRITES, InputCopies
from .reason import Reason
from .reference import scaled_dot_product_attention

SAMPLED, MOST, FEWEST = 2048, 128, 3
CHUNK = 1 << 24
# Errors are told for so many parts of a batch: of each entry, where it has no more.
PARTS = 64
GOLDEN = 0.618034


class SpotCheck:
    """Some queries of a call and what attention gives for them.

    q: (B, H, Lq, D), k, v: (B, Hkv, Lk, D). mask: the host's, (1|B, 1|H, 1|Lq, Lk) or None. seen(rows): what else each
    of `rows`, (b, h, R) numbers of queries, sees: None, or (b, h, R, Lk) bool; several with weights are averaged.
    first, last: which queries are looked at.
    """

    def __init__(self, q, k, v, mask=None, scale: float | None = None, seen=((1.0, None),), first=0, last=None):
        self.device, self.kept = q.device, InputCopies(q, k, v, mask)
        self.rows = first + spread(*q.shape[:2], (q.shape[2] if last is None else last) - first, q.device)
        wide = torch.promote_types(q.dtype, torch.float32)
        self.truth = torch.zeros(*self.rows.shape, q.shape[3], dtype=wide, device=q.device)
        for batch, heads, keys in pieces(q, k, self.rows.shape[2]):
            rows = self.rows[batch, heads]
            few, some = picked(q[batch, heads], rows).to(wide), tuple(t[batch, keys].to(wide) for t in (k, v))
            bias = None if mask is None else mask_rows(mask, batch, heads, rows)
            for weight, sees in seen:
                both = joined(None if sees is None else sees(rows), bias)
                self.truth[batch, heads] += weight * grouped(few, *some, both, scale)

    def __call__(self, out: torch.Tensor) -> float:
        """Relative L2 error of out: (B, H, Lq, D), the worst of any batch entry; NaN where it has one."""
        wrong = picked(out, self.rows).to(self.truth.dtype) - self.truth
        return worst(wrong, self.truth)

    def error_of_run(self, run: Callable) -> float | Reason:
        """The error of what run() gives, or why it is out. Whatever it writes into its inputs is undone.

        Where memory is missing our copies go and it has another try.
        """
        for last in (False, True):
            try:
                found, short = self(run()), False
            except Exception as failure:
                found, short = Reason(error_text(failure)), is_out_of_memory(failure)
                free_frames(failure)
            if self.kept.undo():
                return WRITES
            if last or not short:
                break
            self.kept.shelve()
        return found


def spread(batch: int, heads: int, length: int, device) -> torch.Tensor:
    """(B, H, R) numbers of queries below `length`: the first, the last, and others, of each entry and head its own."""
    number = max(FEWEST, min(MOST, SAMPLED // (batch * heads)))
    if length <= number:
        return torch.arange(length, device=device).expand(batch, heads, length)
    shift = (torch.arange(batch * heads, device=device, dtype=torch.float64) * GOLDEN % 1).view(batch, heads, 1)
    between = (torch.arange(number - 2, device=device) + shift) * ((length - 1) / (number - 2))
    ends = (torch.full((batch, heads, 1), n, dtype=torch.long, device=device) for n in (0, length - 1))
    return torch.cat([*ends, between.long()], dim=-1)


def pieces(q, k, rows: int) -> Iterator[tuple[slice, slice, slice]]:
    """(batch entries, heads, key heads) that hold about CHUNK numbers at once: keys and values in float32, scores."""
    (batch, heads), (_, kv_heads, length, dim) = q.shape[:2], k.shape
    group = heads // kv_heads
    each = max(1, CHUNK // (length * (2 * dim + 3 * group * rows)))
    entries, some = max(1, each // kv_heads), min(each, kv_heads)
    for b in range(0, batch, entries):
        for h in range(0, kv_heads, some):
            yield slice(b, b + entries), slice(h * group, (h + some) * group), slice(h, h + some)


def picked(t: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """t: (B, H, L, D), rows: (B, H, R) -> (B, H, R, D)."""
    return t.gather(2, rows[..., None].expand(-1, -1, -1, t.shape[3]))


def mask_rows(mask, batch: slice, heads: slice, rows: torch.Tensor) -> torch.Tensor:
    """(b, h, R, Lk) of mask: (1|B, 1|H, 1|Lq, Lk); rows: (b, h, R)."""
    mask = mask[batch if mask.shape[0] > 1 else slice(None), heads if mask.shape[1] > 1 else slice(None)]
    entry, head = (torch.arange(n, device=rows.device) * (size > 1) for n, size in zip(rows.shape[:2], mask.shape))
    return mask[entry[:, None, None], head[:, None], rows if mask.shape[2] > 1 else torch.zeros_like(rows)]


def joined(seen: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor | None:
    """One mask of a pattern's and the host's."""
    if seen is None or mask is None:
        return mask if seen is None else seen
    return mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, -torch.inf)


def grouped(q, k, v, mask, scale: float | None) -> torch.Tensor:
    """q: (b, H, R, D), k, v: (b, Hkv, Lk, D), mask: (b, H, R, Lk) or None -> (b, H, R, D). Repeats no keys."""
    shape, (_, heads, rows, _) = (k.shape[1], -1), q.shape
    if mask is not None:
        mask = mask.unflatten(1, shape).flatten(2, 3)
    out = scaled_dot_product_attention(q.unflatten(1, shape).flatten(2, 3), k, v, mask, scale)
    return out.unflatten(2, (heads // k.shape[1], rows)).flatten(1, 2)


def worst(wrong: torch.Tensor, truth: torch.Tensor) -> float:
    """||wrong|| / ||truth|| in the entry of the batch where it is largest; ||wrong|| where truth is zero."""
    error, size = (t.double().square().flatten(1).sum(1) for t in (wrong, truth))
    if len(error) > PARTS:
        error, size = (torch.stack([part.sum() for part in t.tensor_split(PARTS)]) for t in (error, size))
    return (error / torch.where(size > 0, size, 1.0)).sqrt().max().item()
