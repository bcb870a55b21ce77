"""What Triton makes of our kernel for each GPU generation: the table of it, which scripts/test.py compiles anew."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# The way to compile without a GPU, and NVIDIA's disassembler, come with Triton's Linux packages.
if importlib.util.find_spec("triton") is None or sys.platform != "linux":
    pytest.skip("triton is not installed", allow_module_level=True)

import compile_kernels as kernels

TARGETS = {target.name: target for target in kernels.targets()}
TABLE = json.loads(kernels.TABLE.read_text())


def test_the_table_has_every_target():
    assert list(TABLE["kernels"]) == list(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_no_spills_and_within_shared_memory(name):
    assert kernels.faults(TARGETS[name], TABLE["kernels"][name]) == []


def test_faults_are_found():
    target = TARGETS["sm_86, dense, int8, head size 128"]
    good = TABLE["kernels"][target.name]
    assert kernels.faults(target, {**good, "stack": 8}) == ["stack 8"]
    assert kernels.faults(target, {**good, "shared_kib": 99.5}) == ["99.5 KiB of shared memory, 99 are there"]
    assert "12 waits for WGMMA" in kernels.faults(target, {**good, "waits_in_loop": 12})[0]


def test_the_table_is_of_these_sources():
    assert kernels.fingerprint() == TABLE["sources"], "run: python scripts/compile_kernels.py"


@pytest.mark.parametrize(
    ("module", "words", "code"),
    [
        (kernels.device, ("Add blocks of N keys", "Takes more keys"), ("2.0**120", "2.0**99")),
        (kernels.transforms, ("the sum is float32", "sums are float32"), ("/ 127.0", "/ 126.0")),
    ],
    ids=["device", "copies"],
)
def test_the_fingerprint_is_of_code_alone(tmp_path, monkeypatch, module, words, code):
    text = Path(module.__file__).read_text(encoding="utf-8")
    marks, path = [], tmp_path / "changed.py"
    for changed in (text, text.replace(*words) + "# a word\n", text.replace(*code)):
        path.write_text(changed, encoding="utf-8")
        monkeypatch.setattr(module, "__file__", str(path))
        marks.append(kernels.fingerprint())
    assert marks[0] == marks[1] != marks[2]


ASSEMBLY = """
.L_x_1:
        /*0010*/                   LDL R1, [R1] ;
        /*0020*/                   MUFU.EX2 R1, R1 ;
        /*0030*/              @P0  BRA `(.L_x_1) ;
        /*0040*/                   BRA.U UP0, `(.L_x_3) ;
.L_x_2:
        /*0050*/                   MUFU.EX2 R1, R1 ;
        /*0060*/              @!P0 STL.64 [R1], R2 ;
        /*0070*/                   BRA.U UP0, `(.L_x_2) ;
.L_x_3:
        /*0080*/                   STL [R1], R2 ;
        /*0090*/                   BRA `(.L_x_3) ;
"""


def test_spills_of_the_long_loop_alone():
    assert kernels.operations(kernels.long_loop(ASSEMBLY)) == ["MUFU.EX2", "STL.64"]
    assert len(kernels.operations(ASSEMBLY)) == 9


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.way in kernels.WAYS])
def test_tensor_cores_do_the_products(name):
    """Each generation's own instructions, and no conversion of scores: I2F stays what a few addresses take."""
    row, target = TABLE["kernels"][name], TARGETS[name]
    products = {90: ("IGMMA", "HGMMA", "QGMMA"), 100: ("UTCIMMA", "UTCHMMA", "UTCQMMA")}
    integer, half, eight = products.get(target.architecture, ("IMMA", "HMMA", "QMMA"))
    assert row.get(eight if target.float8 else half)
    assert bool(row.get(integer)) is target.quantized and bool(row.get(eight)) is target.float8
    assert row.get("I2F", 0) + row.get("I2FP", 0) < 10


def starts(in_keys: int, values: tuple, alone: tuple) -> list:
    """(kernel, programs) of tests/kernel/triton_launches.py's calls. in_keys: programs for the keys of a dense call.
    values: of INT8 calls' values where they become float16; alone: of a call of one token."""
    whole, chosen = (
        [("pool_kv", 24), ("quantize", 48), ("quantize", 24), ("quantize", 4)],
        [("quantize", 8), ("quantize", 4)],
    )
    moved, last = [("reorder_rows", 4), ("reorder_rows", 8)], ("attend", 24)
    # 200 queries of 2 x 6 heads in blocks of 128, copied in blocks of 64; 333 keys of 2 x 2 heads, 6 blocks of 64.
    return [
        [("quantize", 48), ("quantize", in_keys), *values, last],
        [last],
        [("quantize", 48), ("quantize", 24), *values, last],
        [*whole, *values, last],
        [last],
        [("quantize", 2), ("quantize", 1), *alone, ("attend", 1)],
        [*whole, ("transpose_v", 24), last],
        # The engine's: q; 70 keys in front, 200 in order; 6 means; the values.
        [*chosen, ("quantize", 8), ("quantize", 2), *moved, ("attend", 4)],
        [("reorder_rows", 8), *moved, *moved, ("attend", 4)],
        [*chosen, ("quantize", 8), ("quantize", 2), ("transpose_v", 4), ("transpose_v", 8), ("attend", 4)],
    ]


@pytest.mark.parametrize(
    ("capability", "mark", "wanted", "marked"),
    [
        # Hopper: every product by WGMMA. Ada: INT8 calls sum their values in float16, others and float8 do not.
        (("9", "0"), "wgmma.mma_async", starts(12, (), ()), (True,) * 10),
        (
            ("8", "9"),
            ".f16.f16.f16.f16",
            starts(24, (("reorder_rows", 24),), (("reorder_rows", 1),)),
            (True, False, True, True, False, True, False, True, False, False),
        ),
    ],
    ids=["Hopper", "Ada"],
)
def test_what_attention_launches_compiles(capability, mark, wanted, marked):
    """The table compiles with signatures of its own; this is the launch itself, with real tensors."""
    done = subprocess.run(
        [sys.executable, kernels.ROOT / "tests" / "kernel" / "triton_launches.py", *capability, mark],
        env={**os.environ, "PYTHONPATH": str(kernels.ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    calls = json.loads(done.stdout)
    assert [[(name, programs) for name, programs, _ in call] for call in calls] == wanted
    assert tuple(call[-1][2] > 0 for call in calls) == marked
