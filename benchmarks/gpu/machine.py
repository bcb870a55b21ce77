"""The machine, its driver, clocks and versions, as found."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from .. import clocks
from .place import Place
from .supervisor import ROOT

PACKAGES = (
    "torch", "triton", "comfy-kitchen", "sageattention", "flash-attn", "flash-attn-3", "flash-attn-4", "xformers",
    "numpy", "pytest",
)  # fmt: skip


def facts(place: Place) -> dict:
    """Collect what a row is worth nothing without."""
    found = versions()
    return {
        "dry": place.dry, "machine": place.machine, "gpu": place.machine if not place.dry else None,
        "python": platform.python_version(), "system": platform.platform(), "versions": found,
        "torch": found.get("torch"), "triton": found.get("triton"),
        "dtype": str(place.dtype).removeprefix("torch."), "commit": commit(), **clocks.driver(place.device),
        "capability": None if place.dry else list(torch.cuda.get_device_capability(place.device)),
        "memory_gib": None if place.dry else round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
        "cudnn": torch.backends.cudnn.version(), "clocks": clocks.now(place.device),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """List what is installed of PACKAGES: {name: version}."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Tell the checkout's commit, `-changed` where files differ from it; None where git does not tell."""
    try:
        told = [
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain"))
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return told[0].strip() + ("-changed" if told[1].strip() else "")
