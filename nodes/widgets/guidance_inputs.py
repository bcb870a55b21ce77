"""Sockets and widgets that the guidance nodes share."""

from comfy_api.latest import io

from . import rule_inputs

# The widgets of blocks_and_steps.
WHERE = ("blocks", "start_percent", "end_percent")


def enabled() -> io.Boolean.Input:
    """Makes the switch that lets the model pass through."""
    return io.Boolean.Input("enabled", default=True, tooltip="Off: the model passes through as it came, bit for bit.")


def number(name: str, default: float, low: float, high: float, tooltip: str, step: float = 0.05, **more):
    """Makes a widget of a number.

    low: smallest value.
    high: largest value.
    more: as io.Float.Input takes it.
    """
    return io.Float.Input(name, default=default, min=low, max=high, step=step, tooltip=tooltip, **more)


def blocks_and_steps(empty: str) -> list:
    """Makes the widgets that say which blocks and steps are guided.

    empty: a sentence about what no blocks mean.
    """
    blocks, *percents = rule_inputs.blocks_and_steps()
    return [
        io.String.Input("blocks", default="", tooltip=f"Transformer blocks, for example 14 or 8-10. {empty}"),
        *percents,
    ]


def guided_model() -> list:
    """Makes the output."""
    return [io.Model.Output(tooltip="The guided model.")]


def audio() -> io.Boolean.Input:
    """Makes the switch for the sound's attention."""
    return io.Boolean.Input(
        "audio", default=True, tooltip="In models with sound: also the sound's attention to itself, in the same pass."
    )
