"""The pack's source files, as paths and as trees."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_SHIPPED = {"scripts", "tests", "benchmarks"}


@cache
def sources(*folders: str) -> tuple[Path, ...]:
    return tuple(sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")))


@cache
def shipped() -> tuple[Path, ...]:
    """Every .py file of the pack outside hidden, generated and NOT_SHIPPED folders."""
    folders = [
        entry.name
        for entry in ROOT.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in {*NOT_SHIPPED, "output"}
    ]
    return (*sorted(ROOT.glob("*.py")), *sources(*folders))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
