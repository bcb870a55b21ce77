"""What a GPU is: the one place that asks torch for its generation and for what it lacks."""

from __future__ import annotations

import torch


def amd_of(device: torch.device) -> str | None:
    """Return the architecture of an AMD GPU, as `gfx1100`; None for any other device.

    device: of the tensors; torch for ROCm calls its devices "cuda" too.
    """
    if device.type != "cuda" or not _is_rocm():
        return None
    # The name has features behind it, as in gfx90a:sramecc+:xnack-.
    return getattr(torch.cuda.get_device_properties(device), "gcnArchName", "unknown").split(":")[0]


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """Return the CUDA compute capability (major, minor) of a "cuda" device, None on AMD.

    device: a "cuda" device. On AMD torch answers with the numbers of the GPU's own architecture, 11.0 for gfx1100,
        which is no generation of NVIDIA's.
    """
    return None if _is_rocm() else torch.cuda.get_device_capability(device)


def widest(device: torch.device | str) -> torch.dtype:
    """Return the dtype to sum errors in: float64, or float32 where a GPU has no more: Apple's, and some of Intel's.

    device: of the tensors.
    """
    kind = torch.device(device).type
    if kind == "xpu" and not torch.xpu.get_device_properties(device).has_fp64:
        return torch.float32
    return torch.float32 if kind == "mps" else torch.float64


def _is_rocm() -> bool:
    return bool(getattr(torch.version, "hip", None))
