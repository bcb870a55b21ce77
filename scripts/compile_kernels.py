"""Compiles our Triton kernel for every GPU generation, without a GPU, and writes what came out of it.

python scripts/compile_kernels.py [--check]     (in .venv; Linux, whose Triton brings NVIDIA's disassembler)

Writes benchmarks/compiled.json: for each architecture and way to call the kernel the registers, spills and shared
memory, and how many instructions do the work; then `python scripts/kernel_page.py` writes the page's tables. --check
compares instead, and fails where they differ: scripts/test.py does so beside the tests. Takes minutes.
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
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import triton
from machine_code import is_a, long_loop, operations, tool
from processes import follow
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attention.backends.triton import device, tiling, transforms
from attention.backends.triton.block_lists import KEYS
from attention.backends.triton.device import compiled
from attention.backends.triton.launch import triton_version
from attention.backends.triton.quantize import ROWS, WARPS
from attention.backends.triton.tiling import MEANS, edge_stages, padded, tiling_for

TABLE = ROOT / "benchmarks" / "compiled.json"
ARCHITECTURES = (80, 86, 89, 90, 100, 120)
WITH_FLOAT8 = (89, 90, 100, 120)
WITH_FP16_ACCUMULATE = (86, 89, 120)
# KiB of shared memory that one program may have: NVIDIA, CUDA C++ Programming Guide, table "Technical Specifications".
SHARED_KIB = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
HEAD_DIMS = (64, 128)
# For scores, and for values. More of them say that NVIDIA's assembler gave up overlapping WGMMA (its message C7515).
MOST_WAITS = 2
# Which optional tensors of `attend` a way to call it has.
FEATURES = {
    "bias": ("BIAS",),
    "listed": ("LIST", "COUNT", "MASK_INDEX"),
    "masks": ("MASKS",),
    "means": ("BY_MEAN", "K_POOL", "K_POOL_SCALE", "V_POOL", "POOL_BIAS"),
}
WAYS = {
    "dense": (),
    "key mask": ("bias",),
    "lists": ("listed",),
    "lists, masks": ("listed", "masks"),
    "lists, means": ("listed", "means"),
    "lists, masks, means": ("listed", "masks", "means"),
}
# The ways that take most registers.
FULLEST = ("dense", "lists, masks", "lists, masks, means")
# What prepares the tensors: the function, whether for INT8 scores, and what is fixed besides the head size; a size that
# is left open is that of the kernel's tiles. The ways in order read through an index and write means: reorder.py.
AS_IT_STANDS, IN_ORDER = {"ORDER": None, "POOL": None}, {"ROWS": KEYS}
PREPARING = {
    "quantise": ("quantize", True, {**AS_IT_STANDS, "ROWS": ROWS, "EACH_ROW": False}),
    "pool": ("pool_kv", False, {"BIAS": None, "N": None}),
    "quantise queries in order": ("quantize", True, {"MEAN": None, "ROWS": ROWS, "EACH_ROW": True}),
    "quantise keys in order": ("quantize", True, {**IN_ORDER, "EACH_ROW": False}),
    "quantise keys in order, not rotated": ("quantize", True, {**IN_ORDER, "HADAMARD": None, "EACH_ROW": False}),
    "move in order": ("reorder_rows", False, {**IN_ORDER, "SCALE": None}),
}
# Values whose sums are float16.
FOR_FP16_ACCUMULATE = {
    "scale": ("reorder_rows", False, {**AS_IT_STANDS, "ROWS": None}),
    "scale in order": ("reorder_rows", False, IN_ORDER),
}
FOR_FLOAT8 = {
    "turn": ("transpose_v", False, {**AS_IT_STANDS, "ROWS": None}),
    "turn in order": ("transpose_v", False, IN_ORDER),
}
PREPARED = PREPARING | FOR_FLOAT8 | FOR_FP16_ACCUMULATE
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


@dataclass(frozen=True)
class Target:
    """One row of the table.

    architecture: 90 for sm_90.
    way: of WAYS, or what prepares for it, of PREPARED.
    quantized: whether scores are INT8.
    head_dim: D.
    dtype: of q, k and v, as Triton names it.
    float8: whether weights and values have 8 bits.
    """

    architecture: int
    way: str
    quantized: bool
    head_dim: int
    dtype: str = "fp16"
    float8: bool = False

    @property
    def accumulates_fp16(self) -> bool:
        """Whether the kernel's values are float16 over a scale."""
        return self.way in WAYS and self.quantized and not self.float8 and self.architecture in WITH_FP16_ACCUMULATE

    @property
    def name(self) -> str:
        values = "float8" if self.float8 else {"fp16": "float16", "bf16": "bfloat16"}[self.dtype]
        kind = values if not self.quantized else "int8" if values == "float16" else f"int8 and {values}"
        return f"sm_{self.architecture}, {self.way}, {kind}, head size {self.head_dim}"


def targets() -> list[Target]:
    """List every way with float16; bfloat16, which takes the same instructions, where registers are scarcest."""
    every = [Target(a, way, q, d) for a in ARCHITECTURES for way in WAYS for q in (True, False) for d in HEAD_DIMS]
    every += [Target(a, way, q, d) for a in ARCHITECTURES for way, (_, q, _) in PREPARING.items() for d in HEAD_DIMS]
    every += [Target(a, way, False, d) for a in WITH_FLOAT8 for way in FOR_FLOAT8 for d in HEAD_DIMS]
    every += [Target(a, way, False, d) for a in WITH_FP16_ACCUMULATE for way in FOR_FP16_ACCUMULATE for d in HEAD_DIMS]
    small = [Target(a, way, True, d, "bf16", True) for a in WITH_FLOAT8 for way in FULLEST for d in HEAD_DIMS]
    filled = [Target(a, "dense", q, 96) for a in ARCHITECTURES for q in (True, False)]
    scarce = [Target(a, way, q, 128, "bf16") for a in (90, 120) for way in FULLEST for q in (True, False)]
    return [*every, *small, *filled, *scarce, *(Target(a, "dense", False, 128, "bf16") for a in (80, 86, 89, 100))]


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
    capability, size = divmod(target.architecture, 10), padded(target.head_dim)
    features = WAYS.get(target.way, ())
    how = {"bias": "bias" in features, "listed": "listed" in features, "float8": target.float8}
    tile = tiling_for(capability, target.quantized, target.head_dim, triton=triton_version(), **how)
    fixed, options, function = {"D": target.head_dim, "PADDED": size}, {"num_warps": WARPS}, "attend"
    if target.way in WAYS:
        fixed |= {"M": tile.m, "N": tile.n, "MEANS": MEANS, "STAGES": tile.stages, "QUANTIZED": target.quantized}
        edges = edge_stages(tile, target.quantized, **{name: name in features for name in ("listed", "masks", "means")})
        fixed |= {"TRANSPOSED_V": target.float8, "FP16_ACCUMULATE": tile.fp16_accumulate}
        fixed |= {"PIPELINED_PV": tile.pipelined_pv, "EDGE_STAGES": edges}
        options = {"num_warps": tile.warps, "num_stages": tile.stages}
        absent = [name for feature in FEATURES if feature not in features for name in FEATURES[feature]]
        scaled = target.float8 or tile.fp16_accumulate
        fixed |= dict.fromkeys([*absent, *(() if target.quantized else SCALES), *(() if scaled else ("V_SCALE",))])
    else:
        function, _, more = PREPARED[target.way]
        fixed |= {name: tile.n if name in ("N", "ROWS") and value is None else value for name, value in more.items()}
    function = compiled()[function]
    names = function.arg_names
    signature = {name: "constexpr" if name in fixed else type_of(name, target) for name in names}
    # Pointers and steps of real tensors are multiples of 16 elements; so Triton specialises a launch.
    even = [i for i, name in enumerate(names) if signature[name].startswith("*") or re.fullmatch("._[bhl]", name)]
    attributes = {(i,): [["tt.divisibility", 16]] for i in even}
    constants = {(names.index(name),): value for name, value in fixed.items()}
    return ASTSource(function, signature, constants, attributes), {**options, "enable_fp_fusion": True}


def type_of(name: str, target: Target) -> str:
    """Give the type of one argument, as Triton names it."""
    if name in POINTERS:
        return POINTERS[name]
    if not name.isupper():
        return "i32"
    if (name == "V" and target.float8) or (name == "OUT" and target.way in FOR_FLOAT8):
        return "*fp8e4nv"
    if name == "POOL" and target.way not in FOR_FLOAT8 | FOR_FP16_ACCUMULATE:
        return "*fp32"
    if (name == "V" and target.accumulates_fp16) or (name == "OUT" and target.way in FOR_FP16_ACCUMULATE):
        return "*fp16"
    in_int8 = ("Q", "K", "K_POOL") if target.way in WAYS else ("OUT",)
    return "*i8" if target.quantized and name in in_int8 else f"*{target.dtype}"


def measure(target: Target) -> dict:
    """Compile one target; count registers, stack bytes, shared KiB and instructions. loop: those of the long loop."""
    what, options = source(target)
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


def faults(target: Target, row: dict) -> list[str]:
    """Say why a compiled kernel is not fit to ship; empty: it is.

    It spills registers, needs more shared memory than there is, may read past its tensors, or each WGMMA waits for the
    one before.
    """
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
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    known = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    if options.check and triton.__version__ != known["triton"]:
        print(f"Nothing was compiled: {TABLE.name} is of Triton {known['triton']}, this is {triton.__version__}.")
        return 0
    table, wrong = {"triton": triton.__version__, "sources": fingerprint(), "kernels": {}}, []
    with ProcessPoolExecutor(options.processes) as pool:
        for target, row in zip(targets(), pool.map(measure, targets())):
            table["kernels"][target.name] = row
            wrong += [f"{target.name}: {fault}" for fault in faults(target, row)]
            if options.check and row != known["kernels"].get(target.name):
                wrong.append(f"{target.name}: {row}, in {TABLE.name}: {known['kernels'].get(target.name)}")
            print(target.name, row, flush=True)
    if not options.check:
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print(*wrong, f"{len(table['kernels'])} kernels compiled, {len(wrong)} faults.", sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    # With all its workers, where it was started in a session of its own.
    follow(lambda: os.killpg(0, signal.SIGKILL))
    sys.exit(main())
