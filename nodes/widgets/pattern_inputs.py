"""The patterns as a node offers them: one option of a dynamic combo each, with its own widgets."""

from itertools import accumulate, cycle, islice
from math import ceil

from comfy_api.latest import io

from ...attention import patterns
from ...attention.core.grid import ORDERS, TILE
from .idle import idle, none_of, one_of

LATENT, FRAMES, SECONDS = UNITS = ("latent frames", "frames", "seconds")
TIME = "time"
ALTERNATE, BOTH = "alternate", "both"


def _time(default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(
        TIME, default=float(default), min=0.01, max=100000.0, step=0.5, tooltip=f"{tooltip} In what time_unit says."
    )


def _percent(name: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=0.1, max=100.0, step=0.5, tooltip=tooltip)


def _window(frames: int) -> list:
    return [
        _time(frames, "Length of the window."),
        _percent("height", 50.0, "Height of the window in percent of the picture."),
        _percent("width", 50.0, "Width of the window in percent of the picture."),
    ]


def _tail() -> io.Boolean.Input:
    return io.Boolean.Input(
        "tail",
        default=True,
        tooltip="Blocks that are not kept count by their mean, so that nothing is left out altogether.",
    )


def _order() -> io.Combo.Input:
    return io.Combo.Input(
        "token_order",
        options=list(ORDERS),
        default=TILE,
        tooltip="How tokens are cut into blocks. tile, morton and hilbert put near tokens into one block; raster takes "
        "rows of the picture.",
    )


def _refresh() -> io.Int.Input:
    return io.Int.Input(
        "refresh",
        default=1,
        min=1,
        max=64,
        tooltip="A choice of blocks stands for so many steps before the next is made: less time, more memory.",
    )


# name -> (widgets, widgets' values -> pattern).
CHOICES = {
    patterns.SlidingTile.name: (_window(12), lambda time, height, width: patterns.SlidingTile(time, height, width)),
    patterns.Radial.name: (
        [
            _percent("keep", 100.0, "How much of the nearest frames is seen, in percent of the picture."),
            _time(1, "Distance at which the seen part begins to halve."),
            io.Boolean.Input("first_frame", default=True, tooltip="Every token sees the first frame whole."),
        ],
        lambda keep, time, first_frame: patterns.Radial(keep, time, first_frame=first_frame),
    ),
    patterns.Neighbourhood.name: (
        _window(9),
        lambda time, height, width: patterns.Neighbourhood(time, height, width),
    ),
    patterns.TemporalWindow.name: (
        [_time(5, "How many of the nearest frames are seen, whole.")],
        lambda time: patterns.TemporalWindow(time),
    ),
    patterns.LongVideo.name: (
        [
            _time(21, "Length that each token sees in all: the one that the model was trained for."),
            _percent(
                "window",
                50.0,
                "Percent of that length that lies around the token itself; the rest is spread over the clip and moves "
                "on from step to step and from block to block.",
            ),
            io.Boolean.Input("first_frame", default=True, tooltip="Every token sees the first frame whole."),
        ],
        lambda time, window, first_frame: patterns.LongVideo(time, window, first_frame),
    ),
    patterns.Spatial.name: ([], lambda: patterns.Spatial()),
    patterns.Temporal.name: ([], lambda: patterns.Temporal()),
    patterns.Factorised.name: (
        [
            io.Combo.Input(
                "blocks_do",
                options=[ALTERNATE, BOTH],
                tooltip="alternate: spatial attention in even blocks, temporal in odd ones. both: the average of the "
                "two in every block.",
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
        lambda blocks_do, spatial_weight: patterns.Factorised(spatial_weight if blocks_do == BOTH else None),
    ),
    patterns.TopBlocks.name: (
        [
            _percent("keep", 20.0, "The percent of key blocks that each block of queries keeps."),
            _order(),
            _tail(),
            _refresh(),
        ],
        lambda keep, token_order, tail, refresh=1: patterns.TopBlocks(keep, token_order, tail, refresh),
    ),
    patterns.MassBlocks.name: (
        [
            _percent("mass", 80.0, "Key blocks are kept until they hold this percent of the attention."),
            _order(),
            _tail(),
            _refresh(),
        ],
        lambda mass, token_order, tail, refresh=1: patterns.MassBlocks(mass, token_order, tail, refresh),
    ),
    patterns.AdaptiveBlocks.name: (
        [
            io.Float.Input(
                "tau",
                default=1.0,
                min=0.1,
                max=10.0,
                step=0.1,
                tooltip="Key blocks are kept whose score stands out by so many standard deviations. More is faster and "
                "less exact.",
            ),
            _order(),
            _tail(),
            _refresh(),
        ],
        lambda tau, token_order, tail, refresh=1: patterns.AdaptiveBlocks(tau, token_order, tail, refresh),
    ),
}
# Those that count in time_unit.
TIMED = tuple(name for name, (widgets, _) in CHOICES.items() if any(widget.id == TIME for widget in widgets))
# Those that choose blocks by the tensors.
CHOOSING = tuple(name for name, (widgets, _) in CHOICES.items() if any(widget.id == "refresh" for widget in widgets))
REPLACE = "replace"
COMBINE = {REPLACE: None, "union": patterns.Union, "intersection": patterns.Intersection}
IDLE = (
    idle("pattern.spatial_weight", when=(one_of("pattern.blocks_do", ALTERNATE),)),
    idle("time_unit", "fps", when=(none_of("pattern", *TIMED),)),
    idle("fps", when=(none_of("time_unit", SECONDS),)),
)


def pattern_input() -> io.DynamicCombo.Input:
    """Makes the dynamic combo of the patterns."""
    return io.DynamicCombo.Input(
        "pattern",
        options=[io.DynamicCombo.Option(name, widgets) for name, (widgets, _) in CHOICES.items()],
        tooltip="Which tokens of the video see which. Text, sound, references and guides are always seen, and see all.",
    )


def units() -> list:
    """Makes the widgets that say what the patterns' `time` is counted in."""
    return [
        io.Combo.Input(
            "time_unit",
            options=list(UNITS),
            default=LATENT,
            tooltip="What the pattern's time is counted in. A latent frame is 8 frames of the video in LTX, 4 in Wan "
            "and HunyuanVideo.",
        ),
        io.Float.Input(
            "fps",
            default=24.0,
            min=0.1,
            max=1000.0,
            advanced=True,
            tooltip="Frames a second, where time is in seconds.",
        ),
    ]


def make(choice: dict | None, unit: str = LATENT, fps: float = 24.0, ratio: int = 1, patch: int = 1, sizes: tuple = ()):
    """Makes the pattern of a dynamic combo's value.

    choice: {"pattern": name, widget: value, ...}.
    unit: one of UNITS, what the value of `time` is counted in.
    fps: frames a second, where that is seconds.
    ratio: frames of the video in a latent one.
    patch: latent frames in a token.
    sizes: frames of the video in each latent one, over and over, where they are not alike.
    Raises ValueError with a sentence for None: ComfyUI lets a prompt leave a dynamic combo out.
    """
    if choice is None:
        raise ValueError(f"pattern: none is given. Known: {', '.join(CHOICES)}.")
    widgets = {name: value for name, value in choice.items() if name != "pattern"}
    if TIME in widgets:
        widgets[TIME] = frames_of(widgets[TIME], unit, fps, ratio, patch, sizes)
    return CHOICES[choice["pattern"]][1](**widgets)


def frames_of(time: float, unit: str, fps: float, ratio: int, patch: int, sizes: tuple = ()) -> int:
    """Counts the frames of tokens in `time`, to the nearest and one at least.

    unit: one of UNITS.
    fps: frames a second, where the unit is seconds.
    ratio: frames of the video in a latent one.
    patch: latent frames in a token.
    sizes: frames of the video in each latent one, over and over, where they are not alike.
    The first latent frame is one frame of the video alone: 81 frames are 21 latent ones where four go into each, so a
    clip's own length is all of the clip.
    """
    if unit == LATENT:
        return max(1, round(time / patch))
    video = time * (fps if unit == SECONDS else 1.0)
    if sizes:
        ends = accumulate(islice(cycle(sizes), ceil(video) + 1))
        return max(1, round(min(enumerate(ends, 1), key=lambda end: abs(end[1] - video))[0] / patch))
    behind = (video - 1) / ratio
    if abs(behind - round(behind)) < 1e-6:
        return max(1, ceil((round(behind) + 1) / patch))
    return max(1, round(video / ratio / patch))


def combined(pattern, before, combine: str):
    """Combines `pattern` with the one of the node before. Raises ValueError with a sentence when that cannot be.

    before: the pattern of that node; None without one.
    combine: a key of COMBINE.
    """
    if combine == REPLACE:
        return pattern
    if before is None:
        raise ValueError(f"combine: {combine!r} needs another Video Attention Sparse Pattern before this one.")
    try:
        return COMBINE[combine]((before, pattern))
    except ValueError as wrong:
        raise ValueError(f"combine: {combine!r} of {before.name} and {pattern.name} is not possible: {wrong}") from None
