"""Attention along the axes of a video: who sees whom, rotary positions, masks, backends, gradients, files."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from attention.backends import registry
from attention.blocks import (
    CrossAttention,
    Dims,
    FactorisedAttention,
    SpatialAttention,
    SpatioTemporalAttention,
    TemporalAttention,
    TemporalBlocks,
    TemporalConfig,
    weights,
)
from attention.blocks.rope import axial_tables, rotate
from attention.blocks.temporal import TemporalBlock, number_frames
from attention.core.geometry import describe
from attention.core.reference import relative_l2, scaled_dot_product_attention

GRID = (3, 2, 4)
N = math.prod(GRID)
DIMS = Dims(20, 2, 16, pairs=(3, 2, 2))
FRAME = torch.arange(N) // 8
PLACE = torch.arange(N) % 8
CONFIG = TemporalConfig("LTXV", 20, 2, 16, 24, (0, 3))
Q = torch.zeros(6, 2, 8, 16)
RUNS_HERE = [name for name in registry.names() if registry.why_not(name, describe(Q, Q, Q)) is None]


def seeded(make, *args, seed=0, **kwargs):
    """A module with random weights, none of them zero."""
    module = make(*args, **kwargs)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(torch.randn(weight.shape, generator=random) * 0.3 + ("norm" in name))
    return module


def tokens(batch=2, channels=20, count=N, seed=1):
    return torch.randn(batch, count, channels, generator=torch.Generator().manual_seed(seed))


FACTORISED = partial(FactorisedAttention, DIMS, DIMS)
OVER_GRID = {
    "spatial": (partial(SpatialAttention, DIMS), FRAME[:, None] == FRAME),
    "temporal": (partial(TemporalAttention, DIMS), PLACE[:, None] == PLACE),
    "joint": (partial(SpatioTemporalAttention, DIMS), torch.ones(N, N, dtype=torch.bool)),
    # One place reaches its frame in the first half, and from there every frame in the second.
    "factorised": (FACTORISED, torch.ones(N, N, dtype=torch.bool)),
}
each_over_grid = pytest.mark.parametrize("name", OVER_GRID)


@each_over_grid
def test_who_depends_on_whom(name):
    make, seen = OVER_GRID[name]
    block, x = seeded(make), tokens(batch=1).requires_grad_()
    out = block(x, GRID)
    assert out.shape == x.shape
    rows = [torch.autograd.grad(out[0, n].sum(), x, retain_graph=True)[0][0].abs().sum(-1) > 0 for n in range(N)]
    assert torch.equal(torch.stack(rows), seen)


@pytest.mark.parametrize("name", ["spatial", "temporal", "joint"])
def test_equals_dense_attention_with_that_mask(name):
    make, seen = OVER_GRID[name]
    block, x = seeded(make), tokens()
    joint = SpatioTemporalAttention(DIMS)
    joint.load_state_dict(block.state_dict())

    def masked(q, k, v, mask):
        assert mask is None
        return scaled_dot_product_attention(q, k, v, seen)

    assert relative_l2(block(x, GRID), joint(x, GRID, attend=masked)) < 1e-5


def test_joint_on_one_frame_is_spatial():
    spatial, joint = seeded(SpatialAttention, DIMS), SpatioTemporalAttention(DIMS)
    joint.load_state_dict(spatial.state_dict())
    x = tokens(count=8)
    assert torch.equal(joint(x, (1, 2, 4)), spatial(x, (1, 2, 4)))


def test_joint_on_one_place_is_temporal():
    temporal, joint = seeded(TemporalAttention, DIMS), SpatioTemporalAttention(DIMS)
    joint.load_state_dict(temporal.state_dict())
    x = tokens(count=5)
    assert torch.equal(joint(x, (5, 1, 1)), temporal(x, (5, 1, 1)))


def test_factorised_is_spatial_then_temporal():
    block, x = seeded(FACTORISED), tokens()
    inside = block.spatial(x, GRID)
    assert torch.equal(block(x, GRID), inside + block.temporal(x + inside, GRID))


@each_over_grid
def test_a_hidden_token_is_seen_by_nobody(name):
    block, x, mask = seeded(OVER_GRID[name][0]), tokens(), torch.ones(2, N, dtype=torch.bool)
    mask[1, 5] = False
    other = x.clone()
    other[:, 5] += 1.0
    change = (block(x, GRID, mask) - block(other, GRID, mask)).abs().sum(-1)
    assert not change[1, torch.arange(N) != 5].any()
    assert change[0, torch.arange(N) != 5].any(), "in the first sample it is not hidden"


def test_cross_attention_is_the_reference_over_the_prompt():
    dims = Dims(20, 2, 16, source=12)
    block, x, prompt = seeded(CrossAttention, dims), tokens(), tokens(channels=12, count=5)
    mask = torch.tensor([[True] * 5, [True, False, True, True, False]])
    got = block(x, prompt, mask)
    heads = block.heads
    q, k, v = (t.unflatten(-1, (2, 16)) for t in (heads.to_q(x), heads.to_k(prompt), heads.to_v(prompt)))
    q, k, v = (t.transpose(1, 2) for t in (heads.q_norm(q), heads.k_norm(k), v))
    out = scaled_dot_product_attention(q, k, v, mask[:, None, None])
    assert relative_l2(got, heads.to_out(out.transpose(1, 2).flatten(2))) < 1e-5


# --- rotary positions ------------------------------------------------------------------------------------------------


def test_scores_depend_on_distances_alone():
    grid, random = (4, 4, 4), torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=random).expand(2, 1, 64, 1, 16)
    tables = axial_tables(grid, (3, 2, 2), 100.0, 16)
    scores = (rotate(q, *tables)[0, :, 0] @ rotate(k, *tables)[0, :, 0].T).reshape(*grid, *grid)
    for a, b in (((0, 1, 2), (1, 1, 1)), ((2, 0, 0), (3, 3, 3)), ((1, 2, 3), (0, 0, 1))):
        step = tuple(min(3 - max(i, j), 1) for i, j in zip(a, b))
        moved = tuple(i + s for i, s in zip(a, step)) + tuple(j + s for j, s in zip(b, step))
        torch.testing.assert_close(scores[a + b], scores[moved])
    assert scores.flatten(3).flatten(0, 2).std() > 0.1, "positions make no difference"


def test_pairs_turn_by_their_axis_and_frequency():
    cos, sin = axial_tables((2, 3, 1), (2, 1, 0), 100.0, 10)
    angles = torch.atan2(sin, cos)[:, 0].reshape(2, 3, 1, 5)
    torch.testing.assert_close(angles[1, 2, 0], torch.tensor([1.0, 0.1, 2.0, 0.0, 0.0]))


def test_temporal_attention_tells_the_order_of_frames():
    block, x = seeded(TemporalAttention, Dims(20, 2, 16, pairs=(8, 0, 0))), tokens()
    backwards = x.unflatten(1, (3, 8)).flip(1).flatten(1, 2)
    turned = block(backwards, GRID).unflatten(1, (3, 8)).flip(1).flatten(1, 2)
    assert relative_l2(turned, block(x, GRID)) > 1e-3
    still = seeded(TemporalAttention, Dims(20, 2, 16))
    turned = still(backwards, GRID).unflatten(1, (3, 8)).flip(1).flatten(1, 2)
    assert relative_l2(turned, still(x, GRID)) < 1e-5, "without positions it must not"


# --- backends, gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", RUNS_HERE)
@each_over_grid
def test_runs_on_every_backend_of_the_cpu(name, backend):
    block, x = seeded(OVER_GRID[name][0]).requires_grad_(False), tokens()
    exact = block(x, GRID, attend=scaled_dot_product_attention)
    assert relative_l2(block(x, GRID, attend=partial(registry.attend, backend=backend)), exact) < 1e-5


@pytest.mark.parametrize("name", [*OVER_GRID, "block"])
def test_every_weight_gets_a_gradient(name):
    block = seeded(OVER_GRID[name][0] if name != "block" else partial(TemporalBlock, CONFIG))
    block(tokens(), GRID).square().mean().backward()
    assert [key for key, p in block.named_parameters() if p.grad is None or not p.grad.any()] == []


@each_over_grid
def test_layers_of_the_host(name, comfy_host):
    import comfy.ops

    make, x = OVER_GRID[name][0], tokens()
    ours, theirs = seeded(make), make(ops=comfy.ops.manual_cast)
    theirs.load_state_dict(ours.state_dict())
    assert all(type(m).__module__ == "comfy.ops" for m in theirs.modules() if hasattr(m, "weight"))
    with torch.no_grad():
        assert relative_l2(theirs(x, GRID), ours(x, GRID)) < 1e-6
        half = theirs.half()(x.bfloat16(), GRID)
    assert half.dtype == torch.bfloat16 and relative_l2(half, ours(x, GRID)) < 0.03


# --- what does not fit -----------------------------------------------------------------------------------------------


@each_over_grid
def test_tokens_that_do_not_fill_the_grid_are_refused(name):
    with pytest.raises(ValueError, match=r"\(2, 23, 20\).*\(3, 2, 4\)"):
        OVER_GRID[name][0]()(tokens(count=23), GRID)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Dims(20, 2, 15), "even"),
        (lambda: Dims(20, 2, 8, pairs=(2, 2, 1)), "4 pairs"),
        (lambda: CrossAttention(DIMS), "no pair can turn"),
        (lambda: FactorisedAttention(DIMS, Dims(24, 2, 16)), "20 channels and temporal 24"),
        (lambda: TemporalConfig("", 20, 2, 16, 24, (0, 0)), "different block numbers"),
        (lambda: TemporalConfig("", 20, 2, 16, 24, (0,), frames="list"), "'list'"),
        (lambda: TemporalConfig("", 20, 2, 16, 0, (0,)), "hidden is 0"),
    ],
)
def test_impossible_sizes_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


# --- temporal blocks -------------------------------------------------------------------------------------------------


def test_an_untrained_block_adds_exact_zeros():
    assert not TemporalBlock(CONFIG)(tokens() * 100, GRID).any()


def test_a_block_knows_the_number_of_a_frame():
    """Rotary attention alone gives equal frames equal outputs."""
    same = tokens(count=8).repeat(1, 3, 1)
    change = seeded(TemporalBlock, CONFIG)(same, GRID).unflatten(1, (3, 8))
    assert (change[:, 0] - change[:, 1]).abs().amax() > 1e-2
    assert number_frames(4, 5).shape == (4, 5)


def test_each_block_of_a_model_has_its_own_weights():
    blocks = TemporalBlocks(CONFIG)
    with torch.no_grad():
        blocks.blocks["3"].feed_forward.outward.bias.fill_(1.0)
    assert not blocks(0, tokens(), GRID).any() and torch.equal(blocks(3, tokens(), GRID), torch.ones(2, N, 20))


MODULES = {
    **{name: make for name, (make, _) in OVER_GRID.items()},
    "cross": partial(CrossAttention, Dims(20, 2, 16, source=12)),
    "blocks": partial(TemporalBlocks, CONFIG),
}


@pytest.mark.parametrize("name", MODULES)
def test_files_bring_everything_back(name, tmp_path):
    module = seeded(MODULES[name])
    weights.save(module, tmp_path / "a.safetensors", torch.float32, note={"steps": 3})
    back = weights.load(tmp_path / "a.safetensors")
    assert type(back) is type(module) and str(back) == str(module)
    before, after = module.state_dict(), back.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    inputs = (tokens(), tokens(channels=12, count=5)) if name == "cross" else (tokens(), GRID)
    inputs = (3, *inputs) if name == "blocks" else inputs
    assert torch.equal(back(*inputs), module(*inputs))
