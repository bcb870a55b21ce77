"""Which evaluations of a model are forecast, and how: what the node asks for, and what a preset may name."""

from __future__ import annotations

from dataclasses import dataclass

CHEBYSHEV, TAYLOR = "chebyshev", "taylor"
METHODS = (CHEBYSHEV, TAYLOR)


@dataclass(frozen=True)
class ForecastSettings:
    """Says when an evaluation of the model is forecast from computed ones in its place.

    method: CHEBYSHEV, a polynomial fitted to all that is remembered (Spectrum, https://arxiv.org/abs/2603.01623), or
        TAYLOR, finite differences of the newest (TaylorSeer, https://arxiv.org/abs/2503.06923).
    degree: of the polynomial; with fewer computed evaluations than it needs, a lower one.
    warm_up: how many of a run's first steps are computed.
    last: how many of its last steps are computed.
    in_a_row: the most steps that are forecast one after the other; 0 forecasts nothing.
    max_error: the most relative L2 error of a forecast. Each computed step is forecast too, which measures it: above
        the bound fewer steps in a row are forecast, down to none, until it is kept again. 0 goes by the schedule alone.
    history: how many computed evaluations are remembered of each prompt, at most; TAYLOR needs one more than `degree`.
    ridge: how much CHEBYSHEV is drawn to a plain fit: the penalty on its coefficients, 0 for least squares.
    offload: whether what is remembered lies in the computer's memory and not in the GPU's.
    """

    method: str = TAYLOR
    degree: int = 1
    warm_up: int = 3
    last: int = 1
    in_a_row: int = 3
    max_error: float = 0.05
    history: int = 5
    ridge: float = 0.1
    offload: bool = False

    @property
    def label(self) -> str:
        """Name it in a few words: `forecast taylor 1, 3 in a row`."""
        bound = f", error {self.max_error:g}" if self.max_error else ""
        return f"forecast {self.method} {self.degree}, {self.in_a_row} in a row{bound}"

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method: {self.method!r} is none of {', '.join(METHODS)}.")
        for name, least in (("degree", 0), ("warm_up", 1), ("last", 0), ("in_a_row", 0), ("history", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is less than {least}.")
        for name in ("max_error", "ridge"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: {getattr(self, name)} is no number from 0 up.")


@dataclass(frozen=True)
class ForecastSpan:
    """Says how evaluations are forecast in a part of the sampling.

    settings: see ForecastSettings.
    start: 0 to 1 of the noise schedule, as everywhere in ComfyUI.
    end: 0 to 1 of the noise schedule.
    """

    settings: ForecastSettings
    start: float = 0.0
    end: float = 1.0

    @property
    def whole(self) -> bool:
        """Tell whether that is all of the sampling."""
        return self.start <= 0.0 and self.end >= 1.0
