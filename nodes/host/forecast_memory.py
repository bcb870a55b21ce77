"""Says what a forecast of a MODEL is about and what it will remember, before it runs."""

from __future__ import annotations

from math import prod

from ...attention.core.reason import Reason
from ...attention.core.tokens import Tokens
from ...attention.forecast import ForecastSettings, ForecastSpan
from ...attention.forecast.memory import bytes_of, in_words, remembered
from . import model_family
from .forecast_run import HEAD, VELOCITY

THOUSAND = 1000


def kept(patcher, spans: tuple[ForecastSpan, ...], samples, clips: int) -> int:
    """Finds the bytes that forecasts of a MODEL remember on the GPU at most, as far as its tokens are known.

    spans: what is asked for.
    samples: of the latent, on any device.
    clips: that are sampled at once, each prompt's counted.
    """
    wanted = [span.settings for span in spans if span.settings.in_a_row and not span.settings.offload]
    row, itemsize = model_family.row_of(patcher), patcher.model.get_dtype_inference().itemsize
    if isinstance(row.head, Reason):
        size = samples[:1].numel() * itemsize * clips
        return max((remembered(settings) * size for settings in wanted), default=0)
    tokens = model_family.tokens_of_latent(patcher, samples) if wanted else None
    if tokens is None or tokens.grid is None:
        return 0
    each = prod(tokens.grid), row.head.channels(patcher.model.diffusion_model), itemsize, clips
    return max(bytes_of(settings, *each) for settings in wanted)


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
