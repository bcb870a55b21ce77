"""Writes the tables of benchmarks/KERNEL.md that follow from benchmarks/compiled.json, between their markers.

python scripts/kernel_page.py            (in .venv, after compile_kernels.py: it imports attention/)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import kernel

PAGE, TABLE = ROOT / "benchmarks" / "KERNEL.md", ROOT / "benchmarks" / "compiled.json"
ARCHITECTURES = (80, 86, 89, 90, 100, 120)
# What the page shows of the table, for heads of 128.
SHOWN = ("dense, int8", "dense, float16", "lists, masks, means, int8", "dense, int8 and float8")
PRODUCTS = ("IMMA", "HMMA", "QMMA", "IGMMA", "HGMMA", "QGMMA", "UTCIMMA", "UTCHMMA", "UTCQMMA")
FLOORS_OF = SimpleNamespace(heads=24, head_dims=(64, 128), tokens=(32640,))


def compiled() -> str:
    """Registers, KiB of shared memory and the products' instructions of SHOWN on each architecture."""
    kernels = json.loads(TABLE.read_text())["kernels"]
    lines = [f"| | {' | '.join(SHOWN)} |", "|" + " --- |" * (len(SHOWN) + 1)]
    for architecture in ARCHITECTURES:
        rows = [kernels.get(f"sm_{architecture}, {what}, head size 128") for what in SHOWN]
        lines.append(f"| sm_{architecture} | {' | '.join('-' if row is None else cell(row) for row in rows)} |")
    return "\n".join(lines)


def cell(row: dict) -> str:
    products = [f"{row[name]} {name}" for name in PRODUCTS if name in row]
    loop = f"loop of {row['loop']} instructions"
    return f"{row['registers']} registers, {row['shared_kib']:g} KiB, {', '.join(products)}, {loop}"


def floors() -> str:
    return kernel.floors(FLOORS_OF).split("\n\n")[1]


TABLES = {"compiled": compiled, "floors": floors}


def written() -> str:
    """The page's text with the tables made anew."""
    text = PAGE.read_text(encoding="utf-8")
    for mark, table in TABLES.items():
        start, end = f"<!-- {mark} -->\n", f"\n<!-- /{mark} -->"
        head, rest = text.split(start)
        text = head + start + table() + end + rest.split(end)[1]
    return text


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
