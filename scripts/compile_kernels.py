"""Compiles our Triton kernel for every GPU generation, without a GPU, and writes what came out of it.

python scripts/compile_kernels.py [--check] [--only REGEX]     (in .venv; Linux, for NVIDIA's disassembler in Triton)

Writes benchmarks/compiled.json: for each architecture and way to call the kernel the registers, spills and shared
memory, and how many instructions do the work; then `python scripts/kernel_page.py` writes the page's tables. --check
compares instead, and fails where they differ: scripts/test.py does so beside the tests. Takes minutes. --only: those
of such names alone; the others' rows stay as they are, which is right where their sources are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import sys
import tempfile
import tokenize
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import amd_code
import triton
from kernel_targets import (
    FEATURES,
    FOR_FLOAT8,
    FOR_FP16_ACCUMULATE,
    PREPARED,
    WAYS,
    Target,
    targets,
)  # fmt: skip
from machine_code import is_a, long_loop, operations, tool
from processes import follow
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attention.backends.triton import device, tiling, transforms
from attention.backends.triton.device import compiled
from attention.backends.triton.launch import triton_version
from attention.backends.triton.quantize import ROWS, WARPS, warps_to_quantize
from attention.backends.triton.tiling import AMD_FLOAT8, edge_stages, padded, tiling_for

TABLE = ROOT / "benchmarks" / "compiled.json"
# KiB of shared memory that one program may have: NVIDIA, CUDA C++ Programming Guide, table "Technical Specifications".
SHARED_KIB = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
# For scores, and for values. More of them say that NVIDIA's assembler gave up overlapping WGMMA (its message C7515).
MOST_WAITS = 2
SCALES = ("Q_SCALE", "K_SCALE", "K_POOL_SCALE")
POINTERS = {
    **dict.fromkeys(("LIST", "COUNT", "MASK_INDEX"), "*i32"),
    **dict.fromkeys((*SCALES, "V_SCALE", "BIAS", "POOL_BIAS", "SCALE", "MEAN", "MASS"), "*fp32"),
    **{"MASKS": "*i32", "ORDER": "*i32", "BY_MEAN": "*u8", "scale": "fp32", "factor": "fp32"},
}
# Tensor-core products of integers and of halves (legacy, Hopper's, Blackwell's), conversions that would slow each
# score, and the exponentials.
COUNTED = (
    "IMMA",
    "HMMA",
    "QMMA",
    "IGMMA",
    "HGMMA",
    "QGMMA",
    "UTCIMMA",
    "UTCHMMA",
    "UTCQMMA",
    "I2F",
    "I2FP",
    "MUFU.EX2",
    "LDL",
    "STL",
)


def fingerprint() -> str:
    """Hash the functions that Triton compiles and the table of tilings, without comments and docstrings."""
    kept = [token for module in (device, transforms, tiling) for token in code(module.__file__)]
    return hashlib.sha256(f"{kept} {ROWS} {WARPS}".encode()).hexdigest()[:16]


def code(path: str) -> list[str]:
    """List a file's tokens without comments and docstrings."""
    kept, before = [], tokenize.NEWLINE
    with open(path, "rb") as text:
        for token in tokenize.tokenize(text.readline):
            starts_line = before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
            if token.type in (tokenize.COMMENT, tokenize.NL) or (token.type == tokenize.STRING and starts_line):
                continue
            kept.append(token.string)
            before = token.type
    return kept


def source(target: Target) -> tuple[ASTSource, dict]:
    """Make what Triton compiles, with the settings that launch.py and quantize.py start it with."""
    size = padded(target.head_dim)
    features = WAYS.get(target.way, ())
    how = {"bias": "bias" in features, "listed": "listed" in features, "float8": target.float8}
    # What prepares for a way that is refused has none of its own, and is cut as for INT8.
    quantized = target.quantized or (target.amd and target.way in PREPARED)
    tile = tiling_for(target.gpu, quantized, target.head_dim, triton=triton_version(), **how)
    fixed, options, function = {"D": target.head_dim, "PADDED": size}, {"num_warps": WARPS}, "attend"
    if target.way in WAYS:
        fixed |= {"M": tile.m, "N": tile.n, "MEANS": tile.means, "STAGES": tile.stages, "QUANTIZED": target.quantized}
        edges = edge_stages(tile, target.quantized, **{name: name in features for name in ("listed", "masks", "means")})
        fixed |= {"TRANSPOSED_V": target.float8, "FP16_ACCUMULATE": tile.fp16_accumulate}
        fixed |= {"PIPELINED_PV": tile.pipelined_pv, "EDGE_STAGES": edges, "PARTS": tile.parts}
        options = {"num_warps": tile.warps, "num_stages": tile.stages, **tile.options}
        absent = [name for feature in FEATURES if feature not in features for name in FEATURES[feature]]
        scaled = target.float8 or tile.fp16_accumulate
        fixed |= dict.fromkeys([*absent, *(() if target.quantized else SCALES), *(() if scaled else ("V_SCALE",))])
    else:
        function, _, more = PREPARED[target.way]
        if function == "quantize":
            options["num_warps"] = warps_to_quantize(target.architecture if target.amd else None)
        rows = tile.block if target.amd else tile.n
        fixed |= {name: rows if name in ("N", "ROWS") and value is None else value for name, value in more.items()}
    function = compiled()[function]
    names = function.arg_names
    signature = {name: "constexpr" if name in fixed else type_of(name, target) for name in names}
    # Pointers and steps of real tensors are multiples of 16 elements; so Triton specialises a launch.
    even = [i for i, name in enumerate(names) if signature[name].startswith("*") or re.fullmatch("._[bhl]", name)]
    attributes = {(i,): [["tt.divisibility", 16]] for i in even}
    if target.amd:  # and of tensors below 2 GiB, whose offsets take 32 bits
        attributes |= {at: [*more, ["tt.pointer_range", 32]] for at, more in attributes.items()
                       if signature[names[at[0]]].startswith("*")}  # fmt: skip
    constants = {(names.index(name),): value for name, value in fixed.items()}
    return ASTSource(function, signature, constants, attributes), {**options, "enable_fp_fusion": True}


def type_of(name: str, target: Target) -> str:
    """Give the type of one argument, as Triton names it."""
    if name in POINTERS:
        return POINTERS[name]
    if not name.isupper():
        return "i32"
    if (name == "V" and target.float8) or (name == "OUT" and target.way in FOR_FLOAT8):
        return "*fp8e4b8" if AMD_FLOAT8.get(target.architecture, "").endswith("fnuz") else "*fp8e4nv"
    if name == "POOL" and target.way not in FOR_FLOAT8 | FOR_FP16_ACCUMULATE:
        return "*fp32"
    if (name == "V" and target.accumulates_fp16) or (name == "OUT" and target.way in FOR_FP16_ACCUMULATE):
        return "*fp16"
    in_int8 = ("Q", "K", "K_POOL") if target.way in WAYS else ("OUT",)
    return "*i8" if target.quantized and name in in_int8 else f"*{target.dtype}"


def measure(target: Target) -> dict:
    """Compile one target; count registers, stack bytes, shared KiB and instructions. loop: those of the long loop."""
    what, options = source(target)
    if target.amd:
        return measure_amd(target, what, options)
    kernel = triton.compile(what, target=GPUTarget("cuda", target.architecture, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(kernel.asm["cubin"])
        usage, assembly = tool("cuobjdump", "--dump-resource-usage", cubin), tool("nvdisasm", "-c", cubin)
    registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    counts = {name: sum(is_a(name, op) for op in operations(assembly)) for name in COUNTED}
    loop = operations(long_loop(assembly))
    return {
        "warps": options["num_warps"],
        "registers": registers,
        "stack": stack,
        "spills_in_loop": sum(is_a("LDL", op) or is_a("STL", op) for op in loop),
        "loop": len(loop),
        "waits_in_loop": sum(is_a("WARPGROUP.DEPBAR", op) for op in loop),
        "copies_without_mask": sum(
            "mask" not in line for line in re.findall("async_copy_global.*", kernel.asm["ttgir"])
        ),
        "shared_kib": round(kernel.metadata.shared / 1024, 1),
        **{name: count for name, count in counts.items() if count},
    }


def measure_amd(target: Target, what: ASTSource, options: dict) -> dict:
    """Compile one target for AMD and count as `measure` does."""
    where = GPUTarget("hip", target.architecture, amd_code.wave(target.architecture))
    kernel = triton.compile(what, target=where, options=options)
    shared = {"shared_kib": round(kernel.metadata.shared / 1024, 1)}
    return {"warps": options["num_warps"], **amd_code.counts(kernel.asm["amdgcn"]), **shared}


def products_of(target: Target) -> set[str]:
    """Name the products that a target for AMD has, as amd_code.kinds does."""
    values = {"fp16": "f16", "bf16": "bf16"}[target.dtype]
    if target.way in PREPARED:  # the rotation is one
        return {values} if PREPARED[target.way][1] and "not rotated" not in target.way else set()
    means = {values} if "means" in WAYS[target.way] else set()  # of 16 bits where values are float8
    return {"i8" if target.quantized else values, "fp8" if target.float8 else values} | means


def faults(target: Target, row: dict) -> list[str]:
    """Say why a compiled kernel is not fit to ship; empty: it is.

    It spills registers, needs more shared memory than there is, may read past its tensors, or each WGMMA waits for the
    one before. For AMD see amd_code.faults.
    """
    if target.amd:
        return amd_code.faults(row, target.architecture, products_of(target))
    found = [f"stack {row['stack']}"] if row["stack"] else []
    if row["shared_kib"] > SHARED_KIB[target.architecture]:
        found.append(f"{row['shared_kib']} KiB of shared memory, {SHARED_KIB[target.architecture]} are there")
    if row["waits_in_loop"] > MOST_WAITS:
        found.append(f"{row['waits_in_loop']} waits for WGMMA in the long loop, {MOST_WAITS} are asked for")
    if row["copies_without_mask"]:
        found.append(f"{row['copies_without_mask']} copies ahead of a loop that may read past its last block")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the table, write nothing")
    parser.add_argument("--only", default="", help="a regular expression that a kernel's name must have")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    known = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    if options.check and triton.__version__ != known["triton"]:
        print(f"Nothing was compiled: {TABLE.name} is of Triton {known['triton']}, this is {triton.__version__}.")
        return 0
    table, wrong = {"triton": triton.__version__, "sources": fingerprint(), "kernels": {}}, []
    chosen = [target for target in targets() if re.search(options.only, target.name)]
    rows = {target.name: known["kernels"].get(target.name) for target in targets()} if options.only else {}
    with ProcessPoolExecutor(options.processes) as pool:
        for target, row in zip(chosen, pool.map(measure, chosen)):
            rows[target.name] = row
            wrong += [f"{target.name}: {fault}" for fault in faults(target, row)]
            if options.check and row != known["kernels"].get(target.name):
                wrong.append(f"{target.name}: {row}, in {TABLE.name}: {known['kernels'].get(target.name)}")
            print(target.name, row, flush=True)
    table["kernels"] = rows
    if not options.check:
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print(*wrong, f"{len(chosen)} kernels compiled, {len(wrong)} faults.", sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    # With all its workers, where it was started in a session of its own.
    follow(lambda: os.killpg(0, signal.SIGKILL))
    sys.exit(main())
