"""Our adapters of comfy-kitchen's sparse attention on the real library, whose reference code runs on the CPU.

In a process of its own: ComfyUI 0.30 pins an older one, which this process has loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import host
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LACKING = 77  # real_kitchen.py's exit code without such a library
GRIDS = ((4, 6, 6), (5, 7, 6), (3, 4, 9), (1, 6, 8))
WINDOWS = ((3, 50.0, 50.0), (9, 50.0, 50.0), (2, 30.0, 60.0), (1, 100.0, 20.0))
NA3D = [
    {"grid": grid, "frames": frames, "height": height, "width": width, "dim": dim}
    for (grid, (frames, height, width)), dim in zip(((g, w) for g in GRIDS for w in WINDOWS), (16, 32, 64, 128) * 4)
] + [{"grid": (3, 5, 6), "frames": 2, "height": 40.0, "width": 70.0, "dim": 32, "scale": 0.3}]
FEW, MANY, ALL = (["top blocks", {"keep": keep, "tail": True}] for keep in (20.0, 50.0, 99.99))
STANDING_OUT = ["adaptive blocks", {"tau": 1.0, "tail": True}]
CUT = ["top blocks", {"keep": 20.0, "tail": False}]
LIKE_A_VIDEO = {
    "no context": {"pattern": FEW, "grid": (4, 16, 16), "dim": 128, "context_tokens": 0},
    "context": {"pattern": FEW, "grid": (4, 16, 16), "dim": 128, "context_tokens": 7},
    "head size 64": {"pattern": MANY, "grid": (4, 16, 16), "dim": 64, "context_tokens": 7},
    "ragged": {"pattern": FEW, "grid": (5, 15, 13), "dim": 128, "context_tokens": 70},
    "adaptive": {"pattern": STANDING_OUT, "grid": (4, 16, 16), "dim": 128, "context_tokens": 7},
    "no tail": {"pattern": CUT, "grid": (4, 16, 16), "dim": 128, "context_tokens": 7},
}
# Every block is kept, so random numbers must come out as dense: a token put wrongly, or padding seen, would show.
KEPT = {"pattern": ALL, "alike": False}
WHOLE = {
    "no context": {**KEPT, "grid": (2, 8, 12), "dim": 128, "context_tokens": 0},
    "5 context tokens": {**KEPT, "grid": (3, 7, 9), "dim": 64, "context_tokens": 5, "scale": 0.2},
    "70 context tokens": {**KEPT, "grid": (2, 9, 10), "dim": 128, "context_tokens": 70},
}


CASES = [("na3d", case) for case in NA3D] + [("sol", case) for case in (*LIKE_A_VIDEO.values(), *WHOLE.values())]
CASES += [("singly", {})]


@pytest.fixture(scope="module")
def errors():
    """Relative L2 of CASES. Skips where no comfy-kitchen with sparse attention is to be had."""
    folder = os.environ.get("COMFY_KITCHEN_PATH") or host.HOME / f"comfy-kitchen-{host.KITCHEN}"
    where = os.pathsep.join(map(str, (folder, ROOT, HERE, ROOT / "tests" / "lib")))
    done = subprocess.run(
        [sys.executable, str(HERE / "real_kitchen.py")],
        input=json.dumps([(kind, seed, case) for seed, (kind, case) in enumerate(CASES)]),
        env={**os.environ, "PYTHONPATH": where, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    if done.returncode == LACKING:
        pytest.skip(f"no comfy-kitchen {host.KITCHEN} or later: python scripts/test.py gets it, or COMFY_KITCHEN_PATH")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_na3d_is_our_neighbourhood(errors):
    assert max(errors[: len(NA3D)]) < 1e-6


def test_sol_attn_is_close_on_data_like_a_videos(errors):
    found = dict(zip(LIKE_A_VIDEO, errors[len(NA3D) :]))
    assert max(found.values()) < 0.012, found


def test_sol_attn_sees_every_token_once(errors):
    found = dict(zip(WHOLE, errors[len(NA3D) + len(LIKE_A_VIDEO) :]))
    assert max(found.values()) < 0.006, found


def test_the_reference_code_ignores_token_aug(errors):
    """So its cost and its gain can be told on a GPU alone, as the adapter says; the adapter passes the default."""
    assert errors[-1] == 0
