"""Where and when a pattern holds, and how much it keeps over time: widgets of Video Attention Pattern."""

from dataclasses import replace

from comfy_api.latest import io

from ...attention.patterns.blocks import MOST_SINGLES
from ...attention.patterns.ramp import CONSTANT, SHAPES, Ramp


def spared() -> list:
    """Makes the widgets that say what stays dense, besides the steps before start_percent and after end_percent."""
    steps = "steps stay dense whatever start_percent and end_percent say."
    blocks = "of the model's blocks stay dense."
    return [
        io.Int.Input(name, default=0, min=0, max=1000, advanced=True, tooltip=tooltip)
        for name, tooltip in (
            ("dense_first_steps", f"At least so many of the first {steps}"),
            ("dense_last_steps", f"At least so many of the last {steps}"),
            ("dense_first_blocks", f"So many of the first {blocks}"),
            ("dense_last_blocks", f"So many of the last {blocks}"),
        )
    ]


def over_time() -> list:
    """Makes the widgets that say how a pattern's percentage changes from start_percent to end_percent."""
    return [
        io.Combo.Input(
            "ramp",
            options=list(SHAPES),
            default=CONSTANT,
            optional=True,
            advanced=True,
            tooltip="How keep, mass or tau goes from its own value at start_percent to keep_end or tau_end at "
            "end_percent. constant: it stays. linear and cosine: in at most 8 stretches. steps: in three.",
        ),
        io.Float.Input(
            "keep_end",
            default=10.0,
            min=0.1,
            max=100.0,
            step=0.5,
            optional=True,
            advanced=True,
            tooltip="The percent at end_percent, where ramp is not constant. For top blocks and blocks by mass.",
        ),
    ]


def tau_end() -> io.Float.Input:
    """Makes the widget of the threshold at the end."""
    return io.Float.Input(
        "tau_end",
        default=1.5,
        min=0.1,
        max=10.0,
        step=0.1,
        optional=True,
        advanced=True,
        tooltip="tau of adaptive blocks at end_percent, where ramp is not constant. More keeps less.",
    )


def refresh_overlap() -> io.Float.Input:
    """Makes the widget of how alike selections of blocks must be for one to stand."""
    return io.Float.Input(
        "refresh_overlap",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.01,
        optional=True,
        advanced=True,
        tooltip="Chosen blocks stand beyond refresh while they hold so much of a new choice, looked at on one in 8 "
        "blocks of queries: 0.9 for example. 0: for refresh steps.",
    )


def single_tokens() -> io.Int.Input:
    """Makes the widget of how many tokens outside of the chosen blocks are seen one by one."""
    return io.Int.Input(
        "single_tokens",
        default=0,
        min=0,
        max=MOST_SINGLES,
        step=64,
        optional=True,
        advanced=True,
        tooltip="So many tokens outside of the chosen blocks are seen too, for each block of queries: those that stand "
        "out most. Engines: blocks, comfy-kitchen sol_attn (token_aug).",
    )


def with_singles(pattern, singles: int):
    """Makes a pattern that sees so many single tokens too; itself where it chooses no blocks."""
    return replace(pattern, singles=singles) if hasattr(pattern, "singles") else pattern


def if_faster() -> io.Boolean.Input:
    """Makes the switch that leaves a pattern out where it does not gain."""
    return io.Boolean.Input(
        "if_faster",
        default=False,
        optional=True,
        advanced=True,
        tooltip="Measures the pattern on the first call of each shape, and leaves it out where dense attention is as "
        "fast.",
    )


def ramp_of(pattern, ramp: str, keep_end: float, tau_end: float) -> Ramp | None:
    """Makes the Ramp of these widgets for a pattern; None for a number that stays."""
    if ramp == CONSTANT:
        return None
    return Ramp(tau_end if hasattr(pattern, "threshold") else keep_end, ramp)


def without(spans: tuple, first: int, last: int, count: int | None) -> tuple:
    """Takes the model's first and last blocks out of spans of blocks.

    spans: (first, last or None) each; () means all blocks.
    first: how many of the first blocks.
    last: how many of the last blocks.
    count: of the model's blocks; None where it is not known.
    Raises ValueError with a sentence when that cannot be told, or leaves none.
    """
    if not first and not last:
        return spans
    if last and count is None:
        raise ValueError(f"dense_last_blocks: {last} cannot be told apart, this model's blocks are not known.")
    end = None if count is None else count - 1 - last
    cut = [(max(a, first), b if end is None else end if b is None else min(b, end)) for a, b in spans or ((0, None),)]
    left = tuple((a, b) for a, b in cut if b is None or a <= b)
    if not left:
        raise ValueError(
            f"dense_first_blocks and dense_last_blocks: {first} and {last} leave no block for the pattern."
        )
    return left
