"""What a row of the table of backends must say of itself, and all that a refusal can tell."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from attention.backends import registry
from attention.backends.spec import EVERY_DEVICE, FLOATS, Limits
from attention.core.geometry import MASKS, Geometry
from attention.core.reason import Reason

# A self-attention in bfloat16 on an H200.
HOPPER = Geometry(1, 32, 32, 6144, 6144, 128, torch.bfloat16, "cuda", capability=(9, 0))
CPU = {"device": "cpu", "capability": None}
OPEN = {"devices": EVERY_DEVICE, "dtypes": FLOATS, "masks": MASKS, "exact": True}
# Each of them is refused by some rows for a reason of its own, whatever else is wrong with a call.
FAULTS = (
    {"low_precision": False},
    {"dtype": torch.float32},
    {"grad": True},
    {"head_dim": 300},
    {"mask": "dense"},
    {"kv_len": 0},
)


@pytest.mark.parametrize("name", OPEN)
def test_limits_cannot_leave_out(name):
    """A row that forgets its devices must not read as one that runs anywhere."""
    with pytest.raises(TypeError, match=f"'{name}'"):
        Limits(**{key: value for key, value in OPEN.items() if key != name})


def test_no_device_is_none_and_every_device_is_all():
    nowhere, everywhere = Limits(**OPEN | {"devices": ()}), Limits(**OPEN)
    for device in ("cuda", "cpu", "xpu"):
        call = replace(HOPPER, device=device, capability=None)
        assert list(nowhere.reasons(call)) == [f"needs another device, the tensors are on {device}"]
        assert not list(everywhere.reasons(call))


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("faults", list(combinations(FAULTS, 2)), ids=str)
def test_a_refusal_can_tell_all_its_reasons(all_loaded, name, faults):
    first, second = (registry.get(name).refuses(replace(HOPPER, **fault)) for fault in faults)
    call = replace(HOPPER, **faults[0], **faults[1])
    told = registry.reasons(name, call)
    assert {first, second} - {None} <= set(told) and len(set(told)) == len(told)
    assert all(isinstance(reason, Reason) and not reason.endswith(".") for reason in told)
    assert next(iter(told), None) == registry.why_not(name, call) == registry.get(name).refuses(call)


def test_hardware_that_is_wrong_hides_no_other_reason_and_invents_none(all_loaded):
    old = replace(HOPPER, capability=(5, 0), dtype=torch.float32)
    assert registry.reasons("sage", old) == (
        "needs compute capability 8.0, this GPU has 5.0",
        "dtype float32, takes float16, bfloat16",
    )
    assert registry.reasons("flash attention 3", replace(HOPPER, **CPU)) == ("needs cuda, the tensors are on cpu",)


def test_a_cpu_holds_no_more_than_the_most_scores_of_flex():
    """2**31 of them are taken, one key for each query more is not."""
    most = replace(HOPPER, **CPU, q_len=8192, kv_len=8192)
    assert most.heads * most.q_len * most.kv_len == 2**31 and registry.get("flex").refuses(most) is None
    more = replace(most, kv_len=8193)
    assert registry.get("flex").refuses(more) == "would hold the whole score matrix on the CPU"
    assert registry.get("flex").refuses(replace(more, device="cuda", capability=(9, 0))) is None


def test_what_is_missing_comes_first(monkeypatch):
    """Who reads only "not installed" installs it for nothing where the GPU is none of its own."""
    monkeypatch.setitem(registry._LOADED, "flash attention 3", Reason("not here"))
    told = registry.reasons("flash attention 3", replace(HOPPER, **CPU, mask="key"))
    assert told == ("not here", "needs cuda, the tensors are on cpu", "key mask")
