"""Where ComfyUI is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def find_host() -> Path:
    """The folder of ComfyUI, or a skip that says how to get one."""
    import host

    folder = Path(os.environ.get("COMFYUI_PATH") or host.HOME / f"ComfyUI-{host.COMFYUI}")
    if not (folder / "main.py").exists():
        pytest.skip(f"no ComfyUI in {folder}: run python scripts/host.py, or set COMFYUI_PATH")
    return folder.resolve()
