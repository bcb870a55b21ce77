"""Every pattern of the table on every engine of the table, over drawn values, grids, heads, spans and masks.

An engine refuses with a reason, or equals float64 attention under the pattern's own mask. Neither table is repeated
here: a row that is added to one of them is tried at once, and one that is wrong fails.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import pattern_rows
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pattern_calls import MASKS, Call, tried
from video_calls import first_runner

from attention import patterns as p
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.sparse import engine_registry

torch.set_num_threads(1)

# An axis of one, primes, whole tiles, and more blocks of queries and keys than one.
GRIDS = ((9, 8, 8), (5, 7, 3), (1, 11, 13), (4, 1, 17), (3, 9, 1), (4, 6, 6), (2, 10, 17))
AXES = st.one_of(st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from(GRIDS))
PATTERNS = (*pattern_rows.defaults(), *pattern_rows.EDGES)


CALLS = st.builds(
    Call,
    heads=st.sampled_from(((2, 2), (4, 2), (4, 4), (2, 1))),
    dim=st.sampled_from((16, 17, 24, 64, 64, 128)),
    batch=st.integers(1, 2),
    before=st.integers(0, 5),
    after=st.integers(0, 5),
    mask=st.sampled_from((None, None, *MASKS)),
    part=st.one_of(st.none(), st.tuples(st.floats(0, 1), st.floats(0, 1))),
    block=st.integers(0, 1),
    scale=st.sampled_from((None, 0.4)),
    seed=st.integers(0, 1000),
)


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
    for grid, before in product((*GRIDS, (22, 20, 20)), (0, 3)):
        span = Call(before=before).video_span(grid)
        whole = torch.empty(1, 2, span.length, 16)
        runner = first_runner(pattern, span, describe(whole, whole, whole))
        assert not isinstance(runner, Reason) or (runner.endswith("is dense") and grid[0] < 22), runner


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
