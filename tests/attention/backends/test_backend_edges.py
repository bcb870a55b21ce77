"""Calls at the edge: huge batches, no tokens, queries that see nothing, exactness asked for. Right, or refused."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
import truth

from attention.backends import registry, sage, sdpa
from attention.backends.spec import EVERY_DEVICE
from attention.core.geometry import Geometry, describe
from attention.core.tensor_layout import from_heads, to_mask
from attention.routing.router import Router
from attention.routing.rules import IN_ORDER, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

torch.set_num_threads(1)

F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64
ON_CPU = [name for name in registry.names() if registry.get(name).limits.runs_on("cpu")]
EXACT = "the model asks for exact attention here"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@dataclass(frozen=True)
class Edge:
    """sizes: (B, H, Lq, Lk, D). reason: part of why a backend refuses, by name; "all": every one refuses with it."""

    name: str
    sizes: tuple[int, int, int, int, int]
    dtype: torch.dtype = F32
    precision: torch.dtype | None = None
    low_precision: bool | None = None
    gain: float = 1.0
    reason: dict[str, str] | None = None


EDGES = (
    # ComfyUI's own attention_pytorch splits such batches on NVIDIA, and then gives (B, L, H*D) whatever was asked for.
    Edge("batch over 2^15", (2**15 + 1, 1, 2, 3, 8)),
    Edge(
        "batch over 2^16",
        (2**16 + 1, 1, 2, 3, 8),
        reason={
            "sdpa flash": "batch is 65537, takes up to 65535",
            "flex": "batch x heads is 65537, takes up to 65535",
        },
    ),
    Edge("no batch", (0, 2, 4, 5, 8), reason={"all": "empty tensors"}),
    Edge("no queries", (1, 2, 0, 5, 8), reason={"all": "empty tensors"}),
    Edge("no keys", (1, 2, 4, 0, 8), reason={"all": "empty tensors"}),
    Edge("one of each", (1, 1, 1, 1, 1)),
    # Scores beyond float16's 65504: right only when computed in float32.
    Edge("float32 asked for", (1, 2, 20, 30, 64), F16, precision=F32, gain=30.0),
    Edge("float32 asked for, bfloat16", (1, 2, 20, 30, 64), BF16, precision=F32),
    Edge("nothing quantised", (1, 2, 20, 30, 64), F16, low_precision=False),
    Edge("float64 asked for", (1, 2, 20, 30, 64), F32, precision=F64, reason={"flex": "dtype float64"}),
)


@pytest.mark.parametrize("split_out", [False, True], ids=["joined", "split"])
@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.name)
@pytest.mark.parametrize("name", [*ON_CPU, registry.AUTO])
def test_right_or_refused(name, edge, split_out):
    batch, heads, q_len, kv_len, head_dim = edge.sizes
    q, k, v = (torch.randn(batch, heads, n, head_dim) for n in (q_len, kv_len, kv_len))
    q, k, v = (q * edge.gain).to(edge.dtype), (k * edge.gain).to(edge.dtype), v.to(edge.dtype)
    answer, stats = torch.empty(1, 1, 1, 1), RunStats()
    options = {"transformer_options": {CONTEXT: stats.context}}
    if edge.low_precision is not None:
        options["low_precision_attention"] = edge.low_precision
    router = Router((Rule(backend=name, choice=IN_ORDER),))
    out = router(lambda *a, **kw: answer, q, k, v, heads, None, edge.precision, True, split_out, **options)
    (decision,) = stats.decisions.values()
    refusals = edge.reason or {}
    expected = refusals.get("all") or refusals.get(name)
    if expected:
        wanted = "no backend accepts this call" if name == registry.AUTO else expected
        assert out is answer and decision.fell_back == 1 and wanted in decision.reason
        return
    assert decision.reason is None and decision.used == (sdpa.AUTO.name if name == registry.AUTO else name)
    assert out.dtype == edge.dtype and out.shape == from_heads(q, split_out).shape
    out = out if split_out else out.unflatten(-1, (heads, -1)).transpose(1, 2)
    exactly = truth.attention(q, k, v)
    assert truth.excess(out, exactly, 2 * exactly.size) < 1


@pytest.mark.parametrize("rows", [1, 2**15 + 5])
def test_a_mask_is_split_with_its_batch(rows):
    q, k, v = (torch.randn(2**15 + 5, 1, n, 4) for n in (2, 3, 3))
    mask = torch.rand(rows, 1, 1, 3) < 0.5
    mask[..., 0] = True
    assert torch.equal(sdpa.attend(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


MASKS = ("bool", "-inf", "lowest", "lowest of float32")


def hide(kind, seen, dtype):
    """The mask of `kind` that shows what is True in `seen`."""
    if kind == "bool":
        return seen
    wide = F32 if kind == "lowest of float32" else dtype
    low = -torch.inf if kind == "-inf" else torch.finfo(wide).min
    return torch.zeros(seen.shape, dtype=wide).masked_fill(~seen, low)


@pytest.mark.parametrize("dtype", [F64, F32, F16, BF16], ids=str)
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("name", ON_CPU)
def test_a_query_that_sees_nothing(name, kind, dtype):
    """Its row is finite where torch's own is, and made of values; every other row is right."""
    q, k, v = (torch.randn(1, 2, 9, 16).to(dtype) for _ in range(3))
    seen = torch.rand(1, 1, 9, 9) < 0.6
    seen[..., 0], seen[0, 0, 3] = True, False
    ours = to_mask(hide(kind, seen, dtype), dtype)
    reason = registry.why_not(name, describe(q, k, v, ours))
    if reason:
        assert reason == "dense mask" or "dtype" in reason
        return
    out = registry.load(name)(q, k, v, mask=ours)
    torchs = F.scaled_dot_product_attention(q, k, v, attn_mask=ours)
    assert out[:, :, 3].isfinite().all() or torchs[:, :, 3].isnan().any()
    slack = 1 + torch.finfo(dtype).eps
    assert (out[:, :, 3].abs() <= v.abs().amax(dim=2) * slack).all()
    seen[0, 0, 3] = True
    rest = [row for row in range(9) if row != 3]
    exactly = truth.attention(q[:, :, rest], k, v, seen[:, :, rest])
    assert truth.excess(out[:, :, rest], exactly, 2 * exactly.size) < 1


def test_numbers_of_a_mask_beyond_float16_stay_finite():
    """Of either sign: a row of which one is infinite has no softmax. What hides a key stays infinite."""
    ours = to_mask(torch.tensor([[0.5, 1e30, -1e30, -torch.inf]]), F16)
    most = torch.finfo(F16).max
    assert ours.dtype == F16 and ours.tolist() == [[[[0.5, most, -most, -torch.inf]]]]


def test_the_kernel_computes_in_the_precision_asked_for(monkeypatch):
    """With the mask; and the answer comes back as the model's tensors are."""
    seen = []

    def spy(q, k, v, mask=None, scale=None):
        seen.extend(t.dtype for t in (q, k, v, mask))
        return sdpa.attend(q, k, v, mask, scale)

    monkeypatch.setitem(registry._LOADED, "sdpa", spy)
    q = torch.randn(1, 2, 5, 8, dtype=F16)
    mask = torch.zeros(1, 1, 5, 5, dtype=F16)
    out = Router((Rule("sdpa"),))(None, q, q, q, 2, mask, F32, True, True)
    assert seen == [F32] * 4 and out.dtype == F16


HOPPER = Geometry(1, 32, 32, 6144, 6144, 128, BF16, "cuda", capability=(9, 0))
BLACKWELL = replace(HOPPER, capability=(12, 0))
LOSSY = [name for name in registry.names() if not registry.get(name).limits.exact]


@pytest.mark.parametrize("change", [{"low_precision": False}, {"high_precision": True}], ids=str)
@pytest.mark.parametrize("call", [HOPPER, BLACKWELL], ids=["Hopper", "Blackwell"])
@pytest.mark.parametrize("name", LOSSY)
def test_no_quantised_kernel_where_exactness_is_asked_for(monkeypatch, name, call, change):
    monkeypatch.setattr(sage, "major_version", lambda: 2)
    backend = registry.get(name)
    assert backend.refuses(BLACKWELL) is None, "else the next line shows nothing"
    assert backend.refuses(replace(call, **change)) == EXACT


def test_auto_takes_no_quantised_kernel_where_exactness_is_asked_for(monkeypatch):
    monkeypatch.setattr(sage, "major_version", lambda: 2)
    for name in registry.names():
        monkeypatch.setitem(registry._LOADED, name, lambda q, k, v, mask=None, scale=None: q)
    assert set(LOSSY) & set(registry.candidates(HOPPER)[0])
    for change in ({"low_precision": False}, {"high_precision": True, "dtype": F32}):
        assert not set(LOSSY) & set(registry.candidates(replace(HOPPER, **change))[0])


@pytest.mark.parametrize("name", registry.names())
def test_batches_beyond_a_cuda_grid(monkeypatch, name):
    """A kernel launches one block for each of the batch: the row splits such a batch, or it says no."""
    monkeypatch.setattr(sage, "major_version", lambda: 2)
    small = replace(BLACKWELL if name == "sage 3 fp4" else HOPPER, heads=1, kv_heads=1, q_len=16, kv_len=16)
    assert registry.get(name).refuses(replace(small, batch=65535)) is None
    reason = registry.get(name).refuses(replace(small, batch=65536))
    if registry.get(name).limits.devices != EVERY_DEVICE:
        assert "65536, takes up to 65535" in reason
    else:
        assert reason is None, "made of torch's own operators, it runs wherever they do"


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
@pytest.mark.parametrize("name", ON_CPU)
def test_exact_under_the_hosts_settings(name, dtype):
    """ComfyUI lets torch reduce halves as halves in its unfused kernel, for the whole process."""
    q, k, v = (torch.randn(1, 2, 64, 64) for _ in range(3))
    q, k, v = (q * 60).to(dtype), (k * 60).to(dtype), v.to(dtype)
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        out = registry.load(name)(q, k, v)
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)
    assert truth.excess(out, truth.attention(q, k, v)) < 1
