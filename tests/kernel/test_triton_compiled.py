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

import amd_code
import compile_kernels as kernels

from attention.backends.triton import tiling

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


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"stack": 8}, "stack 8, 0 registers spilled"),
        ({"spills": 3}, "stack 0, 3 registers spilled"),
        ({"scalars_in_lanes": 5}, "0 registers spilled, 5 scalars"),
        ({"shared_kib": 64.5}, "64.5 KiB of shared memory, 64 are there"),
        ({"cvt_of_integers": 64}, "64 conversions of integers"),
        ({"cvt_in_loop": 99}, "99 conversions for"),
        ({"v_mfma_f32_16x16x32_fp8_fp8": 1}, "the matrix cores multiply"),
    ],
)
def test_faults_on_amd_are_found(changed, fault):
    target = TARGETS["gfx942, dense, int8, head size 128"]
    good = TABLE["kernels"][target.name]
    assert kernels.faults(target, good) == [] and fault in kernels.faults(target, good | changed)[0]
    eight = TARGETS["gfx942, dense, int8 and float8, head size 128"]
    slow = TABLE["kernels"][eight.name] | {"cvt_in_loop": 0}
    assert kernels.faults(eight, slow) == ["conversions to float8 in software"]
    without = {name: count for name, count in good.items() if "_i8" not in name}
    assert "the matrix cores multiply" in kernels.faults(target, without)[0]


def test_every_way_on_amd_is_compiled_or_refused():
    """Of each architecture in the table of cuts, in the way that takes most registers."""
    tried = {(t.architecture, t.quantized, t.head_dim) for t in TARGETS.values() if t.amd and t.way in kernels.WAYS}
    for name in tiling.AMD:
        for quantized in (True, False):
            for size in (64, 128):
                assert ((name, quantized, size) in tried) is tiling.has_row(name, quantized, size)
    assert {t.architecture for t in TARGETS.values() if t.amd and t.float8} == set(tiling.AMD_FLOAT8)


ON_AMD = """
.LBB0_1:
	v_exp_f32_e32 v1, v1
	s_cbranch_scc1 .LBB0_1
	s_branch .LBB0_3
.LBB0_2:                                ; %loop
	v_exp_f32_e32 v1, v1
	v_cvt_f16_f32_e32 v1, v1
	s_cbranch_vccnz .LBB0_2
.LBB0_3:
	s_endpgm
"""


def test_the_long_loop_on_amd():
    loop = amd_code.operations(amd_code.long_loop(ON_AMD))
    assert loop == ["v_exp_f32_e32", "v_cvt_f16_f32_e32"] and len(amd_code.operations(ON_AMD)) == 7


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


@pytest.mark.parametrize("name", [name for name, t in TARGETS.items() if t.way in kernels.WAYS and not t.amd])
def test_tensor_cores_do_the_products(name):
    """Each generation's own instructions, and no conversion of scores: I2F stays what a few addresses take."""
    row, target = TABLE["kernels"][name], TARGETS[name]
    products = {90: ("IGMMA", "HGMMA", "QGMMA"), 100: ("UTCIMMA", "UTCHMMA", "UTCQMMA")}
    integer, half, eight = products.get(target.architecture, ("IMMA", "HMMA", "QMMA"))
    assert row.get(eight if target.float8 else half)
    assert bool(row.get(integer)) is target.quantized and bool(row.get(eight)) is target.float8
    assert row.get("I2F", 0) + row.get("I2FP", 0) < 10


def starts(in_keys: int, values: tuple, alone: tuple, masked: int = 24) -> list:
    """(kernel, programs) of tests/kernel/triton_launches.py's calls. in_keys: programs for the keys of a dense call.
    masked: the same where it has a mask.
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
        [("quantize", 48), ("quantize", masked), *values, last],
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
    ("gpu", "mark", "wanted", "marked"),
    [
        # Hopper: every product by WGMMA. Ada: INT8 calls sum their values in float16, others and float8 do not.
        ("9.0", "wgmma.mma_async", starts(12, (), ()), (True,) * 10),
        (
            "8.9",
            ".f16.f16.f16.f16",
            starts(24, (("reorder_rows", 24),), (("reorder_rows", 1),)),
            (True, False, True, True, False, True, False, True, False, False),
        ),
        # MI300: half tiles under a mask, lists in halves of blocks, its own float8; integers wherever scores are INT8.
        (
            "gfx942",
            "v_mfma_i32",
            starts(24, (), (), 44),
            (True, False, True, True, False, True, True, True, False, True),
        ),
    ],
    ids=["Hopper", "Ada", "MI300"],
)
def test_what_attention_launches_compiles(gpu, mark, wanted, marked):
    """The table compiles with signatures of its own; this is the launch itself, with real tensors."""
    done = subprocess.run(
        [sys.executable, kernels.ROOT / "tests" / "kernel" / "triton_launches.py", gpu, mark],
        env={**os.environ, "PYTHONPATH": str(kernels.ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    calls = json.loads(done.stdout)
    assert [[(name, programs) for name, programs, _ in call] for call in calls] == wanted
    assert tuple(call[-1][2] > 0 for call in calls) == marked
