"""Our Triton kernel on a real GPU: the cases of the interpreter's tests, compiled and run."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from devices import CUDA
from triton_cases import BASE, CASES, bound_of, name_of

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

# How this GPU itself is tiled: the other variants stand for other GPUs. It takes 16 bit alone.
VARIANTS = ("int8", "half", "float8")
REAL = [case for case in CASES if case.get("dtype", "float16") != "float32"]


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", REAL, ids=name_of)
def test_right_on_the_gpu(monkeypatch, case, dtype, device):
    import triton_in_interpreter as cases

    asked = [name for name in VARIANTS if name != "float8" or case.get("float8")]
    if torch.cuda.get_device_capability() < (8, 9):
        asked = [name for name in asked if name != "float8"]
    monkeypatch.setattr(cases, "variants_of", lambda case: asked)
    with torch.device(device):
        result = cases.run({**BASE, **case, "dtype": dtype})
    assert result["unchanged"]
    for name in asked:
        one = result[name]
        # The output itself is rounded.
        assert one["error"] < bound_of(name) + torch.finfo(getattr(torch, dtype)).eps / 2, name
        assert one["finite"] and one["zeros_agree"] and one["shape"] == result["shape"], name
        assert one["gain"] == pytest.approx(1, abs=0.01), name
