"""Phase g: what ComfyUI's own compiler and torch.compile make of a model with and without us.

By the tests about it, on a ComfyUI of 0.34 or later that COMFYUI_PATH names and this Python can run: allocations that
outlive a recorded block or differ from step to step, counted by a stand-in of that compiler, and graph breaks.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from .context import Context
from .right_tests import counted

OLDEST = (0, 34)
TESTS, SECONDS = ("tests/nodes/test_recording.py", "tests/nodes/test_guidance_compiled.py", "--timeout=100"), 120.0


def run(context: Context) -> None:
    """Say why nothing is measured, or measure."""
    reason = why_not(os.environ.get("COMFYUI_PATH"))
    if reason:
        return context.note(reason)
    return counted(context, "pytest, recorded and compiled", TESTS, SECONDS)


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
