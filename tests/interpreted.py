"""Runs a script of this folder with Triton's interpreter, in a process of its own: Triton asks when it is imported."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def run(script: str, *options: str, given=None, timeout: float = 600):
    """What the script writes to stdout, from JSON. given: written to its stdin as JSON. options: Python's own."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    done = subprocess.run(
        [sys.executable, *options, str(HERE / script)],
        input=json.dumps(given),
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=HERE.parent,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
