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


def find_for(family, model, level: str) -> Preset:
    """Find the preset of a loaded model: its release's, else its family's, else kernels alone.

    family: its Family; None for a model that is not known.
    model: the diffusion model.
    level: one of LEVELS.
    """
    if family is None or family.unsupported:
        return find(None, level)
    release = find(family.name_of(model), level)
    return release if release.models else find(family.name, level)


__all__ = ["BALANCED", "FAST", "HIGH", "LEVELS", "LEVELS_BY_NAME", "LOSSLESS", "TABLE", "Preset", "find", "find_for"]
