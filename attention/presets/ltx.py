"""LTX-Video, LTX-2, LTX-2.3 and LTX-2.5."""

from ..forecast import ForecastSettings
from ..patterns import TopBlocks
from ..patterns.ramp import LINEAR, Ramp
from . import sources
from .levels import BALANCED, FAST, HIGH, LOSSLESS, NEAR, ROUGH
from .spec import DENSITY, FORECAST, KERNEL, PATTERN, RANGE, KernelChoice, PatternChoice, Preset
from .unknown import kernels_only

LTX = ("LTXV", "LTX-2", "LTX-2.3", "LTX-2.5")
SHAPED = (
    (PATTERN, sources.TOP_BLOCKS),
    (PATTERN, sources.FEW_TOKENS),
    (DENSITY, sources.LTX_RAMP),
    (DENSITY, sources.LTX_DENSITY),
    (RANGE, sources.LTX_RANGE),
    (FORECAST, sources.FORECAST_LTX),
)
ROWS = (
    *kernels_only(LTX, (LOSSLESS, HIGH)),
    Preset(
        LTX,
        BALANCED,
        KernelChoice(NEAR),
        PatternChoice(TopBlocks(keep=30.0, tail=True), Ramp(50.0, LINEAR), 0.25),
        ForecastSettings(warm_up=7, last=2, in_a_row=2, max_error=0.03),
        (*SHAPED, (KERNEL, sources.GATE_INT8)),
    ),
    Preset(
        LTX,
        FAST,
        KernelChoice(ROUGH),
        PatternChoice(TopBlocks(keep=15.0, tail=True), Ramp(30.0, LINEAR), 0.2),
        ForecastSettings(warm_up=6, last=2, in_a_row=3, max_error=0.05),
        (*SHAPED, (KERNEL, sources.ANY_INT8)),
    ),
)
