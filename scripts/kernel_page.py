"""Writes the tables of benchmarks/KERNEL.md that follow from benchmarks/compiled.json, between their markers.

python scripts/kernel_page.py            (in .venv, after compile_kernels.py: it imports attention/)
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from amd_code import PRODUCTS
from tables import filled

from benchmarks import kernel
from benchmarks.floors import compiled as known

PAGE = ROOT / "benchmarks" / "KERNEL.md"
# What the page shows of the table, for heads of 128.
SHOWN = ("dense, int8", "dense, float16", "lists, masks, means, int8", "dense, int8 and float8")
FLOORS_OF = SimpleNamespace(heads=24, head_dims=(64, 128), tokens=(32640,))


def compiled() -> str:
    """Write registers, KiB of shared memory, the products' instructions and the loop's of SHOWN as a table."""
    kernels = known()
    lines = [f"| | {' | '.join(SHOWN)} |", "|" + " --- |" * (len(SHOWN) + 1)]
    for architecture in dict.fromkeys(name.split(",")[0] for name in kernels):
        rows = [kernels.get(f"{architecture}, {what}, head size 128") for what in SHOWN]
        lines.append(f"| {architecture} | {' | '.join('-' if row is None else cell(row) for row in rows)} |")
    return "\n".join(lines)


def cell(row: dict) -> str:
    """Write what was counted of one kernel."""
    products = [f"{count} {name}" for name, count in row.items() if name.endswith("MMA") or name.startswith(PRODUCTS)]
    loop = f"loop of {row['loop']} instructions"
    return f"{row['registers']} registers, {row['shared_kib']:g} KiB, {', '.join(products)}, {loop}"


def floors() -> str:
    """Write the floors of FLOORS_OF as a table."""
    return kernel.floors(FLOORS_OF).split("\n\n")[1]


TABLES = {"compiled": compiled, "floors": floors}

if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), TABLES), encoding="utf-8")
