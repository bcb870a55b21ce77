"""AMD GPUs, which torch calls "cuda" and answers with numbers of their own: 11.0 is no generation of NVIDIA's.

The GPU is a stand-in: what torch for ROCm 6 answers for a Radeon RX 7900, an Instinct MI300 and a Radeon RX 9070.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import attention.patterns as p
from attention import sparse
from attention.backends import TABLE, own_triton, registry, sage
from attention.backends.spec import EVERY_DEVICE
from attention.backends.triton import launch
from attention.core.geometry import Geometry, describe
from attention.core.gpu import amd_of, capability_of
from attention.core.reason import Reason
from attention.core.tokens import BOTH, VideoSpan
from attention.sparse import engine_registry

ROOT = Path(__file__).resolve().parents[3]
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
GPUS = {"gfx1100": ((11, 0), "gfx1100"), "gfx942": ((9, 4), "gfx942:sramecc+:xnack-"), "gfx1201": ((12, 0), "gfx1201")}
# Never made for AMD: cuDNN, FP4 of Blackwell, WGMMA of Hopper, CUDA code; SageAttention, which nobody tested there.
NEVER = {"sdpa cudnn", "sage", "sage 3 fp4", "flash attention 3", "flash attention 4"}
NVIDIA = {row.name for row in TABLE if row.limits.devices != EVERY_DEVICE and not row.limits.amd}
# Made for some of AMD's: comfy-kitchen's WMMA kernels, xFormers' Composable Kernel, ours where the GPU has float8.
SOME = {"comfy-kitchen int8": "gfx1", "xformers": "gfx9", "video attention float8": "gfx942"}
# What is said of the last on others.
FLOAT8 = {"gfx1100": "float8 is not multiplied by gfx1100", "gfx1201": "float8 is made in software on gfx1201"}


@pytest.fixture(params=GPUS)
def amd(request, monkeypatch):
    capability, name = GPUS[request.param]
    monkeypatch.setattr(torch.version, "hip", "6.4.43482", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: SimpleNamespace(gcnArchName=name))
    return request.param


def tensor(device=CUDA, shape=(1, 8, 4096, 64), dtype=torch.float16):
    return SimpleNamespace(shape=shape, device=device, dtype=dtype, requires_grad=False)


def test_one_place_says_what_a_gpu_is(amd):
    assert amd_of(CUDA) == amd and capability_of(CUDA) is None
    assert amd_of(CPU) is None
    call = describe(tensor(), tensor(), tensor())
    assert (call.device, call.capability, call.amd) == ("cuda", None, amd)
    on_cpu = describe(*[tensor(CPU)] * 3)
    assert (on_cpu.capability, on_cpu.amd) == (None, None)


def test_nvidia_is_as_before(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", None, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    call = describe(tensor(), tensor(), tensor())
    assert (call.capability, call.amd) == ((9, 0), None)


@pytest.mark.parametrize("name", [row.name for row in TABLE])
def test_kernels_for_nvidia_refuse_and_others_do_not(name, amd):
    row = next(row for row in TABLE if row.name == name)
    call = describe(tensor(), tensor(), tensor())
    reason, knows = row.refuses(call), amd.startswith(SOME.get(name, amd))
    assert (reason == f"made for NVIDIA, this GPU is AMD's {amd}") is (name in NVIDIA)
    assert name in NVIDIA or (reason is None) is knows
    said = FLOAT8[amd] if name == "video attention float8" and not knows else f", this GPU is {amd}"
    assert knows or reason.endswith(said) and (said == reason or reason.startswith("knows AMD's "))
    assert name in NVIDIA or name not in NEVER


@pytest.mark.parametrize("old", ["gfx1030", "gfx906", "unknown"])
def test_a_gpu_that_a_library_does_not_name_is_refused(old):
    """RX 6000 has no matrix cores: comfy-kitchen's and torch's fused kernels do not know it."""
    call = replace(describe(*[tensor(CPU)] * 3), device="cuda", amd=old)
    for row in TABLE:
        if row.limits.devices != EVERY_DEVICE and row.limits.amd != ("gfx",):
            assert old in row.refuses(call), row.name
            assert len([reason for reason in row.reasons(call) if old in reason]) == 1, row.name


@pytest.mark.parametrize("version", [1, 2])
def test_sageattention_is_for_nvidia(amd, version, monkeypatch):
    """Its numbers of generations are never compared with AMD's: gfx1201, 12.0 to torch, is no Blackwell."""
    call = describe(tensor(), tensor(), tensor())
    monkeypatch.setattr(sage, "major_version", lambda: version)
    assert sage.SAGE.reasons(call) == (f"made for NVIDIA, this GPU is AMD's {amd}",)


def test_auto_never_takes_one_of_nvidias(amd, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda name: object())
    for mask in ("none", "key", "dense"):
        call = replace(describe(tensor(), tensor(), tensor()), mask=mask)
        accepted, _ = registry.candidates(call)
        assert accepted and not set(accepted) & NVIDIA


@pytest.mark.parametrize("head_dim", [40, 64, 72, 128])
def test_our_kernel_refuses_what_would_spill(amd, head_dim):
    """16-bit scores with heads above 64 on RDNA 3: no cut without spills is known."""
    call = describe(*[tensor(shape=(1, 8, 4096, head_dim))] * 3)
    reason = own_triton.HALF.refuses(call)
    spills = amd == "gfx1100" and head_dim > 64
    said = f"16-bit scores with heads of {head_dim} take more registers than gfx1100 has"
    assert reason == (said if spills else None)
    assert own_triton.INT8.refuses(call) is None


def test_our_kernel_multiplies_the_gpu_s_own_float8(amd):
    assert launch.gpu_of(CUDA) == amd
    assert launch.float8_of(CUDA) == (torch.float8_e4m3fnuz if amd == "gfx942" else torch.float8_e4m3fn)


def test_engines_for_nvidia_refuse_too(amd):
    video_span = VideoSpan((16, 16, 16), 0, BOTH)
    call = describe(tensor(), tensor(), tensor())
    for pattern in (p.Neighbourhood(3, 50, 50), p.TopBlocks(50)):
        for row in sparse.TABLE:
            found = engine_registry.runners(pattern, video_span, call, engine=row.name)
            if row.name == "video attention float8" and amd in FLOAT8:
                assert FLOAT8[amd] in str(found)
            elif row.name.startswith("comfy-kitchen"):
                assert isinstance(found, Reason)
        assert not isinstance(engine_registry.runners(pattern, video_span, call), str), "and the others run it"


def test_engines_of_comfy_kitchen(amd, monkeypatch):
    from attention.sparse import kitchen

    monkeypatch.setattr(kitchen, "load", lambda name: lambda *args: None)
    call = describe(*[tensor(shape=(1, 8, 4096, 128))] * 3)
    expected = None if amd.startswith("gfx1") else f"knows AMD's gfx110*, gfx115*, gfx120*, this GPU is {amd}"
    assert kitchen.missing("na3d", call) == kitchen.missing("sol_attn", call) == expected
    hopper = replace(call, amd=None, capability=(9, 0))
    assert kitchen.missing("na3d", hopper) is None


def test_no_other_file_asks_what_a_gpu_is():
    """Whoever asks torch directly reads an AMD GPU as one of NVIDIA's."""
    asks = re.compile(r"get_device_capability|version\.hip|gcnArchName|get_device_properties")
    files = [file for folder in ("attention", "nodes") for file in (ROOT / folder).rglob("*.py")]
    found = {file.relative_to(ROOT).as_posix() for file in files if asks.search(file.read_text(encoding="utf-8"))}
    assert found == {"attention/core/gpu.py"}


def test_calls_that_tests_make_by_hand_are_of_nvidia():
    assert Geometry(1, 1, 1, 1, 1, 1, torch.float16, "cuda", capability=(9, 0)).amd is None
