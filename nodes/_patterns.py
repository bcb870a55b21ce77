"""The patterns as a node offers them: one option of a dynamic combo each, with its own widgets."""

from comfy_api.latest import io

from ..attention import patterns
from ..attention.grid import ORDERS, TILE

FRAMES = "Latent frames: 8 video frames each in LTX, 4 in Wan and HunyuanVideo."


def _int(name: str, default: int, low: int, high: int, tooltip: str) -> io.Int.Input:
    return io.Int.Input(name, default=default, min=low, max=high, tooltip=tooltip)


def _percent(name: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.1, max=100.0, step=0.5, tooltip=tooltip)


def _window(frames: int) -> list:
    return [
        _int("frames", frames, 1, 4096, f"Length of the window. {FRAMES}"),
        _percent("height", 50.0, "Height of the window in percent of the picture."),
        _percent("width", 50.0, "Width of the window in percent of the picture."),
    ]


def _order() -> io.Combo.Input:
    return io.Combo.Input(
        "token_order",
        options=list(ORDERS),
        default=TILE,
        tooltip="How tokens are cut into blocks. tile, morton and hilbert put near tokens into one block; raster takes "
        "rows of the picture.",
    )


# name -> (widgets, widgets' values -> pattern).
CHOICES = {
    patterns.SlidingTile.name: (_window(12), lambda frames, height, width: patterns.SlidingTile(frames, height, width)),
    patterns.Radial.name: (
        [
            _percent("keep", 100.0, "How much of the nearest frames is seen, in percent of the picture."),
            _int("frames", 1, 1, 256, f"Distance at which the seen part begins to halve. {FRAMES}"),
            io.Boolean.Input("first_frame", default=True, tooltip="Every token sees the first frame whole."),
        ],
        lambda keep, frames, first_frame: patterns.Radial(keep, frames, first_frame=first_frame),
    ),
    patterns.Neighbourhood.name: (
        _window(9),
        lambda frames, height, width: patterns.Neighbourhood(frames, height, width),
    ),
    patterns.TemporalWindow.name: (
        [_int("frames", 5, 1, 4096, f"How many of the nearest frames are seen, whole. {FRAMES}")],
        lambda frames: patterns.TemporalWindow(frames),
    ),
    patterns.Spatial.name: ([], lambda: patterns.Spatial()),
    patterns.Temporal.name: ([], lambda: patterns.Temporal()),
    patterns.Factorised.name: (
        [
            io.Combo.Input(
                "blocks_do",
                options=["alternate", "both"],
                tooltip="alternate: spatial attention in even blocks, temporal in odd ones. both: the average of the two "
                "in every block.",
            ),
            io.Float.Input(
                "spatial_weight",
                default=0.5,
                min=0.0,
                max=1.0,
                step=0.05,
                tooltip="With both: the weight of spatial attention, temporal has the rest.",
            ),
        ],
        lambda blocks_do, spatial_weight: patterns.Factorised(spatial_weight if blocks_do == "both" else None),
    ),
    patterns.TopBlocks.name: (
        [_percent("keep", 20.0, "The percent of key blocks that each block of queries keeps."), _order()],
        lambda keep, token_order: patterns.TopBlocks(keep, token_order),
    ),
    patterns.MassBlocks.name: (
        [_percent("mass", 80.0, "Key blocks are kept until they hold this percent of the attention."), _order()],
        lambda mass, token_order: patterns.MassBlocks(mass, token_order),
    ),
}
REPLACE = "replace"
COMBINE = {REPLACE: None, "union": patterns.Union, "intersection": patterns.Intersection}


def pattern_input() -> io.DynamicCombo.Input:
    return io.DynamicCombo.Input(
        "pattern",
        options=[io.DynamicCombo.Option(name, widgets) for name, (widgets, _) in CHOICES.items()],
        tooltip="Which tokens of the video see which. Text, sound, references and guides are always seen, and see all.",
    )


def make(choice: dict):
    """The pattern of a dynamic combo's value."""
    widgets = {name: value for name, value in choice.items() if name != "pattern"}
    return CHOICES[choice["pattern"]][1](**widgets)


def combined(pattern, before, combine: str):
    """`pattern` with the one of the node before. ValueError with a sentence when that cannot be."""
    if combine == REPLACE:
        return pattern
    if before is None:
        raise ValueError(f"combine: {combine!r} needs another Video Attention Pattern before this one.")
    try:
        return COMBINE[combine]((before, pattern))
    except ValueError as wrong:
        raise ValueError(f"combine: {combine!r} of {before.name} and {pattern.name} is not possible: {wrong}") from None
