"""Reads the assembly that Triton makes of a kernel for AMD, which its packages need no tool for."""

from __future__ import annotations

import re

# KiB of local memory that one program may have: AMD, ROCm's table of GPU specifications
# (https://rocm.docs.amd.com/en/latest/reference/gpu-arch-specs.html).
LOCAL_KIB = {"gfx950": 160}
# Products by the matrix cores; what would turn each INT8 score into a float; how much of anything is nothing.
PRODUCTS, CONVERSIONS, FEW = ("v_mfma", "v_wmma"), ("v_cvt_f32_i32", "v_cvt_f32_u32"), 4


def wave(architecture: str) -> int:
    """Count the lanes of a wave: 64 on CDNA, gfx9, and 32 on RDNA."""
    return 64 if architecture.startswith("gfx9") else 32


def operations(assembly: str) -> list[str]:
    """List the instructions' names, `v_exp_f32_e32` for instance, in order."""
    return re.findall(r"^\s+([a-z]\w+)", re.sub(r"^\s+[.;].*$", "", assembly, flags=re.MULTILINE), re.MULTILINE)


def long_loop(assembly: str) -> str:
    """Cut out the last loop with an exponential: that over full blocks. Empty where there is none."""
    labels, found = {}, ""
    for match in re.finditer(r"^(\.L\w+):|^\s+s_c?branch\w*\s+(\.L\w+)", assembly, re.MULTILINE):
        if match[1]:
            labels[match[1]] = match.end()
        elif match[2] in labels and "v_exp_f32" in assembly[labels[match[2]] : match.start()]:
            found = assembly[labels[match[2]] : match.start()]
    return found


def counts(assembly: str) -> dict:
    """Count registers, spills, bytes of scratch, and instructions; loop: those of the long loop."""
    number = {name: int(count) for name, count in re.findall(r"^\s+\.(\w+):\s+(\d+)$", assembly, re.MULTILINE)}
    every, loop = operations(assembly), operations(long_loop(assembly))
    found = {
        "registers": number["vgpr_count"],
        "spills": number["vgpr_spill_count"],
        "scalars_in_lanes": number["sgpr_spill_count"],
        "stack": number["private_segment_fixed_size"],
        "loop": len(loop),
        "vector_in_loop": sum(op.startswith("v_") and not op.startswith(PRODUCTS) for op in loop),
        "cvt_in_loop": sum(op.startswith("v_cvt") for op in loop),
        "exp_in_loop": sum(op.startswith("v_exp") for op in loop),
        "cvt_of_integers": sum(op.startswith(CONVERSIONS) for op in every),
    }
    products = [op for op in every if op.startswith(PRODUCTS)]
    return found | {name: products.count(name) for name in dict.fromkeys(products)}


def kinds(row: dict) -> set[str]:
    """Tell what the matrix cores multiply in a kernel of such counts: "i8", "f16", "bf16", "fp8"."""
    named = [re.search(r"x\d+_?(bf16|f16|i8|iu8|fp8|f8f6f4)", name)[1] for name in row if name.startswith(PRODUCTS)]
    return {{"iu8": "i8", "f8f6f4": "fp8"}.get(name, name) for name in named}


def faults(row: dict, architecture: str, products: set[str]) -> list[str]:
    """Say why a kernel of such counts is not fit to ship; empty: it is.

    products: the kinds of products that it has, all of them for the matrix cores.
    """
    limit, found = LOCAL_KIB.get(architecture, 64), []
    # A scalar that has no register is kept in a lane of a vector register: no memory, and a few are nothing.
    if row["stack"] or row["spills"] or row["scalars_in_lanes"] > FEW:
        scalars = row["scalars_in_lanes"]
        found.append(f"stack {row['stack']}, {row['spills']} registers spilled, {scalars} scalars")
    if row["shared_kib"] > limit:
        found.append(f"{row['shared_kib']} KiB of shared memory, {limit} are there")
    if kinds(row) != products:
        found.append(f"the matrix cores multiply {kinds(row)}, {products} are asked for")
    if row["cvt_of_integers"] > 2 * FEW:
        found.append(f"{row['cvt_of_integers']} conversions of integers: each score is one")
    if "fp8" in products and row["cvt_in_loop"] < row["exp_in_loop"] // 2:
        found.append("conversions to float8 in software")
    if row["cvt_in_loop"] > row["exp_in_loop"] + FEW:
        found.append(f"{row['cvt_in_loop']} conversions for {row['exp_in_loop']} exponentials in the long loop")
    return found
