"""The script that compiles our kernel with other versions of Triton, up to the compiling."""

from __future__ import annotations

import importlib.util
import sys

import pytest

if importlib.util.find_spec("triton") is None or sys.platform != "linux":
    pytest.skip("triton is not installed", allow_module_level=True)

import compile_kernels as kernels
import other_tritons as others


def test_every_fault_is_counted(monkeypatch):
    """As compile_kernels.py words them, and as a version that cannot compile ends."""
    target = next(target for target in kernels.targets() if target.architecture == 90)
    worst = {"stack": 8, "shared_kib": 400.0, "waits_in_loop": 12, "copies_without_mask": 2}
    monkeypatch.setattr(kernels, "measure", lambda target: worst)
    found = {"all": others.faults(target), "none": []}
    monkeypatch.setattr(kernels, "measure", lambda target: target.missing)
    found["failed"] = others.faults(target)
    assert others.row("3.3.1", found) == "| 3.3.1 | 3 | 1 | 1 | 1 | 1 | 1 | 0 | 0 |"
    on_amd = next(target for target in kernels.targets() if target.architecture == "gfx950")
    worst = {"spills": 1, "scalars_in_lanes": 0, "stack": 8, "shared_kib": 161.0, "cvt_of_integers": 64}
    monkeypatch.setattr(kernels, "measure", lambda target: worst | {"cvt_in_loop": 99, "exp_in_loop": 9})
    assert others.row("3.3.1", {"all": others.faults(on_amd)}) == "| 3.3.1 | 1 | 0 | 1 | 0 | 1 | 0 | 1 | 1 |"
    assert "no attribute 'missing'" in found["failed"][0]


@pytest.mark.parametrize(("result", "status"), [(["stack 8"], 0), (["8 KiB of shared memory, 4 are there"], 1)])
def test_a_spill_is_no_failure(monkeypatch, capsys, result, status):
    class Pool:
        def __init__(self, processes):
            self.map = map

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(others, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(others, "faults", lambda target: result)
    assert others.compiled_here("sm_86, dense, int8, head size 64", 1) == status
    assert f"sm_86, dense, int8, head size 64: {result[0]}" in capsys.readouterr().out
