"""Phase g: ComfyUI's own compiler, with and without us. Not reached without a ComfyUI of 0.34 or later."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .context import Context

OLDEST = (0, 34)


def run(context: Context) -> None:
    """Say why nothing is measured, or measure."""
    reason = why_not(os.environ.get("COMFYUI_PATH"))
    if reason:
        context.note(reason)


def why_not(folder: str | None) -> str | None:
    """Say why this ComfyUI cannot be measured; None: it can."""
    if not folder:
        return "not run: no ComfyUI is given; COMFYUI_PATH names its folder, of 0.34 or later"
    file = Path(folder, "comfyui_version.py")
    found = re.search(r"(\d+)\.(\d+)", file.read_text(encoding="utf-8")) if file.exists() else None
    if found is None:
        return f"not run: COMFYUI_PATH: {folder} is no ComfyUI"
    version = tuple(map(int, found.groups()))
    if version < OLDEST:
        return f"not run: ComfyUI {found[0]} has no compiler of its own, 0.34 has"
    return None
