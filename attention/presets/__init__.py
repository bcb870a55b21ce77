"""TABLE: what is done to attention and steps, for a family of models at a level. spec.py says what a row is."""

from . import hunyuan, ltx, minimax, unknown, wan
from .levels import BALANCED, FAST, HIGH, LEVELS, LEVELS_BY_NAME, LOSSLESS
from .spec import Preset

TABLE = (*hunyuan.ROWS, *ltx.ROWS, *minimax.ROWS, *wan.ROWS, *unknown.ROWS)


def find(name: str | None, level: str) -> Preset:
    """Find the preset of a family or release at a level; kernels alone where no row names it.

    name: as Family.name or Family.name_of has it; None: not known.
    level: one of LEVELS. ValueError with those for another.
    """
    if level not in LEVELS:
        raise ValueError(f"level: {level!r} is not known. Known: {', '.join(LEVELS)}.")
    rows = [row for row in TABLE if row.level == level]
    return next((row for row in rows if name in row.models), next(row for row in rows if not row.models))


__all__ = ["BALANCED", "FAST", "HIGH", "LEVELS", "LEVELS_BY_NAME", "LOSSLESS", "TABLE", "Preset", "find"]
