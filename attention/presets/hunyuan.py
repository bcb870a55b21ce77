"""HunyuanVideo and HunyuanVideo 1.5."""

from ..forecast import ForecastSettings
from ..patterns import TopBlocks
from . import sources
from .levels import BALANCED, FAST, HIGH, LOSSLESS, NEAR, ROUGH
from .spec import DENSE, DENSITY, FORECAST, KERNEL, PATTERN, RANGE, KernelChoice, PatternChoice, Preset
from .unknown import kernels_only

HUNYUAN = ("HunyuanVideo",)
SHAPED = (
    (PATTERN, sources.TOP_BLOCKS),
    (PATTERN, sources.FEW_TOKENS),
    (DENSITY, sources.CONSTANT),
    (RANGE, sources.HUNYUAN_RANGE),
    (DENSE, sources.HUNYUAN_RANGE),
    (FORECAST, sources.SPECTRUM),
)
ROWS = (
    *kernels_only(HUNYUAN, (LOSSLESS, HIGH)),
    Preset(
        HUNYUAN,
        BALANCED,
        KernelChoice(NEAR),
        PatternChoice(TopBlocks(keep=35.0, tail=True), start=0.25, dense_first_blocks=1),
        ForecastSettings(warm_up=6, last=2, in_a_row=1, max_error=0.05),
        (*SHAPED, (KERNEL, sources.GATE_INT8), (DENSITY, sources.HUNYUAN_DENSITY_25)),
    ),
    Preset(
        HUNYUAN,
        FAST,
        KernelChoice(ROUGH),
        PatternChoice(TopBlocks(keep=20.0, tail=True), start=0.2, dense_first_blocks=1),
        ForecastSettings(warm_up=6, last=2, in_a_row=3, max_error=0.1),
        (*SHAPED, (KERNEL, sources.ANY_INT8), (DENSITY, sources.HUNYUAN_DENSITY_15)),
    ),
)
