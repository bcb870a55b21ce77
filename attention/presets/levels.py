"""The four levels, from exact to fast."""

from .spec import Level

LOSSLESS, HIGH, BALANCED, FAST = LEVELS = ("lossless", "high", "balanced", "fast")
# What kernels may be off, relative L2; a family may allow less.
EXACT, CLOSE, NEAR, ROUGH = 0.005, 0.02, 0.03, 0.05
TABLE = (
    Level(LOSSLESS, "The fastest kernel that computes attention exactly: only rounding differs."),
    Level(HIGH, "Quantised kernels too, those that stay close on the model's own numbers."),
    Level(BALANCED, "Attention to a part of the video once the picture stands, and some steps forecast."),
    Level(FAST, "Fewer blocks, more steps forecast: for drafts."),
)
LEVELS_BY_NAME = {level.name: level for level in TABLE}
