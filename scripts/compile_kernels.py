"""Compiles our Triton kernel for every GPU generation, without a GPU, and writes what came out of it.

python scripts/compile_kernels.py [--check]     (in .venv; Linux, whose Triton brings NVIDIA's disassembler)

Writes benchmarks/compiled.json: for each architecture and way to call the kernel the registers, spills and shared
memory, and how many instructions do the work. --check compares instead, and fails where they differ. Takes minutes: the
tests compile a part again, and compare a fingerprint of what all of it was made from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tokenize
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attention.triton import copies, device
from attention.triton.cuts import CUTS, MEANS, cut, padded
from attention.triton.device import compiled
from attention.triton.lists import KEYS
from attention.triton.prepare import ROWS, WARPS

TABLE = ROOT / "benchmarks" / "compiled.json"
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
ARCHITECTURES = (80, 86, 89, 90, 100, 120)
WITH_FLOAT8 = (89, 90, 100, 120)
# KiB of shared memory that one program may have: NVIDIA, CUDA C++ Programming Guide, table "Technical Specifications".
SHARED_KIB = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
HEAD_DIMS = (64, 128)
# Which optional tensors of `attend` a way to call it has.
FEATURES = {
    "bias": ("BIAS",),
    "lists": ("LIST", "COUNT", "CHOICE"),
    "masks": ("MASKS",),
    "means": ("LEFT", "K_POOL", "K_POOL_SCALE", "V_POOL", "POOL_BIAS"),
}
WAYS = {
    "dense": (),
    "key mask": ("bias",),
    "lists": ("lists",),
    "lists, masks": ("lists", "masks"),
    "lists, means": ("lists", "means"),
    "lists, masks, means": ("lists", "masks", "means"),
}
# The ways that take most registers.
FULLEST = ("dense", "lists, masks", "lists, masks, means")
# What prepares the tensors: the function, whether for INT8 scores, and what is fixed besides the head size; a size that
# is left open is that of the kernel's tiles. The ways in order read through an index and write means: ordered.py.
AS_IT_STANDS, IN_ORDER = {"ORDER": None, "POOL": None}, {"ROWS": KEYS}
PREPARING = {
    "quantise": ("quantise", True, {**AS_IT_STANDS, "ROWS": ROWS, "EACH_ROW": False}),
    "pool": ("pool", False, {"BIAS": None, "N": None}),
    "quantise queries in order": ("quantise", True, {"MEAN": None, "ROWS": ROWS, "EACH_ROW": True}),
    "quantise keys in order": ("quantise", True, {**IN_ORDER, "EACH_ROW": False}),
    "quantise keys in order, not rotated": ("quantise", True, {**IN_ORDER, "HADAMARD": None, "EACH_ROW": False}),
    "move in order": ("move", False, IN_ORDER),
}
FOR_FLOAT8 = {
    "turn": ("turn", False, {**AS_IT_STANDS, "ROWS": None}),
    "turn in order": ("turn", False, IN_ORDER),
}
SCALES = ("Q_SCALE", "K_SCALE", "K_POOL_SCALE")
POINTERS = {
    **dict.fromkeys(("LIST", "COUNT", "CHOICE"), "*i32"),
    **dict.fromkeys((*SCALES, "V_SCALE", "BIAS", "POOL_BIAS", "SCALE", "MEAN", "MASS"), "*fp32"),
    **{"MASKS": "*i32", "ORDER": "*i32", "LEFT": "*u8", "scale": "fp32", "factor": "fp32"},
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
    """One row of the table. way: of WAYS, or what prepares for it. float8: weights and values in 8 bits."""

    architecture: int
    way: str
    quantised: bool
    head_dim: int
    dtype: str = "fp16"
    float8: bool = False

    @property
    def name(self) -> str:
        values = "float8" if self.float8 else {"fp16": "float16", "bf16": "bfloat16"}[self.dtype]
        kind = values if not self.quantised else "int8" if values == "float16" else f"int8 and {values}"
        return f"sm_{self.architecture}, {self.way}, {kind}, head size {self.head_dim}"


def targets() -> list[Target]:
    """Every way with float16; bfloat16, which takes the same instructions, where registers are scarcest."""
    every = [Target(a, way, q, d) for a in ARCHITECTURES for way in WAYS for q in (True, False) for d in HEAD_DIMS]
    every += [Target(a, way, q, d) for a in ARCHITECTURES for way, (_, q, _) in PREPARING.items() for d in HEAD_DIMS]
    every += [Target(a, way, False, d) for a in WITH_FLOAT8 for way in FOR_FLOAT8 for d in HEAD_DIMS]
    small = [Target(a, way, True, d, "bf16", True) for a in WITH_FLOAT8 for way in FULLEST for d in HEAD_DIMS]
    filled = [Target(a, "dense", q, 96) for a in ARCHITECTURES for q in (True, False)]
    scarce = [Target(a, way, q, 128, "bf16") for a in (90, 120) for way in FULLEST for q in (True, False)]
    return [*every, *small, *filled, *scarce, *(Target(a, "dense", False, 128, "bf16") for a in (80, 86, 89, 100))]


def fingerprint() -> str:
    """Of the functions that Triton compiles, without comments and docstrings, and of how they are cut."""
    kept = [*code(device.__file__), *code(copies.__file__)]
    fixed = sorted(map(repr, CUTS.items())), MEANS, ROWS, WARPS
    return hashlib.sha256(f"{kept} {fixed}".encode()).hexdigest()[:16]


def code(path: str) -> list[str]:
    """A file's tokens without comments and docstrings."""
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
    """What Triton compiles, with the settings that launch.py and prepare.py start it with."""
    capability, size = divmod(target.architecture, 10), padded(target.head_dim)
    features = WAYS.get(target.way, ())
    one = cut(capability, target.quantised, target.head_dim, bias="bias" in features, listed="lists" in features)
    fixed, options, function = {"D": target.head_dim, "PADDED": size}, {"num_warps": WARPS}, "attend"
    if target.way in WAYS:
        fixed |= {"M": one.m, "N": one.n, "MEANS": MEANS, "STAGES": one.stages, "QUANTISED": target.quantised}
        options = {"num_warps": one.warps, "num_stages": one.stages}
        absent = [name for feature in FEATURES if feature not in features for name in FEATURES[feature]]
        fixed |= dict.fromkeys(
            [*absent, *(() if target.quantised else SCALES), *(() if target.float8 else ("V_SCALE",))]
        )
    else:
        function, _, more = {**PREPARING, **FOR_FLOAT8}[target.way]
        fixed |= {name: one.n if name in ("N", "ROWS") and value is None else value for name, value in more.items()}
    function = compiled()[function]
    names = function.arg_names
    signature = {name: "constexpr" if name in fixed else type_of(name, target) for name in names}
    # Pointers and steps of real tensors are multiples of 16 elements; so Triton specialises a launch.
    even = [i for i, name in enumerate(names) if signature[name].startswith("*") or re.fullmatch("._[bhl]", name)]
    attributes = {(i,): [["tt.divisibility", 16]] for i in even}
    constants = {(names.index(name),): value for name, value in fixed.items()}
    return ASTSource(function, signature, constants, attributes), {**options, "enable_fp_fusion": True}


def type_of(name: str, target: Target) -> str:
    if name in POINTERS:
        return POINTERS[name]
    if not name.isupper():
        return "i32"
    if (name == "V" and target.float8) or (name == "OUT" and target.way in FOR_FLOAT8):
        return "*fp8e4nv"
    if name == "POOL" and target.way not in FOR_FLOAT8:
        return "*fp32"
    in_int8 = ("Q", "K", "K_POOL") if target.way in WAYS else ("OUT",)
    return "*i8" if target.quantised and name in in_int8 else f"*{target.dtype}"


def measure(target: Target) -> dict:
    """{cut, registers, stack bytes, shared KiB, instruction counts} of one target."""
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
        "shared_kib": round(kernel.metadata.shared / 1024, 1),
        **{name: count for name, count in counts.items() if count},
    }


def operations(assembly: str) -> list[str]:
    """The instructions' names, `MUFU.EX2` for instance, in order."""
    return re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", assembly, re.MULTILINE)


def is_a(name: str, operation: str) -> bool:
    return operation == name or operation.startswith(f"{name}.")


def long_loop(assembly: str) -> str:
    """The last loop with an exponential: that over whole blocks. Empty where there is none."""
    labels, found = {}, ""
    for match in re.finditer(r"^(\.L\w+):|\bBRA\S*\s.*?`\((\.L\w+)\)", assembly, re.MULTILINE):
        if match[1]:
            labels[match[1]] = match.end()
        elif match[2] in labels and "MUFU.EX2" in assembly[labels[match[2]] : match.start()]:
            found = assembly[labels[match[2]] : match.start()]
    return found


def tool(name: str, *arguments) -> str:
    return subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True, check=True).stdout


def faults(target: Target, row: dict) -> list[str]:
    """Why a compiled kernel is not fit to ship: it spills registers, or needs more shared memory than there is."""
    found = [f"stack {row['stack']}"] if row["stack"] else []
    if row["shared_kib"] > SHARED_KIB[target.architecture]:
        found.append(f"{row['shared_kib']} KiB of shared memory, {SHARED_KIB[target.architecture]} are there")
    return found


# What the page shows of the table, for heads of 128.
SHOWN = ("dense, int8", "dense, float16", "lists, masks, means, int8", "dense, int8 and float8")


def page(kernels: dict) -> str:
    """Markdown: registers, KiB of shared memory and the products' instructions of SHOWN on each architecture."""
    lines = [f"| | {' | '.join(SHOWN)} |", "|" + " --- |" * (len(SHOWN) + 1)]
    for architecture in ARCHITECTURES:
        rows = [kernels.get(f"sm_{architecture}, {what}, head size 128") for what in SHOWN]
        lines.append(f"| sm_{architecture} | {' | '.join('-' if row is None else cell(row) for row in rows)} |")
    return "\n".join(lines)


def cell(row: dict) -> str:
    products = [f"{row[name]} {name}" for name in COUNTED if name.endswith("MMA") and name in row]
    return f"{row['registers']} registers, {row['shared_kib']:g} KiB, {', '.join(products)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the table, write nothing")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    table, wrong = {"triton": triton.__version__, "sources": fingerprint(), "kernels": {}}, []
    with ProcessPoolExecutor(options.processes) as pool:
        for target, row in zip(targets(), pool.map(measure, targets())):
            table["kernels"][target.name] = row
            wrong += [f"{target.name}: {fault}" for fault in faults(target, row)]
            print(target.name, row, flush=True)
    if options.check and json.loads(TABLE.read_text()) != table:
        wrong.append(f"{TABLE.name} differs; run {Path(__file__).name}")
    if not options.check:
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print("\n".join(wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
