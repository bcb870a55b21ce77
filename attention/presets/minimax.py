"""MiniMax-H3 and FastH3, which was distilled from it to 8 steps with a sparse attention of its own."""

from ..families.minimax import MINIMAX
from ..forecast import ForecastSettings
from ..patterns import TopBlocks
from ..patterns.ramp import LINEAR, Ramp
from . import sources
from .levels import BALANCED, CLOSE, FAST, HIGH, LOSSLESS, NEAR
from .spec import DENSITY, FORECAST, KERNEL, PATTERN, RANGE, KernelChoice, PatternChoice, Preset
from .unknown import kernels_only

H3, FAST_H3 = ("MiniMax-H3",), ("FastH3",)
START, END = MINIMAX.pattern_range
SHAPED = (
    (KERNEL, sources.H3_INT8),
    (PATTERN, sources.TOP_BLOCKS),
    (PATTERN, sources.FEW_TOKENS),
    (DENSITY, sources.H3_RAMP),
    (RANGE, sources.H3_RANGE),
)
ROWS = (
    *kernels_only(H3, (LOSSLESS, HIGH)),
    Preset(
        H3,
        BALANCED,
        KernelChoice(CLOSE),
        PatternChoice(TopBlocks(keep=50.0, tail=True), Ramp(30.0, LINEAR), START, END),
        ForecastSettings(warm_up=6, last=2, in_a_row=1, max_error=0.05),
        (*SHAPED, (DENSITY, sources.H3_DENSITY_30), (FORECAST, sources.H3_FORECAST_30)),
    ),
    Preset(
        H3,
        FAST,
        KernelChoice(NEAR),
        PatternChoice(TopBlocks(keep=40.0, tail=True), Ramp(15.0, LINEAR), START, END),
        ForecastSettings(warm_up=6, last=2, in_a_row=3, max_error=0.1),
        (*SHAPED, (DENSITY, sources.H3_DENSITY_15), (FORECAST, sources.H3_FORECAST_27)),
    ),
    *kernels_only(
        FAST_H3,
        errors={BALANCED: (CLOSE, sources.H3_INT8), FAST: (NEAR, sources.H3_INT8)},
        note="FastH3 was trained with a sparse attention of its own, which ComfyUI's Model Sparse Attention runs (its "
        "method vsa). Its few steps leave nothing to forecast.",
    ),
)
