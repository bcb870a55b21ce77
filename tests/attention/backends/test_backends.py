"""Every backend, over one table of calls, through the Router and in the host's layouts, against float64.

A backend that is not installed or refuses a call skips with its own reason. What it refuses is in test_refusals.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
import truth
from devices import DEVICES

from attention.backends import registry
from attention.core.geometry import describe
from attention.core.reference import relative_l2
from attention.core.tensor_layout import from_heads, to_heads, to_mask
from attention.routing.router import Router
from attention.routing.rules import ERROR, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

torch.set_num_threads(1)  # tiny tensors: a second thread only waits

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
QUANTISED = 0.03
BATCH = 2


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def seen_by(*shape):
    """Bool of `shape`; every query sees two keys at least, so that no row is empty."""
    seen = torch.rand(shape) < 0.5
    seen[..., :2] = True
    return seen


def lowest(seen, dtype):
    """How the host hides keys: 0 and the most negative number of the dtype, not -inf."""
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def bool_mask(*dims):
    return lambda case, dtype: seen_by(*case.sizes(dims))


def low_mask(*dims, wide=None):
    return lambda case, dtype: lowest(seen_by(*case.sizes(dims)), wide or dtype)


def bias_mask(*dims):
    return lambda case, dtype: torch.randn(case.sizes(dims)).to(dtype)


@dataclass(frozen=True)
class Case:
    """One attention call. mask(case, dtype): the tensor as the host passes it. gain: of q and k.

    storage: how the host's tensors lie in memory.
    """

    name: str
    heads: int = 2
    kv_heads: int = 0
    q_len: int = 64
    kv_len: int = 64
    head_dim: int = 64
    mask: Callable | None = None
    scale: float | None = None
    gain: float = 1.0
    storage: str = "own"

    def sizes(self, dims) -> list[int]:
        named = {"B": BATCH, "H": self.heads, "N": self.q_len, "M": self.kv_len}
        return [named.get(dim, dim) for dim in dims]


CASES = (
    Case("square"),
    *(Case(f"head size {d}", head_dim=d, q_len=48, kv_len=80) for d in (16, 32, 40, 72, 80, 96, 128, 160, 256)),
    # Sage takes these; text length, short of 128 by two, UMT5, CLIP image tokens of Wan I2V, an odd one.
    *(Case(f"{n} keys", kv_len=n, q_len=60, head_dim=64) for n in (77, 126, 226, 257, 333, 512)),
    *(Case(f"{n} queries", q_len=n, kv_len=64) for n in (77, 257)),
    Case("one query", q_len=1, kv_len=33),
    Case("one key", q_len=33, kv_len=1),  # softmax over one number is 1
    Case("odd head size", head_dim=17),  # no video model has it; kernels that pad must refuse or get it right
    Case("grouped", heads=6, kv_heads=2, kv_len=77),
    Case("one key head", heads=4, kv_heads=1),
    Case("key bool", kv_len=77, mask=bool_mask("B", 1, 1, "M")),
    Case("key float", kv_len=77, mask=low_mask("B", 1, 1, "M")),  # text of LTX
    Case("key 3-D", kv_len=77, mask=low_mask(1, 1, "M")),  # Hunyuan joint, Qwen: three axes, no heads
    Case("rows 4-D", kv_len=80, mask=low_mask(1, 1, "N", "M")),  # guides of LTX
    Case("dense float", mask=low_mask("B", 1, "M", "M")),  # refiner of Hunyuan
    Case("dense bool", q_len=33, kv_len=77, mask=bool_mask("B", "H", "N", "M")),
    Case("dense 3-D bool", q_len=33, kv_len=80, mask=bool_mask("B", "N", "M")),
    Case("2-D bool", q_len=33, kv_len=80, mask=bool_mask("N", "M")),
    Case("2-D bias", q_len=33, kv_len=80, mask=bias_mask("N", "M")),  # finite: a lost mask shows at every score
    Case("head bias", kv_len=257, mask=bias_mask(1, "H", "N", "M")),
    Case("wide mask", kv_len=77, mask=low_mask("B", 1, 1, "M", wide=torch.float32)),  # float32's lowest is -inf in fp16
    Case("0 and 1", kv_len=77, mask=lambda case, dtype: seen_by(BATCH, 1, 1, 77).long()),  # tokenizers give integers
    Case("key mask, grouped", heads=4, kv_heads=2, kv_len=77, mask=low_mask("B", 1, 1, "M")),
    Case("scale", scale=0.3),
    Case("scale 1", scale=1.0, head_dim=16),  # models that scale q themselves
    Case("huge", gain=60.0),  # scores up to 1e4 and Q K^T beyond float16's 65504
    Case("views of one buffer", storage="fused"),  # q, k, v of one projection (Flux, Hunyuan, Mochi)
    Case("expanded batch", storage="expanded"),  # stride 0: one latent for cond and uncond
)


def stored(t, storage):
    """The values of `t` as the host may hand them over."""
    if storage == "expanded":
        return t[:1].expand_as(t)
    if storage == "fused":
        return torch.cat((t, t + 1), dim=-1)[..., : t.shape[-1]]
    if storage == "strided":
        return torch.stack((t, t + 1), dim=-1)[..., 0]
    return t


def tensors(case, dtype, split):
    """q, k, v in the host's layout: (B, H, L, D) when `split`, else (B, L, H*D)."""
    kv_heads = case.kv_heads or case.heads
    key = (kv_heads, case.kv_len)
    made = []
    for heads, length, gain in ((case.heads, case.q_len, case.gain), (*key, case.gain), (*key, 1.0)):
        shape = (BATCH, heads, length, case.head_dim) if split else (BATCH, length, heads * case.head_dim)
        made.append(stored((torch.randn(shape) * gain).to(dtype), case.storage))
    return made


def no_host(*args, **kwargs):
    raise AssertionError("the host's own attention ran")


def check(name, case, dtype, device, split_in, split_out):
    """Runs `case` on backend `name` through a Router; skips when the backend refuses it."""
    q, k, v = (t.to(device) for t in tensors(case, dtype, split_in))
    mask = case.mask(case, dtype).to(device) if case.mask else None
    heads = to_heads(q, k, v, case.heads, split_in)
    reason = registry.why_not(name, describe(*heads, to_mask(mask, dtype), scale=case.scale))
    if reason:
        pytest.skip(f"{name}: {reason}")
    given = [t if t is None else t.clone() for t in (q, k, v, mask)]
    stats = RunStats()
    router = Router((Rule(backend=name, on_unsupported=ERROR),))
    options = {CONTEXT: stats.context}
    out = router(
        no_host, q, k, v, case.heads, mask, None, split_in, split_out, scale=case.scale, transformer_options=options
    )
    assert [(decision.used, decision.calls) for decision in stats.decisions.values()] == [(name, 1)]
    expected = truth.attention(*heads, mask, case.scale)
    assert out.dtype == dtype and out.device == q.device and out.shape == from_heads(expected.out, split_out).shape
    for before, after in zip(given, (q, k, v, mask)):
        assert before is after is None or torch.equal(before, after), "the kernel wrote into its inputs"
    out = out if split_out else to_heads(out, out, out, case.heads, False)[0]
    if registry.get(name).limits.exact:
        assert truth.excess(out, expected) < 1
    else:
        assert relative_l2(out, expected.out) < QUANTISED


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_measure_sees_one_percent(case, dtype):
    """Else a test above could pass with a gain lost."""
    q, k, v = tensors(case, dtype, True)
    expected = truth.attention(q, k, v, case.mask(case, dtype) if case.mask else None, case.scale)
    assert truth.excess((expected.out * 0.99).to(dtype), expected) > 1


LOADED = [name for name in registry.names() if registry.why_not(name) is None]


@pytest.mark.parametrize("name", [name for name in registry.names() if name not in LOADED])
def test_missing_backend_says_what_is_missing(name):
    reason = registry.why_not(name)
    call = describe(*(torch.randn(1, 2, 8, 64) for _ in range(3)))
    assert len(reason) > 20 and registry.why_not(name, call) == reason
    pytest.skip(f"{name}: {reason}")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("name", LOADED)
def test_against_float64(name, case, dtype, device):
    layouts = ((False, False), (True, False), (False, True), (True, True))
    # All four for one dtype, one each for the others: the layout is converted outside of the kernel.
    chosen = layouts if dtype == torch.float32 else (layouts[DTYPES.index(dtype)],)
    for split_in, split_out in chosen:
        check(name, case, dtype, device, split_in, split_out)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", LOADED)
def test_strided_head_axis(name, device):
    """Every second number of a buffer: no model does it, and a kernel that takes it for dense is wrong in silence."""
    check(name, replace(CASES[0], storage="strided"), torch.float32, device, True, True)


@pytest.mark.parametrize("name", LOADED)
def test_query_that_sees_nothing(name):
    """Zeros or NaN, which the router catches; never another query's values."""
    call_mask = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    call_mask[0, 0, 3] = False
    q, k, v = (torch.randn(1, 2, 9, 64) for _ in range(3))
    reason = registry.why_not(name, describe(q, k, v, call_mask))
    if reason:
        pytest.skip(f"{name}: {reason}")
    out = registry.load(name)(q, k, v, mask=call_mask, scale=None)
    assert out[:, :, 3].eq(0).all() or out[:, :, 3].isnan().all()
    call_mask[0, 0, 3, 0] = True
    rest = [row for row in range(9) if row != 3]
    expected = truth.attention(q, k, v, call_mask)
    assert relative_l2(out[:, :, rest], expected.out[:, :, rest]) < 1e-6


EMPTY = (
    {"q_len": 0},
    {"kv_len": 0},  # softmax over nothing
    {"q_len": 0, "kv_len": 0},
)


@pytest.mark.parametrize("sizes", EMPTY, ids=str)
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("name", LOADED)
def test_zero_size_goes_to_the_host(name, sizes, split):
    q, k, v = tensors(replace(CASES[0], **sizes), torch.float32, split)
    answer = object()
    stats = RunStats()
    router = Router((Rule(backend=name),))
    out = router(lambda *a, **kw: answer, q, k, v, 2, skip_reshape=split, transformer_options={CONTEXT: stats.context})
    (decision,) = stats.decisions.values()
    assert out is answer and decision.fell_back == 1
    assert decision.reason and decision.reason == registry.why_not(name, decision.geometry)
    if registry.get(name).limits.runs_on("cpu") and not registry.why_not(name):
        assert decision.reason == "empty tensors"


@pytest.mark.parametrize("name", ["auto", "sdpa", "reference"])
def test_attend_by_name(name):
    q, k, v = (torch.randn(1, 2, 40, 32) for _ in range(3))
    mask = seen_by(1, 1, 40)
    out = registry.attend(q, k, v, mask, scale=0.2, backend=name)
    assert truth.excess(out, truth.attention(q, k, v, mask, 0.2)) < 1


def test_attend_names_backend_and_reason():
    q = torch.randn(1, 2, 40, 32)
    with pytest.raises(RuntimeError, match="sdpa cudnn cannot run attention of 1x2 heads, 40x40 tokens.*needs cuda"):
        registry.attend(q, q, q, backend="sdpa cudnn")
    with pytest.raises(ValueError, match="'nonsense' is not known. Known: .*sdpa"):
        registry.attend(q, q, q, backend="nonsense")
