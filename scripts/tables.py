"""Writes the tables of README.md that follow from the code, between their markers.

python scripts/tables.py            (in .venv: it imports attention/)
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from attention.backend import FLOATS, HALVES, Backend, Limits, head_dims_text
from attention.backends import TABLE
from attention.call import MASKS

README = ROOT / "README.md"
# First compute capability of a generation -> what people call it.
GENERATIONS = {
    (5, 0): "Maxwell",
    (7, 0): "Volta",
    (7, 5): "Turing",
    (8, 0): "Ampere",
    (9, 0): "Hopper",
    (12, 0): "Blackwell",
}


def backends() -> str:
    """The compatibility table, from each backend's own Limits."""
    lines = [
        "| backend | runs on | dtypes | head sizes | masks | exact | in `auto` |",
        "|" + " --- |" * 7,
    ]
    return "\n".join([*lines, *(row(backend) for backend in TABLE)])


def row(backend: Backend) -> str:
    limits = backend.limits
    cells = [
        backend.name, places(limits), dtypes(limits), head_dims_text(limits),
        *("yes" if flag else "no" for flag in (set(limits.masks) == set(MASKS), limits.exact, backend.auto)),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def places(limits: Limits) -> str:
    """`NVIDIA from Ampere on, CPU` or `everything`."""
    if not limits.devices:
        return "everything"
    names = {"cuda": "NVIDIA", "cpu": "CPU"}
    since = GENERATIONS.get(limits.min_capability)
    return ", ".join(names[d] + (f" from {since} on" if d == "cuda" and since else "") for d in limits.devices)


def dtypes(limits: Limits) -> str:
    if limits.dtypes == FLOATS:
        return "all"
    return "16 bit" if limits.dtypes == HALVES else "16 and 32 bit"


def filled(text: str) -> str:
    """README's text with the table between its markers made anew."""
    begin, end = "<!-- backends -->\n", "<!-- /backends -->"
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    return f"{head}{begin}{backends()}\n{end}{tail}"


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
