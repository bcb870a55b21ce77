"""A call of attention under a pattern, tried on every engine of the table and compared with float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial

import engines_here
import pattern_truth
import torch
from video_calls import first_runner

from attention import patterns as p
from attention import sparse
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2
from attention.core.tokens import BOTH, Span, VideoSpan

# Rounding in float32, where few keys have all the weight; a key too many or too few is off by a percent and more.
EXACT = 1e-5
MASKS = (None, "keys", "bool", "rows", "heads")


@dataclass(frozen=True)
class Call:
    """One call of attention: the heads of q and of k, the head size, what stands around the video, who masks it.

    part: which queries it has, as shares of the sequence; block: of the model.
    """

    heads: tuple[int, int] = (2, 2)
    dim: int = 16
    batch: int = 1
    before: int = 0
    after: int = 0
    mask: str | None = None
    part: tuple[float, float] | None = None
    block: int = 0
    scale: float | None = None
    seed: int = 0

    def video_span(self, grid) -> VideoSpan:
        span = VideoSpan(grid, self.before, BOTH, (Span("text", self.before),), (Span("audio", self.after),))
        if self.part is None:
            return span
        first, last = sorted(round(share * span.length) for share in self.part)
        return replace(span, part=(first, max(last, first + 1)) if first < span.length else None)

    def tensors(self, span: VideoSpan):
        """q, k, v and the mask or None."""
        random = torch.Generator().manual_seed(self.seed)
        (heads, kv_heads), length = self.heads, span.length
        q, k, v = (torch.randn(self.batch, n, length, self.dim, generator=random) for n in (heads, kv_heads, kv_heads))
        rows = slice(*(span.part or (0, length)))
        shape = {"rows": (1, 1, length, length), "heads": (self.batch, heads, length, length)}.get(
            self.mask, (self.batch, 1, 1, length)
        )
        mask = None if self.mask is None else torch.randn(shape, generator=random)
        if self.mask == "bool":
            mask = (mask > -0.5).index_fill(-1, torch.tensor([0]), True)
        return q[:, :, rows], k, v, mask if mask is None or shape[2] == 1 else mask[:, :, rows]


def tried(pattern, grid, call: Call) -> dict[str, str | None]:
    """Engine -> why it refuses, or None where it ran and was compared. AssertionError names all of the call."""
    span, found = call.video_span(grid), {}
    q, k, v, mask = call.tensors(span)

    @cache
    def wanted(all_blocks: bool):
        seen = p.TopBlocks(100) if all_blocks else pattern
        return pattern_truth.attention(seen, span, q, k, v, call.scale, call.block, mask)

    for engine in sparse.TABLE:
        way = engines_here.way_of(engine)
        how = {"engine": engine.name, "block": call.block}
        with way.here():
            runner = first_runner(pattern, span, way.told(describe(q, k, v, mask, scale=call.scale)), **how)
            if isinstance(runner, Reason):
                assert runner.strip(), f"{engine.name} refuses without a reason"
                found[engine.name] = runner
                continue
            found[engine.name] = None
            assert set(runner.engines) == {engine.name}
            run, what = partial(runner, scale=call.scale, mask=mask), f"{pattern} on {grid}, {call}"
            check(engine.name, run, q, k, v, wanted(way.all_blocks), what)
    return found


def check(name: str, run, q, k, v, wanted, what: str) -> None:
    """Fails unless an engine gives what is wanted, twice, and leaves its inputs as they are.

    A query that sees no key at all gets zeros or NaN, which the router catches: never another one's values.
    """
    given = [t.clone() for t in (q, k, v)]
    out, again = run(q, k, v), run(q, k, v)
    assert out.shape == q.shape and out.dtype == q.dtype
    blind = wanted.isnan()
    assert (out[blind].isnan() | (out[blind] == 0)).all(), f"{name} gives values to who sees nothing, {what}"
    error = relative_l2(out.masked_fill(blind, 0), wanted.masked_fill(blind, 0))
    assert error <= EXACT, f"{name} is {100 * error:.3g} percent off the mask of {what}"
    assert all(map(torch.equal, given, (q, k, v))), f"{name} wrote into its inputs"
    assert again.nan_to_num().equal(out.nan_to_num()), f"{name} is not deterministic"
