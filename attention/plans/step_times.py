"""How long a sampling takes, by its steps: all of it, and attention's part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..inspect.timeline import StepStats


@dataclass(frozen=True)
class SamplingTime:
    """Says how long a sampling takes.

    seconds: of all its steps.
    attention: of the attention calls in them; 0 where they were not timed.
    """

    seconds: float
    attention: float

    @property
    def share(self) -> float:
        """Return attention's part of the time, 0 to 1; 0 where it is not known."""
        return min(1.0, self.attention / self.seconds) if self.seconds else 0.0


def time_of(timeline: Sequence[StepStats]) -> SamplingTime:
    """Sum up the steps of a run, each as its like took in the median: the first one also loads the model.

    Steps are alike that ran the same kernels as often, or were forecast.
    """
    kinds: dict[tuple, list[StepStats]] = {}
    for step in timeline:
        kinds.setdefault((bool(step.forecast), frozenset(step.calls.items())), []).append(step)
    seconds = attention = 0.0
    for alike in kinds.values():
        usual = [step for step in alike if step.step > 1] or alike
        seconds += len(alike) * median(step.seconds for step in usual)
        attention += len(alike) * median(sum(step.attention.values()) for step in usual)
    return SamplingTime(seconds, attention)


def cost_of_forecasts(timeline: Sequence[StepStats], steps: Sequence[int]) -> float:
    """Return what some steps took, over what they would have taken computed: 1 where nothing was forecast.

    steps: from 0.
    """
    made = [step for step in timeline if step.forecast and not step.calls]
    computed = [step for step in timeline if not step.forecast and step.step > 1]
    if not made or not computed or not steps:
        return 1.0
    whole = median(step.seconds for step in computed)
    each = min(1.0, median(step.seconds for step in made) / whole) if whole else 1.0
    inside = sum(step.step - 1 in steps for step in made)
    return (len(steps) - inside * (1.0 - each)) / len(steps)
