"""Float64 attention under a pattern's own mask, from the words of attention/patterns, and none of the engines' code."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from math import ceil, prod

import torch

from attention import patterns as p
from attention.core.grid import CUBE, HILBERT, MORTON, RASTER, coordinates, order
from attention.core.tokens import VideoSpan
from attention.patterns.blocks import KEYS, QUERIES, split_heads
from attention.patterns.spec import parts_of, relation_of, turns_of


def attention(pattern, video_span: VideoSpan, q, k, v, scale=None, block: int = 0, mask=None) -> torch.Tensor:
    """softmax(scale * Q K^T + mask) V over what the pattern lets see, (B, H, Lq, D) float64.

    q: (B, H, Lq, D), the queries of video_span.part; k, v: (B, Hkv, L, D), raster order.
    mask: as the host has it, (1|B, 1|H, 1|Lq, L), bool or added to the scores.
    block: the model's, for patterns that take turns.
    """
    q, k, v = q.double(), k.double(), v.double()
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    bias = torch.zeros(1, 1, 1, k.shape[2], dtype=torch.float64) if mask is None else added(mask)
    parts = ((w, turns_of(part, video_span.grid, block)[0]) for w, part in parts_of(pattern, block))
    return sum(weight * _one(part, video_span, (q, k, v), scale, bias) for weight, part in parts)


def added(mask) -> torch.Tensor:
    """What a mask adds to the scores, float64."""
    if mask.dtype != torch.bool:
        return mask.double()
    return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)


def _one(pattern, video_span: VideoSpan, tensors, scale: float, bias) -> torch.Tensor:
    q, k, v = tensors
    keys, rows, (first, last) = slice(video_span.start, video_span.stop), video_span.queries, video_span.cut
    scores = q @ k.mT * scale + bias
    if relation_of(pattern, video_span.grid) is None:
        kept = chosen(pattern, q[:, :, rows], k[:, :, keys], video_span.grid, scale, first)
        seen = of_tokens(pattern, kept, video_span.grid, first, last)
    else:
        kept, seen = None, fixed(pattern, video_span.grid)[first:last]
    scores[:, :, rows, keys] = scores[:, :, rows, keys].masked_fill(~seen, -torch.inf)
    if kept is not None and pattern.tail:
        more = means(pattern, kept, (k[:, :, keys], v[:, :, keys]), bias[:, :, 0, keys], video_span.grid, first, last)
        mean_k, mean_v, weight = more
        tail = torch.full((*scores.shape[:3], mean_k.shape[2]), -torch.inf, dtype=torch.float64)
        tail[:, :, rows] = q[:, :, rows] @ mean_k.mT * scale + weight
        scores, v = torch.cat([scores, tail], 3), torch.cat([v, mean_v], 2)
    return scores.softmax(-1) @ v


def fixed(pattern, grid) -> torch.Tensor:
    """The mask of a pattern whose mask follows from the grid, (N, N) bool."""
    index = torch.arange(prod(grid))
    return relation_of(pattern, grid).mask_mod(0, 0, index[:, None], index[None, :])


@cache
def standing(grid, name: str) -> torch.Tensor:
    """Raster indices in the order `name`, (N,): box after box of CUBE, or along a curve."""
    if name == HILBERT:  # its steps are those of the curve: tests/attention/core/test_grid.py
        return order(grid, HILBERT, CUBE)[0]

    def bits(place) -> int:
        return sum((at >> bit & 1) << 3 * bit + 2 - axis for axis, at in enumerate(place) for bit in range(10))

    def box(place) -> tuple:
        return tuple(at // size for at, size in zip(place, CUBE))

    by = {RASTER: lambda place: 0, MORTON: bits}.get(name, box)
    return torch.tensor(sorted(range(prod(grid)), key=lambda i: (by(coordinates(grid, i)), i)))


def cut(tokens: int, size: int) -> list[slice]:
    """So many tokens in blocks of `size`, the last one ragged."""
    return [slice(a, min(b, tokens)) for a, b in pairwise(range(0, (ceil(tokens / size) + 1) * size, size))]


def standing_queries(pattern, grid, first: int, last: int) -> list[torch.Tensor]:
    """The queries of each block, where a call has those from `first` to before `last`: as many as are there."""
    to = standing(grid, pattern.order)
    to = to[(to >= first) & (to < last)]
    return [to[one] for one in cut(len(to), QUERIES)]


def chosen(pattern, q, k, grid, scale: float, first: int = 0) -> torch.Tensor:
    """Which blocks of keys each block of queries sees, (B, H, nq, nk) bool: by the means of blocks, and those in which
    its own tokens are.

    q: (B, H, M, D) of the call's queries from `first` on; k: (B, H, N, D) of the video; in raster order.
    """
    to = standing(grid, pattern.order)
    queries, keys = standing_queries(pattern, grid, first, first + q.shape[2]), [to[one] for one in cut(len(to), KEYS)]
    mean_q = torch.stack([q[:, :, one - first].mean(2) for one in queries], 2)
    mean_k = torch.stack([k[:, :, one].mean(2) for one in keys], 2)
    scores, lengths = mean_q @ mean_k.mT * scale, torch.tensor([len(one) for one in keys]).double()
    groups = split_heads(pattern)
    size = q.shape[1] // len(groups)
    found = torch.cat(
        [by_words(one, scores[:, i * size : (i + 1) * size], lengths) for i, one in enumerate(groups)], dim=1
    )
    for row, some in enumerate(queries):
        for column, others in enumerate(keys):
            if torch.isin(some, others).any():
                found[:, :, row, column] = True
    return found


def by_words(pattern, scores, lengths) -> torch.Tensor:
    """What a pattern keeps of each row of scores, a block at a time; of a pattern without words here, what it says."""
    words = {p.TopBlocks: _best, p.MassBlocks: _fewest, p.AdaptiveBlocks: _standing_out}.get(type(pattern))
    if words is None:
        return pattern.select(scores, lengths)
    flat = scores.flatten(0, -2)
    kept = [words(pattern, row.tolist(), lengths.tolist()) for row in flat]
    return torch.tensor([[i in some for i in range(len(lengths))] for some in kept]).view(scores.shape)


def _best(pattern, scores: list, lengths: list) -> set:
    """The `keep` percent with the highest scores, one at least."""
    number = max(1, ceil(round(len(scores) * pattern.keep / 100, 9)))
    return set(sorted(range(len(scores)), key=lambda i: -scores[i])[:number])


def _fewest(pattern, scores: list, lengths: list) -> set:
    """The fewest that hold `mass` percent of the pooled attention."""
    weights = (torch.tensor(scores).double() + torch.tensor(lengths).double().log()).softmax(0).tolist()
    kept, held = set(), 0.0
    for i in sorted(range(len(scores)), key=lambda i: -weights[i]):
        if pattern.mass < 100 and held >= pattern.mass / 100:
            break
        kept.add(i)
        held += weights[i]
    return kept


def _standing_out(pattern, scores: list, lengths: list) -> set:
    """Those more than `tau` standard deviations above the mean."""
    mean = sum(scores) / len(scores)
    deviation = (sum((score - mean) ** 2 for score in scores) / len(scores)) ** 0.5
    return {i for i, score in enumerate(scores) if score - mean > pattern.tau * deviation}


def of_tokens(pattern, kept, grid, first: int, last: int) -> torch.Tensor:
    """Blocks as tokens: (B, H, M, N) bool in raster order, of the queries from `first` to before `last`."""
    to, n = standing(grid, pattern.order), prod(grid)
    seen = torch.zeros(*kept.shape[:2], last - first, n, dtype=torch.bool)
    for row, queries in enumerate(standing_queries(pattern, grid, first, last)):
        for column, keys in enumerate(cut(n, KEYS)):
            seen[:, :, (queries - first)[:, None], to[keys]] = kept[:, :, row, column, None, None]
    return seen


def means(pattern, kept, kv, bias, grid, first: int, last: int):
    """What stands for blocks that are not seen: their mean keys and values, and what is added to their scores.

    bias: (1|B, 1|H, N), what a mask of keys adds. A key that it weighs less is less of its block's mean and number.
    Returns (B, H, nk, D) twice and (B, H, M, nk), of the queries from `first` to before `last`.
    """
    to, n = standing(grid, pattern.order), prod(grid)
    weights = bias.exp().expand(*kv[0].shape[:2], -1)
    blocks = [to[keys] for keys in cut(n, KEYS)]
    number = torch.stack([weights[:, :, some].sum(2) for some in blocks], 2)
    made = [
        torch.stack([(t * weights[..., None])[:, :, some].sum(2) for some in blocks], 2)
        / number.clamp(min=1e-300)[..., None]
        for t in kv
    ]
    open_to = number.log()[:, :, None].masked_fill(kept, -torch.inf)
    by_token = torch.empty(*kept.shape[:2], last - first, len(blocks), dtype=torch.float64)
    for row, queries in enumerate(standing_queries(pattern, grid, first, last)):
        by_token[:, :, queries - first] = open_to[:, :, row, None]
    return *made, by_token
