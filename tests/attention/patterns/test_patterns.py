"""Patterns: their masks against definitions written out token by token, and their tile layouts against their masks."""

from math import log2, prod

import pattern_rows
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pattern_masks import FIXED, GRIDS, SOME, dense

from attention import patterns as p
from attention.core.grid import boxes, coordinates
from attention.patterns import blocks
from attention.patterns.density import density, flop_ratio
from attention.patterns.spec import parts_of, relation_of
from attention.patterns.tiles import count_pairs, tile_of

torch.set_num_threads(1)


def places(grid):
    return [tuple(int(c) for c in coordinates(grid, i)) for i in range(prod(grid))]


def around(i, size, length):
    """NATTEN's window of `size` positions around i, moved inwards at the ends."""
    size = min(size, length)
    start = min(max(i - size // 2, 0), length - size)
    return range(start, start + size)


def share(percent, length):
    return min(length, max(1, round(length * percent / 100)))


def in_window(pattern, grid, q, k):
    sizes = (pattern.frames, share(pattern.height, grid[1]), share(pattern.width, grid[2]))
    return all(b in around(a, size, n) for a, b, size, n in zip(q, k, sizes, grid))


def in_tiles(pattern, grid, q, k):
    sizes = (min(grid[0], pattern.frames), share(pattern.height, grid[1]), share(pattern.width, grid[2]))
    return all(
        b // step in around(a // step, n if size == n else max(1, round(size / step)), -(-n // step))
        for a, b, size, step, n in zip(q, k, sizes, pattern.tile, grid)
    )


def in_band(pattern, grid, q, k):
    (t, y, _), (s, row, _), (_, rows, columns) = q, k, grid
    each, far = min(rows, -(-pattern.step // columns)), abs(t - s)
    steps = -(-rows // each)
    if far == 0 or (s == 0 and pattern.first_frame):
        return True
    size = steps * pattern.keep / 100 / 2 ** int(log2(max(1, far // pattern.frames)))
    if size < 1:
        # A band never gets thinner than a step in one of a million frames: with 0 percent too.
        return far % -(-1 // max(size, 1e-9)) == 0 and y // each == row // each
    return row // each in around(y // each, round(size), steps)


# What each pattern says of itself, for one query and one key, (t, y, x) both.
WORDS = {
    p.Spatial: lambda pattern, grid, q, k: q[0] == k[0],
    p.Temporal: lambda pattern, grid, q, k: q[1:] == k[1:],
    p.TemporalWindow: lambda pattern, grid, q, k: k[0] in around(q[0], pattern.frames, grid[0]),
    p.Neighbourhood: in_window,
    p.SlidingTile: in_tiles,
    p.Radial: in_band,
}


@settings(max_examples=80)
@given(pattern_rows.any_of(tuple(WORDS)), st.tuples(*[st.integers(1, 5)] * 3))
def test_masks_follow_their_words(pattern, grid):
    sees = WORDS[type(pattern)]
    pairs = [[sees(pattern, grid, q, k) for k in places(grid)] for q in places(grid)]
    assert dense(pattern, grid).equal(torch.tensor(pairs))


@settings(max_examples=150)
@given(FIXED, GRIDS, st.tuples(*[st.integers(1, 5)] * 3))
def test_layout_is_the_mask(pattern, grid, tile):
    """The tiles of any box size hold every query once, every key that it sees, and nothing else."""
    relation, truth = relation_of(pattern, grid), dense(pattern, grid)
    seen, met, known = torch.zeros_like(truth), [], {}
    for one in (tile_of(relation, box, known) for box in boxes(grid, tile)):
        assert one.keys.diff().min() > 0 if len(one.keys) > 1 else True, "keys are not ascending, or twice there"
        flags = torch.ones(len(one.queries), len(one.keys), dtype=torch.bool) if one.full else one.seen
        assert one.full or not one.seen.all(), "a full tile with a mask"
        assert flags.any(0).all(), "a key that nobody sees"
        seen[one.queries[:, None], one.keys[None, :]] = flags
        met.append(one.queries)
    assert torch.cat(met).sort().values.equal(torch.arange(prod(grid)))
    assert seen.equal(truth)
    assert count_pairs(relation) == int(truth.sum())
    assert relation.density == pytest.approx(truth.double().mean().item())


@settings(max_examples=60)
@given(FIXED, GRIDS)
def test_tile_sizes_are_boxes_that_see_alike_or_single_parts(pattern, grid):
    """The layout multiplies `tile_sizes`: each is a box size, and every token sees itself whatever the pattern."""
    relation = relation_of(pattern, grid)
    assert relation.tile_sizes and all(len(step) == 3 and min(step) >= 1 for step in relation.tile_sizes)
    assert dense(pattern, grid).diagonal().all()
    if not hasattr(relation, "parts"):
        assert all(relation.key_boxes(box)[1] for box in boxes(grid, relation.tile_sizes[0]))


@settings(max_examples=40)
@given(SOME, GRIDS)
def test_unions_and_intersections(parts, grid):
    masks = torch.stack([dense(part, grid) for part in parts])
    assert dense(p.Union(parts), grid).equal(masks.any(0))
    assert dense(p.Intersection(parts), grid).equal(masks.all(0))


@pytest.mark.parametrize("make", [p.Union, p.Intersection])
@pytest.mark.parametrize("parts", [(), (p.TopBlocks(),), (p.Spatial(), p.Factorised())])
def test_what_cannot_be_combined(make, parts):
    with pytest.raises(ValueError, match="takes patterns with a fixed mask"):
        make(parts)


def test_radial_halves():
    """Density of frame pairs: all of the own frame, then half for each doubling of distance; all of the first."""
    grid = (17, 16, 2)
    by_frame = dense(p.Radial(step=1), grid).view(17, 32, 17, 32).double().mean(dim=(1, 3))
    assert by_frame[16].tolist() == [1] + [1 / 8] * 8 + [1 / 4] * 4 + [1 / 2] * 2 + [1, 1]
    assert by_frame[8, 9:].tolist() == [1, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 8]
    # 16 rows in steps of 8: at distance 4 a band would be half a step, so it is a whole step in every second frame.
    thin = dense(p.Radial(step=16, first_frame=False), grid).view(17, 32, 17, 32).double().mean(dim=(1, 3))
    assert thin[0, :8].tolist() == [1, 1, 1 / 2, 1 / 2, 1 / 2, 0, 1 / 2, 0]


def test_factorised_alternates_or_averages():
    assert parts_of(p.Factorised(), 0) == ((1.0, p.Spatial()),)
    assert parts_of(p.Factorised(), 1) == ((1.0, p.Temporal()),)
    assert parts_of(p.Factorised(weight=0.25), 1) == ((0.25, p.Spatial()), (0.75, p.Temporal()))
    assert parts_of(p.Factorised(weight=1.0), 1) == ((1.0, p.Spatial()),)
    assert parts_of(p.Radial(), 3) == ((1.0, p.Radial()),)
    with pytest.raises(ValueError, match="weight 50, takes 0 to 1"):
        p.Factorised(weight=50)


def test_density_and_flops():
    grid = (4, 5, 6)
    assert density(p.Spatial(), grid) == pytest.approx(1 / 4)
    assert density(p.Temporal(), grid) == pytest.approx(1 / 30)
    assert density(p.Factorised(), grid) == pytest.approx((1 / 4 + 1 / 30) / 2)
    assert density(p.Factorised(weight=0.5), grid) == pytest.approx(1 / 4 + 1 / 30)
    assert density(p.TopBlocks(keep=30), grid) == pytest.approx(0.3)
    assert density(p.MassBlocks(), grid) is None and flop_ratio(p.MassBlocks(), grid, 3) is None
    # 120 video tokens and 30 others: the others' rows and columns are dense.
    assert flop_ratio(p.Spatial(), grid, 30) == pytest.approx((120 * 30 + 120 * 30 + 30 * 150) / 150**2)


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 200, 512])
@pytest.mark.parametrize(
    "pattern", [p.TopBlocks(keep=25), p.MassBlocks(mass=50), p.MassBlocks(mass=100), p.AdaptiveBlocks(tau=0.4)]
)
def test_selected_blocks(pattern, tokens):
    torch.manual_seed(tokens)
    q, k = torch.randn(2, 1, 3, tokens, 8)
    seen = blocks.select_blocks(pattern, q, k)
    queries, keys = -(-tokens // blocks.QUERIES), -(-tokens // blocks.KEYS)
    assert seen.shape == (1, 3, queries, keys)
    pooled_q = [q[:, :, i : i + blocks.QUERIES].mean(2) for i in range(0, tokens, blocks.QUERIES)]
    parts = [k[:, :, i : i + blocks.KEYS] for i in range(0, tokens, blocks.KEYS)]
    for head in range(3):
        for i in range(queries):
            score = torch.stack([pooled_q[i][0, head] @ part[0, head].mean(0) * 8**-0.5 for part in parts])
            own = {j for j in range(keys) if j // 2 == i}
            if isinstance(pattern, p.TopBlocks):
                wanted = set(score.argsort(descending=True)[: -(-keys * 25 // 100)].tolist())
            elif isinstance(pattern, p.AdaptiveBlocks):
                least = score.mean() + 0.4 * score.std(correction=0)
                wanted = {j for j in range(keys) if score[j] > least}
            else:
                weight = (score + torch.tensor([part.shape[2] for part in parts]).float().log()).softmax(0)
                wanted, total = set(), 0.0
                for j in weight.argsort(descending=True).tolist():
                    wanted |= {j} if total < pattern.mass / 100 else set()
                    total += weight[j].item()
            found = set(seen[0, head, i].nonzero().flatten().tolist())
            assert found == wanted | own or (pattern == p.MassBlocks(mass=100) and len(found) == keys)


@settings(max_examples=20)
@given(GRIDS, st.sampled_from(["raster", "tile", "morton", "hilbert"]))
def test_a_block_mask_is_symmetric_under_its_order(grid, order):
    """Whoever shares a block of keys is seen together, and the own block is always seen."""
    torch.manual_seed(0)
    pattern = p.TopBlocks(keep=1, order=order)
    q, k = torch.randn(2, 1, 2, prod(grid), 8)
    seen = blocks.mask(pattern, q, k, grid)
    to, _ = blocks.block_order(pattern, grid)
    arranged = seen[:, :, to][..., to]
    for i in range(0, prod(grid), blocks.KEYS):
        part = arranged[..., i : i + blocks.KEYS]
        assert (part == part[..., :1]).all()
    assert seen.diagonal(dim1=2, dim2=3).all()


def test_rows_are_told_apart_and_are_keys():
    """By name; equal ones are one key of what is kept; and a mask is fixed or chosen, never both."""
    assert len({row.name for row in p.TABLE}) == len(p.TABLE)
    for pattern in pattern_rows.defaults():
        again = type(pattern)(*pattern.__dict__.values())
        assert again == pattern and hash(again) == hash(pattern)
        assert hasattr(pattern, "on") != hasattr(pattern, "select")
