"""Chooses for the time of the whole sampling: which steps are forecast, and what runs in those that are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt

from .calibrate import EXACT, PlanChoice, PlanOption, PlanPart, choose_plan, hull, moves, predict, usable
from .steps_together import StepsTogether, Taken

# Role of a part that is all of the model during a range of steps; its options are forecasts, EXACT computes.
STEPS = "steps"

# Times that differ by less are alike.
ALIKE = 1e-3
# All of the sampling as one range.
WHOLE = PlanPart(STEPS, (), 0.0, 1.0)

Options = dict[PlanPart, list[PlanOption]]


@dataclass(frozen=True)
class WholeChoice:
    """Says what a plan takes.

    parts: what each part of the model runs on in the steps that are computed.
    steps: what becomes of each range of steps, or of WHOLE; a part of role STEPS -> PlanOption.
    error: predicted, relative L2 of the final latent.
    seconds: of the attention of all parts.
    whole: seconds of the whole sampling.
    bound: seconds of the whole sampling that no choice within the budget can be below, by the same prediction.
    """

    parts: dict[PlanPart, PlanOption]
    steps: dict[PlanPart, PlanOption]
    error: float
    seconds: float
    whole: float
    bound: float

    @property
    def chosen(self) -> dict[PlanPart, PlanOption]:
        """List all of it."""
        return {**self.steps, **self.parts}

    def of(self, part: PlanPart, options: list[PlanOption]) -> PlanOption:
        """Return what is taken of a part's options: EXACT, the first, of a range of steps that it does not cut out."""
        return self.chosen.get(part, options[0])


def range_of(start: float, end: float) -> PlanPart:
    """Make the part that is all of the model during a range of steps."""
    return PlanPart(STEPS, (), start, end)


@dataclass(frozen=True)
class Choices:
    """What there is to choose from in one calibration. What does not depend on the budget is found once.

    options: of each part of the model, EXACT first; seconds of attention in a sampling without forecasts.
    steps: of each range of steps, EXACT first; seconds of the whole sampling in that range, with this option alone.
    even: what may become of all steps alike in place of that, EXACT first; nothing where they are one range anyway.
    together: tells how many steps forecasts of several ranges leave together; None: as many as each alone.
    """

    options: Options
    steps: Options
    even: Sequence[PlanOption] = ()
    together: StepsTogether | None = None

    def within(self, budget: float) -> WholeChoice:
        """Choose the fastest sampling whose predicted error is within a budget, relative L2 of the final latent.

        The error of even forecasts is one number, measured; that of forecasts in several ranges is put together from
        each alone, which small errors bear better. So both are chosen for, and the faster one is taken.
        """
        found = [cut.within(budget) for cut in self._cuts]
        fastest = min(one.whole for one in found)
        best = min((one for one in found if one.whole <= fastest * (1.0 + ALIKE)), key=lambda one: one.error)
        return replace(best, bound=min(one.bound for one in found))

    @cached_property
    def _cuts(self) -> list[_Cut]:
        even = [_Cut(self.options, {WHOLE: list(self.even)})] if self.even else []
        return [_Cut(self.options, self.steps, self.together), *even]


def choose_whole(
    options: Options,
    steps: Options,
    budget: float,
    even: Sequence[PlanOption] = (),
    together: StepsTogether | None = None,
) -> WholeChoice:
    """Choose within one budget alone, see `Choices`."""
    return Choices(options, steps, even, together).within(budget)


@dataclass(frozen=True)
class _Cut:
    """One way to cut the sampling into ranges.

    A forecast step runs no attention, so in a range the time of everything shrinks together. So each range has options
    of its own, every forecast with what its parts make of the computed steps, from all exact along their moves; of
    these `choose_plan` takes one for each range, and bounds what any choice can save. Where forecasts of one range
    change what those of the next one leave, each choice of `together` is tried in place of that.
    """

    options: Options
    steps: Options
    together: StepsTogether | None = None

    def within(self, budget: float) -> WholeChoice:
        """Choose within a budget."""
        first = choose_plan({at: [option for option, _ in found] for at, found in self._ranges.items()}, budget)
        best = None
        for way in sorted(self._ways(first, budget), key=lambda way: way[2]):
            if best is not None and way[2] >= best.whole:
                break
            found = _with_forecasts(self.options, self.steps, way, budget)
            best = found if best is None or found.whole < best.whole else best
        return replace(best, bound=min(first.bound, best.whole))

    def _ways(self, first: PlanChoice, budget: float) -> list[Taken]:
        if self.together is not None:
            return [way for way in self._fronts if predict(_errors(way[0])) <= budget]
        taken = {at: next(made for option, made in self._ranges[at] if option is first.chosen[at]) for at in self.steps}
        return [(taken, {at: _share(self.steps[at], option) for at, option in taken.items()}, 0.0)]

    @cached_property
    def _ranges(self) -> dict[PlanPart, list[tuple[PlanOption, PlanOption]]]:
        alone = self.steps if self.together is None else self.together.least(self.steps)
        return {at: _of_range(found, _inside(self.options, at)) for at, found in alone.items()}

    @cached_property
    def _fronts(self) -> list[Taken]:
        found = self._ranges.items()
        least = {at: min(option.seconds for option, made in some if made.name == EXACT) for at, some in found}
        return self.together.fronts(self.steps, least)


def _with_forecasts(options: Options, steps: Options, way: Taken, budget: float) -> WholeChoice:
    """Choose with the forecasts settled: the parts share what is left of the budget among all ranges.

    way: what each range takes, what that leaves of its time, and the least seconds that it can take.
    """
    taken, scales, _ = way
    room = budget**2 - sum(error**2 for error in _errors(taken))
    left = {part: scales[at] for at in steps for part in _inside(options, at)}
    within = {part: [one.in_part(left.get(part, 1.0)) for one in found] for part, found in options.items()}
    then = choose_plan(within, sqrt(max(0.0, room)))
    parts = {part: _named(options[part], option.name) for part, option in then.chosen.items()}
    rest = sum(_rest(steps[at], _inside(options, at)) * scales[at] for at in steps)
    error = predict((*_errors(taken), *_errors(parts)))
    return WholeChoice(parts, taken, error, then.seconds, rest + then.seconds, rest + then.seconds)


def _errors(chosen: dict[PlanPart, PlanOption]) -> list[float]:
    return [option.error for option in chosen.values()]


def all_exact(options: Options, steps: Options) -> WholeChoice:
    """Choose nothing: the sampling as it is."""
    return choose_whole(*({part: found[:1] for part, found in each.items()} for each in (options, steps)), 0.0)


def _inside(options: Options, at: PlanPart) -> Options:
    return {part: found for part, found in options.items() if at.start <= part.start and part.end <= at.end}


def _rest(found: list[PlanOption], inside: Options) -> float:
    """Return the seconds of a range that are not the attention of its parts."""
    return max(0.0, found[0].seconds - sum(options[0].seconds for options in inside.values()))


def _share(found: list[PlanOption], option: PlanOption) -> float:
    """Return what is left of a range's time."""
    return option.seconds / found[0].seconds if found[0].seconds else 1.0


def _of_range(found: list[PlanOption], inside: Options) -> list[tuple[PlanOption, PlanOption]]:
    """List (option of the range as a whole, the forecast in it), for each forecast and each length of the moves."""
    hulls = {part: hull(usable(options)) for part, options in inside.items()}
    begin = [options[0] for options in hulls.values()]
    rest, path = _rest(found, inside), [(sum(o.seconds for o in begin), sum(o.error**2 for o in begin))]
    for low, high, _ in moves(hulls):
        seconds, square = path[-1]
        path.append((seconds - low.seconds + high.seconds, square + high.error**2 - low.error**2))
    return [
        (
            replace(option, seconds=_share(found, option) * (rest + seconds), error=sqrt(option.error**2 + square)),
            option,
        )
        for option in found
        for seconds, square in path
    ]


def _named(found: list[PlanOption], name: str) -> PlanOption:
    return next(option for option in found if option.name == name)
