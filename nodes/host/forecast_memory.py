"""Says what a forecast of a MODEL is about and what it will remember, before it runs."""

from __future__ import annotations

from math import prod

from ...attention.core.reason import Reason
from ...attention.core.tokens import Tokens
from ...attention.forecast import ForecastSettings
from ...attention.forecast.memory import bytes_of, in_words, remembered
from . import model_family
from .forecast_run import HEAD, VELOCITY

THOUSAND = 1000


def text(model, settings: ForecastSettings, tokens: Tokens | None = None) -> str:
    """Says in a few sentences what is forecast, when, and what memory that takes.

    tokens: layout of the clip, None where it is not known yet.
    """
    net, row = model.model.diffusion_model, model_family.row_of(model)
    bound = f", as long as they are at most {settings.max_error:g} off" if settings.max_error else ""
    what = VELOCITY if isinstance(row.head, Reason) else HEAD
    lines = [
        f"Forecasts {what} by {settings.method}, up to {settings.in_a_row} steps in a row{bound}. The first "
        f"{settings.warm_up} and the last {settings.last} are computed."
    ]
    count, where = remembered(settings), "the computer's memory" if settings.offload else "the GPU's memory"
    if isinstance(row.head, Reason):
        lines.append(f"Remembers {count} times the latent for each prompt, in {where}.")
        return "\n".join(lines)
    # As the model computes, which may be finer than its weights are stored.
    sizes = row.head.channels(net), model.model.get_dtype_inference().itemsize
    if tokens is None or tokens.grid is None:
        size, clip = bytes_of(settings, THOUSAND, *sizes), f"for {THOUSAND} tokens of a clip and"
    else:
        size, clip = bytes_of(settings, prod(tokens.grid), *sizes), f"for {prod(tokens.grid)} tokens of video and"
    lines.append(f"Remembers {count} computed steps: {in_words(size)} {clip} each prompt, in {where}.")
    return "\n".join(lines)
