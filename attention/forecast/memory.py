"""How much memory a forecast takes, before it runs."""

from __future__ import annotations

from .settings import TAYLOR, ForecastSettings


def remembered(settings: ForecastSettings) -> int:
    """Return how many computed steps of each prompt are remembered."""
    most = settings.degree + 1 if settings.method == TAYLOR else settings.history
    return min(settings.history, most)


def needed(settings: ForecastSettings) -> int:
    """Return how many computed steps of a prompt a forecast is made of, at the least."""
    return min(settings.degree + 1, remembered(settings))


def bytes_of(settings: ForecastSettings, tokens: int, channels: int, itemsize: int, prompts: int = 1) -> int:
    """Return the bytes that are remembered at most, where what goes into a model's last layer is forecast.

    tokens: of one clip, the sound's and a reference's with it.
    channels: of a token.
    itemsize: bytes of a number in the model's dtype.
    prompts: that a step evaluates, 2 with CFG; times the batch, context windows and evaluations of a step.
    """
    return remembered(settings) * tokens * channels * itemsize * prompts


def in_words(size: int) -> str:
    """Write a number of bytes down: `738 MiB`, `2.9 GiB`."""
    if size >= 2**30:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / 2**20:.0f} MiB" if size >= 10 * 2**20 else f"{size / 2**20:.1f} MiB"
