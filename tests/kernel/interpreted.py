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
ROOT = HERE.parents[1]
# Where its scripts and what they share are found.
PLACES = (ROOT, HERE, ROOT / "tests" / "lib", ROOT / "tests" / "attention" / "sparse")


def run(script: str, *options: str, given=None, timeout: float = 600, checked: bool = True):
    """What the script writes to stdout, from JSON. given: written to its stdin as JSON. options: Python's own.

    checked: every address of our kernel's, as checked_memory.py does it; -O would take its assertions away.
    """
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    checks = ("-c", "import checked_memory, sys; checked_memory.run(sys.argv[1])") if checked else ()
    done = subprocess.run(
        [sys.executable, *options, *checks, str(HERE / script)],
        input=json.dumps(given),
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(map(str, PLACES))},
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
