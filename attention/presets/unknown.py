"""Models of which nothing is known but that they attend: kernels alone."""

from . import sources
from .levels import BALANCED, CLOSE, EXACT, FAST, HIGH, LOSSLESS, NEAR, ROUGH
from .spec import KERNEL, KernelChoice, Preset

# level -> (largest error, why).
KERNELS = {
    LOSSLESS: (EXACT, sources.ROUNDING),
    HIGH: (CLOSE, sources.GOOD_INT8),
    BALANCED: (NEAR, sources.GATE_INT8),
    FAST: (ROUGH, sources.ANY_INT8),
}


def kernels_only(
    models: tuple[str, ...], levels=tuple(KERNELS), note: str = "", errors: dict | None = None
) -> tuple[Preset, ...]:
    """Make the rows of models whose attention runs on another kernel at most.

    models: see Preset.
    levels: those to make rows of.
    note: see Preset.
    errors: as KERNELS, of levels at which these models stand less or more.
    """
    made = ((level, *(KERNELS | (errors or {}))[level]) for level in levels)
    return tuple(
        Preset(models, level, KernelChoice(error), sources=((KERNEL, why),), note=note) for level, error, why in made
    )


ROWS = kernels_only((), note="No pattern and no forecast is known to be right for this model.")
