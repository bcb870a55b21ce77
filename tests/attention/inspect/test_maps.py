"""Views of chosen queries: equal to the rows of the whole softmax, sorted rightly, never more than a tile in memory."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from watched_calls import GRID, JOINT, LENGTH, TEXT, draw, host, options

from attention.core.reference import softmax
from attention.core.site import SELF, SPATIAL, AttentionSite
from attention.core.tensor_layout import expand_kv, to_mask
from attention.core.tokens import BOTH, Span, Tokens, VideoSpan
from attention.inspect import maps as maps_module
from attention.inspect.map_summary import summarise_views
from attention.inspect.maps import ELSEWHERE, MOST_QUERIES, SAME_FRAME, SAME_PLACE, Query, Watcher, look, tiles
from attention.routing.attention_call import AttentionCall

GRIDS = st.tuples(*[st.integers(1, 5)] * 3)


def whole(q, k, mask=None, scale=None):
    """(B, H, Lq, L): the matrix that maps never make."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q.double() @ expand_kv(k, k, q.shape[1])[0].double().transpose(-2, -1) * scale
    if mask is not None:
        mask = to_mask(mask, torch.float64)
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return softmax(scores)


MASKS = {
    "none": None,
    "key, bool": torch.arange(LENGTH)[None] < LENGTH - 3,
    "dense, bool, per batch": draw(2, LENGTH, LENGTH, seed=3) > -1,
    "added, per head": draw(2, 4, LENGTH, LENGTH, seed=4) * 3,
    "added, -inf, in half": draw(LENGTH, LENGTH, seed=5).masked_fill(draw(LENGTH, LENGTH) > 1, -torch.inf).half(),
}


@pytest.mark.parametrize("heads", [(), ((0, 0),), ((2, None),), ((0, 0), (2, 3))])
@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("name", MASKS)
def test_a_view_is_the_rows_of_the_softmax(name, kv_heads, split, heads, monkeypatch):
    monkeypatch.setattr(maps_module, "TILE_NUMBERS", 64 * 4)  # two tiles
    q, k, mask = draw(2, 4, LENGTH, 8), draw(2, kv_heads, LENGTH, 8, seed=1), MASKS[name]
    tokens, video_span = torch.tensor([0, 17, 59]), JOINT.video_span(SELF, LENGTH, LENGTH)
    truth = whole(q, k, mask, 0.7)[1][:, video_span.start + tokens]
    chosen = [head for head in range(4) if not heads or any(a <= head <= (3 if b is None else b) for a, b in heads)]
    truth = truth[chosen].mean(0)
    flat = (q, k) if split else (t.transpose(1, 2).flatten(2) for t in (q, k))
    q, k = flat
    view = look(
        AttentionCall(host, q, k, k, 4, mask, split_in=split, kw={"scale": 0.7}),
        AttentionSite("", SELF, 0),
        video_span,
        1,
        tokens,
        heads,
    )
    assert (view.weights - truth.mean(0)).abs().max() <= 1e-6
    assert abs(view.weights.sum().item() - 1) <= 1e-5 and abs(sum(view.shares.values()) - 1) <= 1e-5
    assert view.queries == 3 and view.heads == len(chosen)
    expected = {SAME_FRAME: 0.0, SAME_PLACE: 0.0, ELSEWHERE: 0.0, "text": 0.0, "reference": 0.0}
    for row, token in zip(truth, tokens.tolist()):
        for key, weight in enumerate(row.tolist()):
            expected[part_of(key - TEXT, token)] += weight / 3
    assert view.shares == pytest.approx(expected, abs=1e-5)


def part_of(key: int, query: int) -> str:
    """The definition, one key at a time."""
    if not 0 <= key < prod(GRID):
        return "text" if key < 0 else "reference"
    if key // 20 == query // 20:
        return SAME_FRAME
    return SAME_PLACE if key % 20 == query % 20 else ELSEWHERE


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 4), st.integers(0, 99))
def test_the_size_of_a_tile_changes_nothing(size, length, queries, seed):
    q, k = draw(2, queries, 8, seed=seed) * 4, draw(1, length, 8, seed=seed + 1)
    parts = list(tiles(q, k, None, size))
    assert [p.shape[1] for p in parts] == [min(size, length - at) for at in range(0, length, size)]
    truth = torch.softmax(q.double() @ k.double().transpose(1, 2), -1).mean(0)
    assert (torch.cat(parts, 1) - truth).abs().max() <= 1e-5


def test_large_scores_do_not_overflow_and_a_blind_query_gets_zeros():
    q, k = torch.full((1, 2, 4), 1e4), draw(1, 9, 4) * 1e4
    mask = torch.tensor([[[True] * 9, [False] * 9]])
    weights = torch.cat(list(tiles(q, k, mask, 2)), 1)
    assert weights[0].sum() == pytest.approx(1) and not weights[1].any()


class Largest(TorchDispatchMode):
    """The most numbers in any tensor made while it is on."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        # A view of the model's own tensors is no memory.
        own = isinstance(out, torch.Tensor) and out._base is None
        self.numbers = max(self.numbers, out.numel() if own else 0)
        return out


def test_memory_is_that_of_a_tile(monkeypatch):
    monkeypatch.setattr(maps_module, "TILE_NUMBERS", 2**15)
    grid, heads = (8, 16, 16), 2
    length, tokens = prod(grid), Query(frame=1, mask=torch.ones(1, 16, 16)).tokens(grid)
    q = draw(1, heads, length, 4)
    video_span = VideoSpan(grid, 0, BOTH)
    with Largest() as largest:
        view = look(
            AttentionCall(host, q, q, q, heads, split_in=True), AttentionSite("", SELF, 0), video_span, 0, tokens
        )
    assert view.queries == MOST_QUERIES
    # An eighth of what the queries' rows alone would take, 1/128 of the whole matrix.
    assert largest.numbers <= heads * MOST_QUERIES * length // 8
    assert view.numbers <= heads * MOST_QUERIES * 64
    assert (view.weights - whole(q, q)[0][:, tokens].mean((0, 1))).abs().max() <= 1e-6


# --- which queries ---------------------------------------------------------------------------------------------------


def test_the_point_that_nobody_moved_is_the_middle_of_the_first_frame():
    assert Query().tokens((2, 100, 200)).tolist() == [50 * 200 + 100]


@given(GRIDS, st.floats(0, 100), st.floats(0, 100), st.data())
def test_a_point_is_the_token_that_covers_it(grid, x, y, data):
    frame = data.draw(st.integers(0, grid[0] - 1))
    (token,) = Query(x, y, frame).tokens(grid).tolist()
    t, row, column = token // prod(grid[1:]), token // grid[2] % grid[1], token % grid[2]
    assert t == frame
    for at, index, count in ((y, row, grid[1]), (x, column, grid[2])):
        assert index / count * 100 <= at + 1e-9 and at <= (index + 1) / count * 100 + 1e-9


def test_a_mask_marks_the_tokens_it_covers_by_half():
    mask = torch.zeros(1, 40, 50)
    mask[:, 10:26, 20:30] = 1  # row 1, and six tenths of row 2, of column 2
    assert Query(frame=1, mask=mask).tokens(GRID).tolist() == [20 + 7, 20 + 12]
    small = torch.zeros(1, 40, 50)
    small[:, 39, 49] = 1
    assert Query(frame=2, mask=small).tokens(GRID).tolist() == [59]


def test_masks_are_spread_over_the_clip():
    masks = torch.zeros(9, 4, 5)  # three pictures a frame
    masks[6:, 0, 0] = 1
    assert Query(frame=0, mask=masks).tokens(GRID).tolist() == [40]
    assert len(Query(mask=torch.ones(9, 64, 64)).tokens((3, 20, 20))) == MOST_QUERIES


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (Query(frame=3), "frame: 3 is not in this latent, whose frames are 0 to 2."),
        (Query(mask=torch.zeros(1, 8, 8)), "mask: nothing is marked in it."),
    ],
)
def test_a_query_that_is_not_there_gets_a_sentence(query, sentence):
    with pytest.raises(ValueError, match=sentence):
        query.tokens(GRID)


# --- the override ----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(GRIDS, st.integers(0, 6), st.integers(0, 6), st.data())
def test_a_planted_key_is_hot_and_nothing_else(grid, before, after, data):
    tokens = Tokens(grid, (Span("text", before),), (Span("audio", after),))
    length, pick = before + prod(grid) + after, st.integers(0, prod(grid) - 1)
    query, key = data.draw(pick), data.draw(pick)
    t, y, x = query // prod(grid[1:]), query // grid[2] % grid[1], query % grid[2]
    q, k = torch.zeros(2, 1, length, 4), torch.zeros(2, 1, length, 4)
    q[1, 0, before + query, 0] = k[1, 0, before + key, 0] = 10.0
    watcher = Watcher(Query((x + 0.5) / grid[2] * 100, (y + 0.5) / grid[1] * 100, t))
    kw = {"transformer_options": options(tokens, cond_or_uncond=[1, 0])}
    assert watcher(host, q, k, k, 1, skip_reshape=True, **kw) is k
    maps = summarise_views(watcher.views, watcher.query)
    assert int(maps.heat.argmax()) == key and maps.heat.flatten()[key] > 0.999


def test_only_the_positive_half_is_looked_at():
    q = draw(4, 2, LENGTH, 8)
    for parts, row in (([0], 0), ([0, 1], 0), ([1, 0], 2), ([1, 0, 0, 1], 1)):
        watcher = Watcher(Query(50, 50, 1))
        kw = {"transformer_options": options(cond_or_uncond=parts)}
        watcher(host, q, q, q, 2, skip_reshape=True, **kw)
        token = TEXT + 20 + 12
        assert (watcher.views[0].weights - whole(q, q)[row, :, token].mean(0)).abs().max() <= 1e-6
    watcher = Watcher(Query())
    watcher(host, q, q, q, 2, skip_reshape=True, transformer_options=options(cond_or_uncond=[1, 1]))
    assert not watcher.views and not watcher.left_out


def test_the_call_goes_on_as_it_came():
    seen = []

    def foreign(func, *args, **kwargs):
        seen.append((func, args, kwargs))
        return "the result"

    q, mask = draw(1, LENGTH, 16), torch.zeros(LENGTH, LENGTH)
    before = q.clone()
    kw = {"transformer_options": options(), "scale": 0.1, "anything": 1}
    assert Watcher(Query(), previous=foreign)(host, q, q, q, 2, mask=mask, **kw) == "the result"
    ((func, args, kwargs),) = seen
    assert func is host and args[0] is q and args[3] == 2 and kwargs["mask"] is mask and kwargs["anything"] == 1
    assert torch.equal(q, before) and kwargs["transformer_options"] is kw["transformer_options"]


@pytest.mark.parametrize(
    ("tokens", "role", "length", "reason"),
    [
        (JOINT, SELF, LENGTH - 1, "do not fit the grid"),
        (None, SELF, LENGTH, "nothing is known of this model's tokens"),
        (Tokens((3, 4, 5)), SPATIAL, 20, "folds frames or places into the batch"),
        (Tokens((1, 4, 5)), SPATIAL, 20, None),
        (JOINT, "audio self", 9, None),
    ],
)
def test_what_has_no_map_is_told(tokens, role, length, reason):
    watcher, q = Watcher(Query()), draw(3, length, 16)
    watcher(host, q, q, q, 2, transformer_options=options(tokens, role))
    assert [reason in told for told in watcher.left_out.values()] == ([True] if reason else [])
    assert len(watcher.views) == (role == SPATIAL and reason is None)


def test_broken_numbers_have_no_map():
    watcher, q = Watcher(Query()), draw(1, LENGTH, 16)
    watcher(host, q, q * torch.nan, q, 2, transformer_options=options())
    assert watcher.left_out == {"self": "NaN or Inf in q or k"} and not watcher.views


def test_a_head_that_is_not_there_gets_a_sentence():
    q = draw(1, LENGTH, 16)
    with pytest.raises(ValueError, match="heads: 2 is not in the self-attention, whose heads are 0 to 1."):
        Watcher(Query(), ((2, 2),))(host, q, q, q, 2, transformer_options=options())
