"""Which calls each backend refuses, as data, and the adapters of kernels that no CPU can run.

The kernels of comfy-kitchen and of SageAttention on CUDA are NOT run here: a fake with their signature stands in, so
these tests show what we hand to them, not what they compute. test_sage_interpreter.py runs SageAttention 1's own code.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from attention.backends import kitchen, registry, sage
from attention.backends.spec import Unavailable
from attention.core.geometry import Geometry

torch.set_num_threads(1)

F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64
# The self-attention of a small video on an H200; every row below changes something.
HOPPER = Geometry(1, 32, 32, 6144, 6144, 128, BF16, "cuda", capability=(9, 0))
CPU = {"device": "cpu", "capability": None}
BLACKWELL = {"capability": (12, 0)}
EXACT = "the model asks for exact attention here"

# (backend, what differs from HOPPER, part of the reason; None: accepted)
TABLE = (
    ("comfy-kitchen int8", {}, None),
    ("comfy-kitchen int8", {"mask": "key"}, None),
    ("comfy-kitchen int8", {"mask": "dense"}, None),
    ("comfy-kitchen int8", {"kv_heads": 8}, None),
    ("comfy-kitchen int8", {"head_dim": 1}, None),  # it pads
    ("comfy-kitchen int8", {"head_dim": 256}, None),
    ("comfy-kitchen int8", {"head_dim": 257}, "head size 257, takes 1 to 256"),
    ("comfy-kitchen int8", {"kv_len": 77}, None),  # ragged keys are masked inside; `auto` passes it by for its cost
    ("comfy-kitchen int8", {"capability": (7, 5)}, None),
    ("comfy-kitchen int8", {"capability": (7, 0)}, "needs compute capability 7.5, this GPU has 7.0"),
    ("comfy-kitchen int8", CPU, "needs cuda, the tensors are on cpu"),
    ("comfy-kitchen int8", {"dtype": F32}, "dtype float32, takes float16, bfloat16"),  # rounds to bfloat16 inside
    ("comfy-kitchen int8", {"low_precision": False}, EXACT),
    ("comfy-kitchen int8", {"high_precision": True, "dtype": F32}, EXACT),
    ("comfy-kitchen int8", {"grad": True}, "no gradient"),
    ("comfy-kitchen int8", {"q_len": 0}, "empty tensors"),
    ("sdpa", {}, None),
    ("sdpa", {"mask": "dense", "kv_heads": 8, "head_dim": 17, "kv_len": 77, "dtype": F64, "grad": True}, None),
    ("sdpa", {"low_precision": False, "high_precision": True, "dtype": F32}, None),
    ("sdpa", {"batch": 0}, "empty tensors"),
    ("sdpa", {"dtype": torch.float8_e4m3fn}, "dtype float8_e4m3fn, takes float16, bfloat16, float32, float64"),
    ("sdpa flash", {}, None),
    ("sdpa flash", {"head_dim": 40, "kv_len": 77}, None),
    ("sdpa flash", {"dtype": F32}, "dtype float32 on CUDA, takes float16, bfloat16"),
    ("sdpa flash", {"mask": "key"}, "key mask on CUDA"),
    ("sdpa flash", {"mask": "dense"}, "dense mask on CUDA"),
    ("sdpa flash", {"head_dim": 36}, "head size 36 on CUDA, takes 8 to 256 in steps of 8"),
    ("sdpa flash", {"head_dim": 264}, "head size 264 on CUDA"),
    ("sdpa flash", {"capability": (7, 5)}, "needs compute capability 8.0, this GPU has 7.5"),
    ("sdpa flash", {"kv_heads": 8}, "grouped-query attention"),
    ("sdpa flash", {**CPU, "dtype": F64, "mask": "dense", "head_dim": 17}, None),  # the CPU kernel takes all of it
    ("sdpa flash", {"device": "mps", "capability": None}, "needs cuda or cpu, the tensors are on mps"),
    ("sdpa cudnn", {}, None),
    ("sdpa cudnn", {"mask": "dense", "kv_len": 77, "head_dim": 40}, None),
    ("sdpa cudnn", {"head_dim": 160}, "head size 160, takes 8 to 128 in steps of 8"),
    ("sdpa cudnn", {"head_dim": 36}, "head size 36, takes 8 to 128 in steps of 8"),
    ("sdpa cudnn", {"dtype": F32}, "dtype float32"),
    ("sdpa cudnn", {"kv_heads": 8}, "grouped-query attention"),
    ("sdpa cudnn", CPU, "needs cuda"),
    ("sdpa efficient", {}, None),
    ("sdpa efficient", {"dtype": F32, "mask": "key", "head_dim": 512, "capability": (6, 1)}, None),
    ("sdpa efficient", {"dtype": F64}, "dtype float64"),
    ("sdpa efficient", {"head_dim": 36}, "head size 36, takes multiples of 8"),
    ("sdpa efficient", {"batch": 65535, "heads": 1, "kv_heads": 1, "q_len": 2, "kv_len": 2}, None),
    ("sdpa efficient", {"batch": 65536, "heads": 1, "kv_heads": 1}, "batch x heads is 65536, takes up to 65535"),
    ("sdpa math", {"q_len": 8192, "kv_len": 8192}, None),  # 2**31 scores exactly
    ("sdpa math", {"q_len": 8192, "kv_len": 8193}, "would hold 8.0 GiB of scores"),
    ("sage 3 fp4", {**BLACKWELL, "scale": 128**-0.5}, None),
    ("sage 3 fp4", {**BLACKWELL, "scale": 0.5}, "scale 0.5, takes 1 / sqrt(head size)"),
    ("video attention 16 bit", {"scale": 0.5}, None),
    ("video attention 16 bit", {"scale": -0.5}, "scale -0.5, takes a positive one"),
    ("reference", {**CPU, "mask": "dense", "kv_heads": 8, "head_dim": 17, "dtype": F64, "grad": True}, None),
    ("reference", {"q_len": 75600, "kv_len": 75600}, "GiB of scores"),  # 81 frames of Wan 2.1 at 720p
)

SAGE = (
    (1, {}, None),
    (1, {"dtype": F16}, None),
    (1, {"head_dim": 64}, None),
    (1, {"head_dim": 96}, None),
    (1, {"kv_heads": 8}, None),
    (1, {"q_len": 77}, None),  # only ragged keys are wrong
    (1, {"head_dim": 72}, "head size 72, SageAttention 1 takes 64, 96, 128"),
    (1, {"head_dim": 160}, "head size 160"),
    (1, {"kv_len": 77}, "key length 77 is not a multiple of 64, which SageAttention 1 gets wrong"),
    (1, {"kv_len": 6145}, "key length 6145 is not a multiple of 64"),
    (2, {}, None),
    (2, {"head_dim": 72}, None),  # 2 pads the head axis
    (2, {"kv_len": 77}, None),  # 2 masks the tail
    (2, {"head_dim": 160}, "head size 160, takes 1 to 128"),
    (2, {"capability": (8, 0)}, None),
    *((major, {"mask": kind}, f"{kind} mask") for major in (1, 2) for kind in ("key", "dense")),  # dropped silently
    *((major, CPU, "needs cuda, the tensors are on cpu") for major in (1, 2)),
    *((major, {"dtype": F32}, "dtype float32, takes float16, bfloat16") for major in (1, 2)),  # V is rounded to fp16
    *((major, {"capability": (7, 5)}, "needs compute capability 8.0") for major in (1, 2)),
    *((major, {"low_precision": False}, EXACT) for major in (1, 2)),
    *((major, {"high_precision": True}, EXACT) for major in (1, 2)),
    *((major, {"grad": True}, "no gradient") for major in (1, 2)),
)


def agree(reason: str | None, expected: str | None) -> bool:
    return reason is None if expected is None else reason is not None and expected in reason


@pytest.mark.parametrize(("name", "change", "expected"), TABLE)
def test_refusals(name, change, expected):
    reason = registry.get(name).refuses(replace(HOPPER, **change))
    assert agree(reason, expected), reason


@pytest.mark.parametrize(("major", "change", "expected"), SAGE)
def test_refusals_of_sage(monkeypatch, major, change, expected):
    monkeypatch.setattr(sage, "major_version", lambda: major)
    reason = registry.get("sage").refuses(replace(HOPPER, **change))
    assert agree(reason, expected), reason


def test_every_row_names_itself():
    assert len(set(registry.names())) == len(registry.names())
    for name in registry.names():
        assert registry.get(name).name == name and registry.get(name).summary.strip().endswith(".")
    with pytest.raises(ValueError, match="'nonsense' is not known. Known: "):
        registry.get("nonsense")


PICKS = (
    ({}, "comfy-kitchen int8", None),
    ({"kv_len": 2047}, "sage", ("comfy-kitchen int8", "2047 keys are too few to gain, from 2048 on")),
    ({"kv_len": 1023}, None, ("sage", "1023 keys are too few to gain, from 1024 on")),
    ({"low_precision": False}, None, ("sage", EXACT)),
    ({"mask": "key"}, "comfy-kitchen int8", None),
    (CPU, "sdpa", ("sage", "needs cuda, the tensors are on cpu")),
)


@pytest.mark.parametrize(("change", "expected", "passed"), PICKS, ids=str)
def test_auto_picks_and_says_why_not(all_loaded, change, expected, passed):
    name, reasons = registry.pick(replace(HOPPER, **change))
    assert registry.get(name).limits.exact if expected is None else name == expected
    assert name not in reasons
    assert passed is None or reasons[passed[0]] == passed[1]


def test_auto_has_nothing_for_no_tokens(all_loaded):
    name, reasons = registry.pick(replace(HOPPER, kv_len=0))
    assert name is None and "empty tensors" in reasons.values()


def test_missing_backend_is_looked_for_once(monkeypatch):
    asked = []

    def load():
        asked.append(1)
        raise Unavailable("not here")

    row = replace(registry.get("sdpa"), name="absent", load=load)
    monkeypatch.setitem(registry._BY_NAME, "absent", row)
    monkeypatch.setattr(registry, "_LOADED", {})
    assert [registry.why_not("absent"), registry.why_not("absent", HOPPER)] == ["not here"] * 2 and len(asked) == 1
    with pytest.raises(Unavailable, match="not here"):
        registry.load("absent")


KITCHENS = (
    (None, "cannot be imported"),
    (SimpleNamespace(), "no int8_attention; it needs comfy-kitchen 0.2.30"),  # what ComfyUI 0.30 pins
    (SimpleNamespace(int8_attention=print, int8_attention_is_available=lambda: False), "needs an NVIDIA GPU"),
)


@pytest.mark.parametrize(("module", "expected"), KITCHENS)
def test_kitchen_says_what_is_missing(monkeypatch, module, expected):
    monkeypatch.setitem(sys.modules, "comfy_kitchen", module)
    with pytest.raises(Unavailable, match=expected):
        kitchen.load_int8()


@pytest.mark.parametrize("rows", [1, 5])
def test_kitchen_gets_what_it_takes(monkeypatch, rows):
    """A fake int8_attention. The real one wants dense rows and a mask that spans the queries."""
    seen = []

    def int8_attention(q, k, v, *, scale=None, attn_mask=None):
        assert all(t.stride(-1) == 1 for t in (q, k, v))
        seen.append((q, k, v, scale, attn_mask))
        return q + 1

    fake = SimpleNamespace(int8_attention=int8_attention, int8_attention_is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "comfy_kitchen", fake)
    q, k, v = (torch.randn(2, 3, n, 16)[..., ::2] for n in (5, 7, 7))
    mask = torch.rand(2, 1, rows, 7) < 0.5
    out = kitchen.load_int8()(q, k, v, mask=mask, scale=0.3)
    ((*given, scale, given_mask),) = seen
    assert torch.equal(out, q + 1) and scale == 0.3
    assert all(torch.equal(a, b) for a, b in zip(given, (q, k, v)))
    assert given_mask.shape == (2, 1, 5, 7) and torch.equal(given_mask, mask.expand(2, 1, 5, 7))


class FakeSage:
    """sageattn of 1.0.6 and the kernels of 2, as far as the adapters see them: centre the keys in place."""

    def __init__(self):
        self.seen = []

    def sageattn(self, q, k, v, tensor_layout="HND", is_causal=False, sm_scale=None, **kwargs):
        assert all(t.stride(-1) == 1 for t in (q, k, v)) and tensor_layout == "HND" and not is_causal
        self.seen.append((k, sm_scale, kwargs))
        k -= k.mean(dim=2, keepdim=True)
        return q + 1


@pytest.mark.parametrize("storage", ["own", "strided", "expanded"])
def test_sage_1_gets_its_own_keys(storage):
    fake = FakeSage()
    q, k, v = (torch.randn(2, 3, 64, 64) for _ in range(3))
    if storage == "strided":
        q, k, v = (torch.stack((t, t), dim=-1)[..., 0] for t in (q, k, v))
    if storage == "expanded":  # writing into a tensor of stride 0 would raise, or write every batch at once
        q, k, v = (t[:1].expand_as(t) for t in (q, k, v))
    before = k.clone()
    out = sage.kernel_v1(fake.sageattn)(q, k, v, scale=0.3)
    assert torch.equal(k, before) and torch.equal(out, q + 1)
    assert fake.seen[0][0].data_ptr() != k.data_ptr() and fake.seen[0][1:] == (0.3, {})


def test_the_fake_writes_into_keys():
    # Otherwise the test above would pass without a copy.
    k = torch.randn(2, 3, 64, 64)
    before = k.clone()
    FakeSage().sageattn(k, k, k)
    assert not torch.equal(k, before)


@pytest.mark.parametrize("capability", list(sage.V2_KERNELS))
def test_sage_2_runs_the_kernel_of_the_gpu(monkeypatch, capability):
    fake = FakeSage()
    name, settings = sage.V2_KERNELS[capability]
    package = SimpleNamespace(**{name: lambda *args, **kwargs: fake.sageattn(*args, **kwargs)})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    q, k, v = (torch.randn(1, 2, 64, 64) for _ in range(3))
    out = sage.kernel_v2(package)(q, k, v, scale=0.3)
    assert torch.equal(out, q + 1) and fake.seen[0][1:] == (0.3, settings)


def test_sage_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(sage, "major_version", lambda: 0)
    with pytest.raises(Unavailable, match="not installed; `pip install sageattention`"):
        sage.load()
    monkeypatch.setattr(sage, "major_version", lambda: 1)
    monkeypatch.setitem(sys.modules, "sageattention", None)  # how Python marks a module that must not import
    with pytest.raises(Unavailable, match="cannot be imported"):
        sage.load()


def test_sage_loads_the_installed_version(monkeypatch):
    fake = FakeSage()
    monkeypatch.setitem(sys.modules, "sageattention", SimpleNamespace(sageattn=fake.sageattn))
    monkeypatch.setattr(sage, "major_version", lambda: 1)
    k = torch.randn(1, 2, 64, 64)
    before = k.clone()
    assert inspect.isfunction(run := sage.load()) and torch.equal(run(k, k, k), before + 1) and torch.equal(k, before)
