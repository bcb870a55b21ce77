"""Wan 2.1 and 2.2, 14B, 5B and 1.3B, and Wan-Animate-2."""

from ..forecast import ForecastSettings
from ..patterns import TopBlocks
from . import sources
from .levels import BALANCED, FAST, HIGH, LOSSLESS, NEAR, ROUGH
from .spec import DENSE, DENSITY, FORECAST, KERNEL, PATTERN, RANGE, KernelChoice, PatternChoice, Preset
from .unknown import kernels_only

WAN, WAN_5B, ANIMATE_2, CAUSAL = ("Wan",), ("Wan 2.2 5B",), ("Wan-Animate-2",), ("Wan causal",)
SHAPED = (
    (PATTERN, sources.TOP_BLOCKS),
    (PATTERN, sources.FEW_TOKENS),
    (DENSITY, sources.CONSTANT),
    (RANGE, sources.WAN_RANGE),
    (DENSE, sources.WAN_RANGE),
    (FORECAST, sources.SPECTRUM),
)
ROWS = (
    *kernels_only(WAN, (LOSSLESS, HIGH)),
    Preset(
        WAN,
        BALANCED,
        KernelChoice(NEAR),
        PatternChoice(TopBlocks(keep=40.0, tail=True), start=0.25, dense_first_blocks=1),
        ForecastSettings(warm_up=6, last=2, in_a_row=1, max_error=0.05),
        (*SHAPED, (KERNEL, sources.GATE_INT8), (DENSITY, sources.WAN_DENSITY_30)),
    ),
    Preset(
        WAN,
        FAST,
        KernelChoice(ROUGH),
        PatternChoice(TopBlocks(keep=20.0, tail=True), start=0.2, dense_first_blocks=1),
        ForecastSettings(warm_up=6, last=2, in_a_row=3, max_error=0.1),
        (*SHAPED, (KERNEL, sources.ANY_INT8), (DENSITY, sources.WAN_DENSITY_15)),
    ),
    *kernels_only(WAN_5B, (LOSSLESS, HIGH)),
    Preset(
        WAN_5B,
        BALANCED,
        KernelChoice(NEAR),
        PatternChoice(TopBlocks(keep=45.0, tail=True), start=0.25, dense_first_blocks=1),
        ForecastSettings(warm_up=6, last=2, in_a_row=1, max_error=0.05),
        (*SHAPED, (KERNEL, sources.GATE_INT8), (DENSITY, sources.WAN_SMALL)),
    ),
    Preset(
        WAN_5B,
        FAST,
        KernelChoice(ROUGH),
        PatternChoice(TopBlocks(keep=30.0, tail=True), start=0.2, dense_first_blocks=1),
        ForecastSettings(warm_up=6, last=2, in_a_row=2, max_error=0.1),
        (*SHAPED, (KERNEL, sources.ANY_INT8), (DENSITY, sources.WAN_SMALL)),
    ),
    *kernels_only(
        ANIMATE_2,
        note="No pattern is published for Wan-Animate-2, and its 10 steps leave nothing to forecast. Video Attention "
        "Sparse Pattern works on it.",
    ),
    *kernels_only(CAUSAL, note="The sampler ar_video hands its blocks no options, so that nothing else reaches them."),
)
