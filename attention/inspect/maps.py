"""Where chosen tokens of a video look: their rows of softmax(Q K^T * scale + mask), computed beside the model's own
attention from the same q and k, so whatever kernel runs. Before any pattern or strength that a kernel adds.

Memory is that of one tile of keys: the scores are summed tile by tile, then read again against the sum (Milakov and
Gimelshein 2018, https://arxiv.org/abs/1805.02867). Letters: H heads, Q chosen queries, D head size, L keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F

from ..core.allocation_record import record_paused
from ..core.error_handling import try_twice
from ..core.grid import index_of
from ..core.head_chunks import HeadChunks, spans_of_heads
from ..core.reason import Reason
from ..core.site import CROSS, IMAGE, VIDEO_AUDIO, AttentionSite, site_of
from ..core.tensor_layout import to_mask
from ..core.timing import end_span, start_span
from ..core.tokens import BOTH, KEYS, SIDES, Grid, VideoSpan
from ..routing.attention_call import AttentionCall, Override
from ..routing.decide import inspect
from ..routing.step_context import CONTEXT

# Parts of a self-attention's weights; spans of other tokens follow under their own kinds.
SAME_FRAME, SAME_PLACE, ELSEWHERE = "same frame", "same place, other frames", "elsewhere in other frames"
# What the keys of the other roles are.
KINDS = {CROSS: "text", IMAGE: "image", VIDEO_AUDIO: "audio"}
# A mask may mark every token; an even choice of this many tells the same at a bounded cost.
MOST_QUERIES = 256
# Numbers in the largest buffer: 32 MiB of float32.
TILE_NUMBERS = 2**23


@dataclass(frozen=True)
class Query:
    """Which tokens' view to show.

    x: of a point, percent of the picture's width.
    y: of the point, percent of the picture's height.
    frame: index of a frame of the token grid.
    mask: (M, H, W), 0 to 1, instead of the point: the tokens that it covers by half, the best covered if none is. One
    picture marks tokens of `frame`, several are spread over all frames.
    """

    x: float = 50.0
    y: float = 50.0
    frame: int = 0
    mask: torch.Tensor | None = None

    def tokens(self, grid: Grid) -> torch.Tensor:
        """Find them in `grid`: raster indices, ascending, (Q,), MOST_QUERIES at most. Raises ValueError for none."""
        frames, rows, columns = grid
        if not 0 <= self.frame < frames:
            raise ValueError(f"frame: {self.frame} is not in this latent, whose frames are 0 to {frames - 1}.")
        if self.mask is None:
            y, x = (min(int(at / 100 * n), n - 1) for at, n in ((self.y, rows), (self.x, columns)))
            return torch.tensor([index_of(grid, self.frame, y, x)])
        cover = torch.zeros(grid)
        target = slice(self.frame, self.frame + 1) if len(self.mask) == 1 else slice(None)
        cover[target] = F.adaptive_avg_pool3d(self.mask[None, None].float().cpu(), cover[target].shape)[0, 0]
        if not cover.max() > 0:
            raise ValueError("mask: nothing is marked in it.")
        marked = (cover >= min(0.5, cover.max().item())).flatten().nonzero().flatten()
        if len(marked) <= MOST_QUERIES:
            return marked
        return marked[torch.linspace(0, len(marked) - 1, MOST_QUERIES).round().long()]


@dataclass(frozen=True)
class View:
    """What one attention call's chosen queries look at.

    site: of the call.
    video_span: of the call.
    weights: (L,) on the CPU, mean over queries and heads, sums to 1.
    shares: part -> sum of weights, for self-attention; empty for roles with keys of another kind.
    queries: how many were averaged.
    heads: how many were averaged.
    numbers: of the largest buffer.
    span: see timing.elapsed.
    """

    site: AttentionSite
    video_span: VideoSpan
    weights: torch.Tensor
    shares: dict[str, float]
    queries: int
    heads: int
    numbers: int
    span: object

    @property
    def heat(self) -> torch.Tensor:
        """Return (T, Y, X): the weights on the video's tokens, of self-attention."""
        return self.weights[self.video_span.start : self.video_span.stop].view(self.video_span.grid)


class Watcher(Override):
    """Looks at every call and changes none.

    query: whose view.
    heads: spans (first, last or None), whose mean is taken; empty for all.
    previous: the override found in the slot, or None.
    views: one for each call whose queries are video tokens.
    left_out: role -> why its calls have no view.
    """

    def __init__(self, query: Query, heads: tuple = (), previous=None):
        super().__init__(previous)
        self.query, self.heads = query, heads
        self._chunks = HeadChunks()
        self.views: list[View] = []
        self.left_out: dict[str, str] = {}

    def answer(self, call: AttentionCall) -> torch.Tensor:
        """Look at a call, and answer as without us."""
        self._look(call)
        return self.next(call)

    @record_paused()
    def _look(self, call: AttentionCall) -> None:
        site, video_span, geometry, malformed = inspect(call)
        row = first_positive(call.q.shape[0], call.options)
        if row is None or SIDES.get(site.role, KEYS) == KEYS:
            return
        if malformed is None and 0 in (geometry.q_len, geometry.kv_len):
            malformed = f"it has {geometry.q_len} queries and {geometry.kv_len} keys here"
        reason = malformed or (video_span if isinstance(video_span, Reason) else _folded(video_span, call.options))
        if reason is None:
            tokens = self.query.tokens(video_span.grid)
            inside = (tokens >= video_span.cut[0]) & (tokens < video_span.cut[1])
            if not inside.any():
                return  # another call has them
            reason = None if inside.all() else "the chosen tokens are spread over several calls"
        if reason is None:
            heads, chunk = self.heads, self._chunks.of(site_of(call.options), call.heads)
            if heads and chunk is not None:
                heads = spans_of_heads(heads, chunk, call.heads, site.heads)
                if not heads:
                    return  # another call has them
            view = try_twice(lambda: look(call, site, video_span, row, tokens, heads), call.q.device)
            if isinstance(view, View) and torch.isfinite(view.weights).all():
                self.views.append(view)
                return
            reason = view if isinstance(view, Reason) else "NaN or Inf in q or k"
        self.left_out.setdefault(site.role, reason)


def first_positive(batch: int, options: Mapping) -> int | None:
    """Find the first row of a batch of prompts that has the positive one; None without any.

    options: the host's; its "cond_or_uncond" has 0 for each part of the batch with the positive prompt.
    """
    parts = options.get("cond_or_uncond") or [0]
    return parts.index(0) * (batch // len(parts)) if 0 in parts else None


def _folded(video_span: VideoSpan, options: Mapping) -> Reason | None:
    tokens = options[CONTEXT].tokens
    if video_span.grid in (tokens.grid, *tokens.levels):
        return None
    return Reason("this model folds frames or places into the batch, maps of that are not supported")


def look(
    call: AttentionCall, site: AttentionSite, video_span: VideoSpan, row: int, tokens: torch.Tensor, heads: tuple = ()
) -> View:
    """Compute what some tokens of one batch row look at.

    row: of the batch.
    tokens: (Q,), indices in the grid of `video_span`.
    heads: spans as in Watcher. Raises ValueError for a head that the call lacks.
    """
    begin = start_span(call.q.device)
    q, k, _ = call.to_heads()
    chosen = _chosen(heads, q.shape[1], site.role)
    tokens = tokens.to(q.device)
    rows = video_span.queries.start + tokens - video_span.cut[0]
    mask = _rows_of(call.mask, row, rows, chosen)
    group = q.shape[1] // k.shape[1]
    q, k = q[row], k[row]
    q, k = (q, k) if chosen is None else (q[chosen], k[[head // group for head in chosen]])
    scale = q.shape[-1] ** -0.5 if call.kw.get("scale") is None else call.kw["scale"]
    q = q[:, rows].float() * scale
    size = max(64, TILE_NUMBERS // (q.shape[0] * max(q.shape[1:])))
    weights, shares = survey(tiles(q, k, mask, size), k.shape[1], video_span, tokens)
    numbers = q.shape[0] * max(q.shape[1:]) * min(size, k.shape[1])
    return View(site, video_span, weights.cpu(), shares, len(tokens), len(q), numbers, end_span(begin, q.device))


def _chosen(heads: tuple, count: int, role: str) -> list[int] | None:
    """Return the indices of the heads in the spans `heads`, None for all of them."""
    for first, last in heads:
        if max(first, last or 0) >= count:
            raise ValueError(
                f"heads: {max(first, last or 0)} is not in the {role}-attention, whose heads are 0 to {count - 1}."
            )
    spans = [range(first, count if last is None else last + 1) for first, last in heads]
    return sorted(set().union(*spans)) if spans else None


def _rows_of(mask, row: int, rows: torch.Tensor, chosen: list[int] | None):
    """Return the part of the host's mask for one row of the batch and some queries: (1|H, 1|Q, L), in its own dtype."""
    if mask is None:
        return None
    mask = to_mask(mask, mask.dtype)
    mask = mask[row if mask.shape[0] > 1 else 0]
    if chosen is not None and mask.shape[0] > 1:
        mask = mask[chosen]
    return mask if mask.shape[1] == 1 else mask[:, rows]


def tiles(q: torch.Tensor, k: torch.Tensor, mask, size: int) -> Iterator[torch.Tensor]:
    """Compute softmax weights in tiles of `size` keys: each (Q, up to `size`), mean over the heads.

    q: (H, Q, D), scaled, float32.
    k: (Hkv, L, D), Hkv a divisor of H.
    mask: (1|H, 1|Q, L), bool (True: may be seen) or added. A query that may see nothing gets zeros.
    """

    def scores(start: int) -> torch.Tensor:
        keys = k[:, start : start + size].float()
        out = (q.reshape(len(k), -1, q.shape[-1]) @ keys.transpose(1, 2)).view(*q.shape[:2], -1)
        if mask is None:
            return out
        part = mask[..., start : start + size]
        return out.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else out + part

    starts = range(0, k.shape[1], size)
    total = q.new_full(q.shape[:2], -torch.inf)
    for start in starts:
        total = torch.logaddexp(total, scores(start).logsumexp(-1))
    total = torch.where(total == -torch.inf, 0, total)[..., None]
    for start in starts:
        yield (scores(start) - total).exp().mean(0)


def survey(parts: Iterator[torch.Tensor], length: int, video_span: VideoSpan, tokens: torch.Tensor):
    """Sum up tiles (Q, n) that follow each other: weights (L,), mean over the queries, and their shares.

    length: L.
    tokens: (Q,), the queries as indices in the grid of `video_span`.
    """
    weights, start = torch.zeros(length, device=tokens.device), 0
    in_frame = in_place = torch.zeros((), device=tokens.device)
    plane = prod(video_span.grid[1:])
    for part in parts:
        stop = start + part.shape[1]
        weights[start:stop] = part.mean(0)
        if video_span.side == BOTH:
            index = torch.arange(start, stop, device=tokens.device) - video_span.start
            inside = (index >= 0) & (index < prod(video_span.grid))
            framed = inside & (index // plane == tokens[:, None] // plane)
            placed = inside & ~framed & (index % plane == tokens[:, None] % plane)
            in_frame, in_place = in_frame + (part * framed).sum(), in_place + (part * placed).sum()
        start = stop
    if video_span.side != BOTH:
        return weights, {}
    shares = {SAME_FRAME: in_frame.item() / len(tokens), SAME_PLACE: in_place.item() / len(tokens)}
    video = weights[video_span.start : video_span.stop].sum().item()
    shares[ELSEWHERE] = max(0.0, video - sum(shares.values()))
    for kind, part in spans(video_span):
        shares[kind] = shares.get(kind, 0.0) + weights[part].sum().item()
    return weights, shares


def spans(video_span: VideoSpan) -> Iterator[tuple[str, slice]]:
    """List (kind, where among the keys) of everything in a self-attention's sequence that is not video."""
    at = 0
    for span in video_span.before:
        yield span.kind, slice(at, at + span.length)
        at += span.length
    at = video_span.stop
    for span in video_span.after:
        yield span.kind, slice(at, at + span.length)
        at += span.length


def uniform(video_span: VideoSpan) -> dict[str, float]:
    """Compute the shares of a self-attention that looks at everything alike."""
    frames, plane = video_span.grid[0], prod(video_span.grid[1:])
    counts = {SAME_FRAME: plane, SAME_PLACE: frames - 1, ELSEWHERE: (frames - 1) * (plane - 1)}
    for kind, part in spans(video_span):
        counts[kind] = counts.get(kind, 0) + part.stop - part.start
    return {kind: count / sum(counts.values()) for kind, count in counts.items()}
