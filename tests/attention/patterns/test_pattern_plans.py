"""What planning a pattern costs on a real video: no work over all pairs, bounded memory, and it stops when asked."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pattern_masks import FIXED, GRIDS, dense
from torch.utils._python_dispatch import TorchDispatchMode
from video_calls import LARGE, compare, draw, first_runner, place_of

from attention import patterns as p
from attention.core import interruption
from attention.core.geometry import describe
from attention.core.grid import order
from attention.core.tokens import BOTH, VideoSpan
from attention.patterns.density import density
from attention.patterns.spec import relation_of
from attention.patterns.tiles import count_pairs, mask_in
from attention.sparse import gather_tiles, tile_layout
from attention.sparse.engine import Task
from attention.sparse.runner import forget_engine_plans, plan_of_all

torch.set_num_threads(1)

JOINED = (
    p.Union((p.SlidingTile(), p.Radial())),
    p.Union((p.Neighbourhood(3, 10, 10), p.Radial(50), p.TemporalWindow(3))),
    p.Intersection((p.Neighbourhood(9, 50, 50), p.Radial(50))),
    p.Union((p.Spatial(), p.Temporal())),
    p.Union((p.Intersection((p.Radial(step=1), p.SlidingTile())), p.Temporal())),
    p.Radial(100, 1, 1),
    p.Neighbourhood(),
    p.SlidingTile(1, 0.1, 0.1, (1, 1, 1)),
)
REAL = (21, 45, 80)


@pytest.fixture(autouse=True)
def nothing_planned():
    forget_engine_plans()
    yield
    forget_engine_plans()
    interruption.set_interrupt_check()


class Work(TorchDispatchMode):
    """How many numbers all operators gave."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, torch.Tensor) and one._base is None:
                self.numbers += one.numel()
        return out


def held(value, seen) -> int:
    """Bytes of all tensors below a plan, each storage once."""
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        new = storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        return storage.nbytes() * new
    if isinstance(value, (tuple, list)):
        return sum(held(one, seen) for one in value)
    if hasattr(value, "__dataclass_fields__"):
        return sum(held(getattr(value, name), seen) for name in value.__dataclass_fields__)
    return 0


def task_of(pattern, grid) -> Task:
    return Task(pattern, VideoSpan(grid, 0, BOTH))


@pytest.mark.parametrize("pattern", JOINED, ids=repr)
def test_a_plan_looks_at_a_small_part_of_the_pairs_and_keeps_little(pattern):
    grid = REAL
    with Work() as work:
        made = gather_tiles.plan(task_of(pattern, grid), torch.device("cpu"), torch.float32)
        density(pattern, grid)
    assert work.numbers < 0.1 * prod(grid) ** 2
    assert len(made.groups) <= tile_layout.MOST_BOXES
    # Of tiles whose masks are made in the call the groups hold the tokens already.
    assert not any(tile.queries.numel() + tile.keys.numel() for group in made.groups for tile in group.unmasked)
    assert held((made, tile_layout.layout(pattern, grid)), set()) < tile_layout.MASK_BYTES + (160 << 20)


@pytest.mark.parametrize("after", [0, 1, 40])
@pytest.mark.parametrize("pattern", JOINED[:3], ids=repr)
def test_a_plan_is_stopped_and_made_anew(pattern, after):
    """Whatever the check raises comes through, in the first call too, and nothing half made is kept."""

    class Stop(BaseException):
        pass

    asked = []

    def check():
        asked.append(None)
        if len(asked) > after:
            raise Stop

    video_span = place_of(LARGE, 3)
    tensors = draw(video_span, heads=1, kv_heads=1)
    runner = first_runner(pattern, video_span, describe(*tensors), engine="tiles")
    interruption.set_interrupt_check(check)
    with pytest.raises(Stop):
        runner(*tensors)
    assert len(asked) == after + 1
    interruption.set_interrupt_check()
    compare(pattern, video_span, tensors, "tiles")


@settings(max_examples=150)
@given(FIXED, GRIDS, st.data())
def test_masks_from_the_axes_are_the_masks(pattern, grid, data):
    """For any box of queries and any keys."""
    relation, truth = relation_of(pattern, grid), dense(pattern, grid)
    box = []
    for length in grid:
        start = data.draw(st.integers(0, length - 1))
        box.append((start, data.draw(st.integers(start + 1, length))))
    keys = torch.tensor(sorted(data.draw(st.sets(st.integers(0, prod(grid) - 1), min_size=1, max_size=40))))
    t, y, x = (torch.arange(*span) for span in box)
    queries = ((t[:, None, None] * grid[1] + y[:, None]) * grid[2] + x).flatten()
    for kind in (torch.int64, torch.int32):
        assert mask_in(relation, tuple(box), keys.to(kind)).equal(truth[queries][:, keys])


@settings(max_examples=100)
@given(FIXED, GRIDS)
def test_pairs_are_counted_without_looking_at_each(pattern, grid):
    assert count_pairs(relation_of(pattern, grid)) == int(dense(pattern, grid).sum())


@settings(max_examples=60)
@given(FIXED, GRIDS, st.tuples(*[st.integers(1, 4)] * 3))
def test_boxes_of_one_signature_see_alike(pattern, grid, tile):
    from attention.core.grid import boxes, tokens_of

    relation, met = relation_of(pattern, grid), {}
    for box in boxes(grid, tile):
        reach, full = relation.key_boxes(box)
        if full:
            continue
        keys = torch.cat([tokens_of(grid, seen) for seen in reach]).unique()
        mask = mask_in(relation, box, keys)
        first = met.setdefault(relation.mask_key(box), mask)
        assert first.equal(mask)


def test_what_was_planned_is_forgotten():
    video_span = place_of((4, 5, 6), 2)
    tensors = draw(video_span)
    first_runner(p.Neighbourhood(3), video_span, describe(*tensors))(*tensors)
    kept = (plan_of_all, tile_layout.layout, relation_of, order)
    assert all(one.cache_info().currsize for one in kept)
    forget_engine_plans()
    assert not any(one.cache_info().currsize for one in kept)
    compare(p.Neighbourhood(3), video_span, tensors)


class Alone:
    """A relation in which every box sees itself alone: the smaller a box, the less time it takes."""

    grid, tile_sizes = (32, 64, 64), ((1, 1, 1),)

    def key_boxes(self, box):
        return [box], True


def test_the_best_tile_leaves_a_plan_that_can_be_made():
    tile = tile_layout.best_tile(Alone())
    assert prod(-(-n // size) for n, size in zip(Alone.grid, tile)) <= tile_layout.MOST_BOXES
    assert prod(tile) == prod(Alone.grid) // tile_layout.MOST_BOXES


class Everything:
    """A relation in which every box sees the whole grid: whatever the tile, as much is gathered for each query."""

    grid, tile_sizes = (16, 16, 16), ((1, 1, 1),)

    def key_boxes(self, box):
        return [tuple((0, length) for length in self.grid)], True


def test_of_boxes_that_gather_alike_larger_ones_take_less_time():
    times = [tile_layout.estimate(Everything(), (1, 1, size)) for size in (1, 2, 4, 8, 16)]
    assert times == sorted(times, reverse=True) and times[0] > times[-1] > prod(Everything.grid)
    assert prod(tile_layout.best_tile(Everything())) == tile_layout.MOST_QUERIES


def test_boxes_that_see_alike_share_one_mask():
    """Radial attention far from the clip's begin and from the borders: the same bands, moved by some rows."""
    relation = relation_of(p.Radial(keep=20.0, step=1), (3, 64, 4))
    boxes = [((1, 2), (row, row + 2), (0, 4)) for row in range(24, 40, 2)]
    assert not any(relation.key_boxes(box)[1] for box in boxes)
    assert len({relation.mask_key(box) for box in boxes}) == 1


@pytest.mark.parametrize("context_tokens", [0, 40])
@pytest.mark.parametrize("boxes", [1, 300])
def test_what_is_gathered_at_once_fits_its_scratch(monkeypatch, boxes, context_tokens):
    """Keys and values of the boxes and heads that run at once; one box of one head may be larger."""
    scratch, dim, run, heads = 1 << 22, 32, 4, 24
    monkeypatch.setattr(gather_tiles, "scratch_bytes", lambda device, size: scratch)
    group = gather_tiles.BoxGroup(torch.zeros(boxes, 64, dtype=torch.int), torch.zeros(boxes, 50, dtype=torch.int))
    q, told, sizes = torch.zeros(heads, 64, dim), set(), []
    for rows, members in gather_tiles.chunks(group, heads, dim, run, context_tokens, q):
        some = (range(heads)[rows], range(boxes)[members])
        sizes.append(len(some[0]) * len(some[1]) * 2 * (50 * run + context_tokens) * dim * q.element_size())
        assert not told & {(a, b) for a in some[0] for b in some[1]}
        told |= {(a, b) for a in some[0] for b in some[1]}
    assert len(told) == heads * boxes and max(sizes) <= scratch
    assert boxes == 1 or scratch / 8 < max(sizes), "and no less than could be is gathered at once"
