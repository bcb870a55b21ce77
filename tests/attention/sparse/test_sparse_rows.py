"""Every pattern of the table on every engine of the table, over drawn values, grids, heads, spans, masks and orders.

An engine refuses with a reason, or equals float64 attention under the pattern's own mask. Neither table is repeated
here: a row that is added to one of them is tried at once, and one that is wrong fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product

import engines_here
import pattern_rows
import pattern_truth
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from video_calls import first_runner

from attention import patterns as p
from attention import sparse
from attention.core import grid as g
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2
from attention.core.tokens import BOTH, Span, VideoSpan
from attention.sparse import engine_registry

torch.set_num_threads(1)

# Rounding in float32, where few keys have all the weight; a key too many or too few is off by a percent and more.
EXACT = 1e-5
# An axis of one, primes, whole tiles, and more blocks of queries and keys than one.
GRIDS = ((9, 8, 8), (5, 7, 3), (1, 11, 13), (4, 1, 17), (3, 9, 1), (4, 6, 6), (2, 10, 17))
AXES = st.one_of(st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from(GRIDS))
PATTERNS = (*pattern_rows.defaults(), *pattern_rows.EDGES)
MASKS = (None, "keys", "bool", "rows", "heads")


@dataclass(frozen=True)
class Call:
    """One call of attention: the heads of q and of k, the head size, what stands around the video, who masks it.

    part: which queries it has, as shares of the sequence; order: how the video's tokens stand; block: of the model.
    """

    heads: tuple[int, int] = (2, 2)
    dim: int = 16
    batch: int = 1
    before: int = 0
    after: int = 0
    mask: str | None = None
    part: tuple[float, float] | None = None
    order: str = g.RASTER
    block: int = 0
    scale: float | None = None
    seed: int = 0

    @property
    def possible(self) -> Call:
        """This call, as the host makes it: it moves no tokens of a call in parts or with a mask."""
        return self if self.order == g.RASTER else replace(self, part=None, mask=None)

    def video_span(self, grid) -> VideoSpan:
        span = VideoSpan(grid, self.before, BOTH, (Span("text", self.before),), (Span("audio", self.after),))
        if self.part is None:
            return span
        first, last = sorted(round(share * span.length) for share in self.part)
        return replace(span, part=(first, max(last, first + 1)) if first < span.length else None)

    def tensors(self, span: VideoSpan):
        """q, k, v and the mask or None, in raster order."""
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


CALLS = st.builds(
    Call,
    heads=st.sampled_from(((2, 2), (4, 2), (4, 4), (2, 1))),
    dim=st.sampled_from((16, 17, 24, 64, 64, 128)),
    batch=st.integers(1, 2),
    before=st.integers(0, 5),
    after=st.integers(0, 5),
    mask=st.sampled_from((None, None, *MASKS)),
    part=st.one_of(st.none(), st.tuples(st.floats(0, 1), st.floats(0, 1))),
    order=st.sampled_from((g.RASTER, g.RASTER, *g.ORDERS)),
    block=st.integers(0, 1),
    scale=st.sampled_from((None, 0.4)),
    seed=st.integers(0, 1000),
).map(lambda call: call.possible)


def in_order(call: Call, span: VideoSpan, *tensors):
    """Tensors whose third axis is the sequence, with the video's tokens in the call's order."""
    if call.order == g.RASTER:
        return tensors
    to = g.order(span.grid, call.order, g.CUBE)[0]
    order = torch.cat([torch.arange(span.start), span.start + to, torch.arange(span.stop, span.length)])
    return tuple(t[:, :, order] for t in tensors)


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
        how = {"engine": engine.name, "block": call.block, "order": call.order, "tile": g.CUBE}
        with way.here():
            runner = first_runner(pattern, span, way.told(describe(q, k, v, mask, scale=call.scale)), **how)
            if isinstance(runner, Reason):
                assert runner.strip(), f"{engine.name} refuses without a reason"
                found[engine.name] = runner
                continue
            found[engine.name] = None
            assert set(runner.engines) == {engine.name}
            given = in_order(call, span, q, k, v, wanted(way.all_blocks))
            what = f"{pattern} on {grid}, {call}"
            check(engine.name, partial(runner, scale=call.scale, mask=mask), *given, what)
    return found


def check(name: str, run, q, k, v, wanted, what: str) -> None:
    """That an engine gives what is wanted, twice, and leaves its inputs as they are."""
    given = [t.clone() for t in (q, k, v)]
    out, again = run(q, k, v), run(q, k, v)
    assert out.shape == q.shape and out.dtype == q.dtype
    error = relative_l2(out, wanted)
    assert error <= EXACT, f"{name} is {100 * error:.3g} percent off the mask of {what}"
    assert all(map(torch.equal, given, (q, k, v))), f"{name} wrote into its inputs"
    assert again.equal(out), f"{name} is not deterministic"


@cache
def by_hand(pattern) -> dict[str, set]:
    """Engine -> its reasons over GRIDS, None among them where it ran."""
    found = {name: set() for name in engine_registry.names()}
    for index, grid in enumerate(GRIDS):
        before, after = ((0, 0), (4, 0), (0, 3), (2, 5))[index % 4]
        call = Call(before=before, after=after, block=index % 2, dim=64)
        for name, reason in tried(pattern, grid, call).items():
            found[name].add(reason)
    return found


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_defaults_and_edges(pattern):
    """On every engine; and on the CPU one takes it wherever it is not dense, which it is not on every grid."""
    by_hand(pattern)
    for grid, before in product((*GRIDS, (20, 20, 20)), (0, 3)):
        span = Call(before=before).video_span(grid)
        whole = torch.empty(1, 2, span.length, 16)
        runner = first_runner(pattern, span, describe(whole, whole, whole))
        assert not isinstance(runner, Reason) or (runner.endswith("is dense") and grid[0] < 20), runner


@pytest.mark.parametrize("engine", engine_registry.names())
def test_an_engine_runs_something(engine):
    """Of the patterns by hand; or it says why it runs nothing at all on this machine."""
    reasons = set().union(*(by_hand(pattern)[engine] for pattern in PATTERNS))
    if None not in reasons:
        pytest.skip("; ".join(sorted(reason for reason in reasons if not reason.endswith("is dense"))))


@pytest.mark.parametrize("row", p.TABLE, ids=lambda row: row.name)
def test_any_call(row):
    """With values, grids and calls that nobody chose, on every engine."""
    ran = set()

    # The message names all of a call, and calls are small: no search for a smaller one.
    @settings(max_examples=30, phases=(Phase.reuse, Phase.generate))
    @given(st.randoms(use_true_random=False), AXES, CALLS)
    def right_or_refused(random, grid, call):
        ran.update(name for name, reason in tried(pattern_rows.drawn(row, random), grid, call).items() if not reason)

    right_or_refused()
    assert ran, "no call was for any engine"
