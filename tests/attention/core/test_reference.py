"""The reference is the truth of every other test, so it is compared with torch and with a loop of three lines."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from attention.core import reference
from attention.core.reference import relative_l2, scaled_dot_product_attention

torch.set_num_threads(2)

EXACT = 1e-12
# Relative L2 of a result rounded to its dtype; twice of what was measured over the cases below.
ROUNDING = {torch.float32: 2e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}


def qkv(batch=2, heads=3, kv_heads=None, q_len=7, kv_len=7, head_dim=16, dtype=torch.float64):
    kv_heads = kv_heads or heads
    shapes = ((heads, q_len), (kv_heads, kv_len), (kv_heads, kv_len))
    return tuple(torch.randn(batch, h, n, head_dim, dtype=torch.float64).to(dtype) for h, n in shapes)


def by_rows(q, k, v, bias, scale):
    """One query at a time: out[b, h, i] = sum_j exp(s_j) v_j / sum_j exp(s_j)."""
    out = torch.empty_like(q)
    for b, h, i in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
        weights = ((k[b, h] @ q[b, h, i]) * scale + bias[b, h, i]).exp()
        out[b, h, i] = weights @ v[b, h] / weights.sum()
    return out


def a_bias(q, k):
    return torch.randn(q.shape[0], q.shape[1], q.shape[2], k.shape[2], dtype=torch.float64)


def some_seen(*shape):
    """Bool of `shape` in which every query sees its first key at least."""
    seen = torch.rand(shape) < 0.6
    seen[..., 0] = True
    return seen


LENGTHS = (
    (7, 7),
    (1, 9),  # one query
    (9, 1),  # one key: softmax is 1
    (33, 77),  # text tokens
)


@pytest.mark.parametrize(("q_len", "kv_len"), LENGTHS)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_against_loop(q_len, kv_len, scale):
    q, k, v = qkv(q_len=q_len, kv_len=kv_len)
    bias = a_bias(q, k)
    truth = by_rows(q, k, v, bias, q.shape[-1] ** -0.5 if scale is None else scale)
    assert relative_l2(scaled_dot_product_attention(q, k, v, bias, scale), truth) < EXACT


@pytest.mark.parametrize(("q_len", "kv_len"), LENGTHS)
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("mask", ["none", "bool", "float"])
def test_against_torch(q_len, kv_len, scale, mask):
    q, k, v = qkv(q_len=q_len, kv_len=kv_len)
    mask = {"none": None, "bool": some_seen(2, 1, q_len, kv_len), "float": a_bias(q, k)}[mask]
    truth = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    assert relative_l2(scaled_dot_product_attention(q, k, v, mask, scale), truth) < EXACT


@pytest.mark.parametrize("shape", [(1, 1, 1, 9), (2, 1, 1, 9), (1, 3, 5, 9), (2, 1, 5, 9), (5, 9)])
def test_masks_broadcast(shape):
    q, k, v = qkv(q_len=5, kv_len=9)
    mask = some_seen(*shape)
    truth = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.expand(2, 3, 5, 9))
    assert relative_l2(scaled_dot_product_attention(q, k, v, mask), truth) < EXACT


def test_bool_and_infinite_masks_are_one():
    q, k, v = qkv(q_len=5, kv_len=9)
    seen = some_seen(2, 1, 5, 9)
    bias = torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, -torch.inf)
    assert torch.equal(scaled_dot_product_attention(q, k, v, seen), scaled_dot_product_attention(q, k, v, bias))


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_query_that_sees_nothing_gives_zeros(kind):
    q, k, v = qkv(q_len=5, kv_len=9)
    seen = some_seen(2, 3, 5, 9)
    seen[1, 2, 3] = False
    mask = seen if kind == "bool" else torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, -torch.inf)
    out = scaled_dot_product_attention(q, k, v, mask)
    assert out[1, 2, 3].eq(0).all() and torch.isfinite(out).all()
    seen[1, 2, 3, 0] = True
    others = scaled_dot_product_attention(q, k, v, seen)
    assert torch.equal(others[0], out[0]) and not torch.equal(others[1, 2, 3], out[1, 2, 3])


def test_no_keys_at_all_gives_zeros():
    q, k, v = qkv(q_len=5, kv_len=0)
    assert scaled_dot_product_attention(q, k, v).eq(0).all()


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_grouped_queries(kv_heads):
    q, k, v = qkv(heads=6, kv_heads=kv_heads)
    each = 6 // kv_heads
    heads = [F.scaled_dot_product_attention(q[:, h], k[:, h // each], v[:, h // each]) for h in range(6)]
    assert relative_l2(scaled_dot_product_attention(q, k, v), torch.stack(heads, dim=1)) < EXACT


def test_heads_that_do_not_divide_are_refused():
    q, k, v = qkv(heads=6, kv_heads=4)
    with pytest.raises(ValueError, match="6 heads and k has 4"):
        scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("dtype", list(ROUNDING))
def test_keeps_dtype_and_computes_wide(dtype):
    q, k, v = qkv(q_len=64, kv_len=226, head_dim=40, dtype=dtype)
    out = scaled_dot_product_attention(q, k, v)
    truth = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    assert out.dtype == dtype and relative_l2(out, truth) < ROUNDING[dtype]


def test_huge_scores_stay_finite():
    q, k, v = qkv()
    out = scaled_dot_product_attention(q * 1e4, k * 1e4, v)
    winners = (q @ k.transpose(-2, -1)).argmax(dim=-1, keepdim=True)
    assert relative_l2(out, v.take_along_dim(winners, dim=2)) < EXACT


def torch_module(width, context, heads):
    """torch.nn.MultiheadAttention without biases and its weights as our (in, out) matrices."""
    sizes = {} if width == context else {"kdim": context, "vdim": context}
    module = torch.nn.MultiheadAttention(width, heads, bias=False, batch_first=True, dtype=torch.float64, **sizes)
    if module.in_proj_weight is None:
        weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    else:
        weights = module.in_proj_weight.chunk(3)
    return module, [w.detach().T for w in (*weights, module.out_proj.weight)]


def test_multi_head_attention_is_torchs():
    x, context = torch.randn(2, 5, 12, dtype=torch.float64), torch.randn(2, 9, 20, dtype=torch.float64)
    module, weights = torch_module(12, 20, heads=3)
    with torch.no_grad():
        truth = module(x, context, context, need_weights=False)[0]
    assert relative_l2(reference.multi_head_attention(x, context, *weights, heads=3), truth) < EXACT
    assert relative_l2(reference.cross_attention(x, context, *weights, heads=3), truth) < EXACT


@pytest.mark.parametrize("masked", [False, True])
def test_self_attention_is_torchs(masked):
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    seen = some_seen(7, 7) if masked else None
    module, weights = torch_module(12, 12, heads=4)
    with torch.no_grad():
        truth = module(x, x, x, need_weights=False, attn_mask=None if seen is None else ~seen)[0]
    assert relative_l2(reference.self_attention(x, *weights, heads=4, mask=seen), truth) < EXACT


def test_relative_l2_sees_a_wrong_gain():
    truth = torch.randn(4, 100)
    # The gain of SageAttention 1.0.6 at 77 keys, which cosine similarity rates 0.9994.
    assert relative_l2(truth * 0.72, truth) == pytest.approx(0.28)
    assert F.cosine_similarity(truth.flatten() * 0.72, truth.flatten(), dim=0) > 0.999


def test_relative_l2_at_the_edges():
    zeros, ones = torch.zeros(4), torch.ones(4)
    assert relative_l2(zeros, zeros) == 0 and relative_l2(torch.ones(0), torch.ones(0)) == 0
    assert relative_l2(ones, zeros) == 2
    # A comparison `error < tolerance` must fail on NaN.
    assert not relative_l2(ones * torch.nan, ones) < 1e9
    # Sums of squares that overflow float16 and float32.
    assert relative_l2(torch.full((4,), 6e4).half(), torch.full((4,), 6e4).half()) == 0
