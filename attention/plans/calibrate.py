"""Chooses a plan: which kernel or pattern where, for a budget of error, the cheapest of measured options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt


@dataclass(frozen=True)
class PlanPart:
    """What a plan decides about as one: a role in a span of blocks, during a part of the sampling.

    role: of attention.
    blocks: first and last; empty for all of the model.
    start: 0 to 1 of the noise schedule, as everywhere in ComfyUI.
    end: 0 to 1 of the noise schedule.
    """

    role: str
    blocks: tuple[int, ...]
    start: float
    end: float

    @property
    def text(self) -> str:
        """Write `self, blocks 0-3, 20-60 %`, or `steps, 20-60 %`."""
        first, last = self.blocks[:1], self.blocks[-1:]
        blocks = "" if not first else f", block {first[0]}" if first == last else f", blocks {first[0]}-{last[0]}"
        return f"{self.role}{blocks}, {self.start * 100:.0f}-{self.end * 100:.0f} %"


EXACT = "exact"
# A candidate that is hardly faster is not worth its error.
SAVES = 0.98


@dataclass(frozen=True)
class PlanOption:
    """What one candidate is worth in one part, measured.

    name: of the Candidate, EXACT for the host's own attention.
    seconds: of its attention calls in one sampling.
    error: relative L2 of the final latent when this part alone runs on the candidate.
    local: relative L2 of one call's output; None where that could not be measured.
    effect: relative L2 of the output of the block around it; None where that could not be measured.
    peak: bytes that a call takes at most beside its q, k and v; None where nobody counts them.
    chunks: how its calls are cut to keep the memory budget, in words; empty: they are whole.
    over: whether a call takes more than the memory budget. EXACT may, and what keeps its outputs; others are left out.
    extra: seconds, of these, of what is done in some steps only: attending, or choosing blocks.
    often: in which part of the steps that is.
    """

    name: str
    seconds: float
    error: float
    local: float | None = None
    effect: float | None = None
    peak: int | None = None
    chunks: str = ""
    over: bool = False
    extra: float = 0.0
    often: float = 1.0

    def in_part(self, share: float) -> PlanOption:
        """Return what it takes where a part of the steps is computed: what is done now and then falls due in these.

        share: of the steps, 0 to 1.
        """
        extra = self.extra * min(1.0, share / self.often) if self.extra else 0.0
        return replace(self, seconds=share * (self.seconds - self.extra) + extra, extra=extra)

    @property
    def label(self) -> str:
        """Name it, and say how its calls are cut."""
        return f"{self.name}, {self.chunks}" if self.chunks else self.name

    @property
    def nearness(self) -> float:
        """Return what is known of the error before the final latent is: of the block's output, else of the call's."""
        return self.local or 0.0 if self.effect is None else self.effect


@dataclass(frozen=True)
class PlanChoice:
    """Which option each part takes.

    chosen: part -> PlanOption.
    error: predicted, relative L2 of the final latent.
    seconds: of all parts.
    bound: seconds that no choice within the budget can be below, by the same prediction.
    """

    chosen: dict[PlanPart, PlanOption]
    error: float
    seconds: float
    bound: float


def predict(errors) -> float:
    """Predict the error of the final latent when several parts are off at once: their root sum of squares.

    errors: of each part alone; small independent ones add up like that.
    """
    return sqrt(sum(error * error for error in errors))


def choose_plan(options: dict[PlanPart, list[PlanOption]], budget: float) -> PlanChoice:
    """Choose a cheap option for each part so that the predicted error of all is within a budget.

    options: of each part; one of them is EXACT, of error 0. Where EXACT takes more memory than it may, the others come
        before it, faster or not, as long as the budget has room for the nearest of them.
    budget: relative L2 of the final latent.

    A multiple-choice knapsack over squared errors, solved greedily: moves along each part's convex hull, the most
    seconds saved for each squared error first, each taken if it fits; then single exchanges to options off the hull.
    No choice can save more than the relaxed knapsack, where a part of the first move that does not fit is taken: that
    is `bound` (G. B. Dantzig, "Discrete-variable extremum problems", 1957). The order of moves does not depend on the
    budget, so a larger one never gives a smaller predicted error: where it first takes another move, that move alone is
    more than the smaller one allows.
    """
    room, bound = budget**2, None
    hulls = _hulls(options, room)
    at = {part: found[0] for part, found in hulls.items()}
    room -= sum(option.error**2 for option in at.values())
    seconds = sum(option.seconds for option in at.values())
    for low, high, part in moves(hulls):
        cost = high.error**2 - low.error**2
        if cost > room and bound is None:
            bound = seconds - _slope(low, high) * room
        # A later move of a part is worth less than the one before: without that one it is not made either.
        if cost <= room and at[part] == low:
            at[part], room, seconds = high, room - cost, seconds - (low.seconds - high.seconds)
    bound = seconds if bound is None else bound
    for high, part in _exchanges(options, hulls):
        cost = high.error**2 - at[part].error ** 2
        if 0 <= cost <= room and high.seconds < at[part].seconds:
            seconds -= at[part].seconds - high.seconds
            at[part], room = high, room - cost
    error = predict(option.error for option in at.values())
    return PlanChoice(at, error, seconds, min(bound, seconds))


def _hulls(options: dict[PlanPart, list[PlanOption]], room: float) -> dict[PlanPart, list[PlanOption]]:
    """Find the hull of each part, of what takes no more memory than it may; of all, where the errors of the nearest of
    these are more than there is room for, beginning with the largest.

    room: square of the error that is allowed.
    """
    hulls = {part: hull(usable(found)) for part, found in options.items()}
    for part in sorted(hulls, key=lambda part: -hulls[part][0].error):
        if sum(found[0].error ** 2 for found in hulls.values()) > room:
            hulls[part] = hull(options[part])
    return hulls


def usable(options: list[PlanOption]) -> list[PlanOption]:
    """Leave out what takes more memory than it may, where anything else is left."""
    return [option for option in options if not option.over] or options


def moves(hulls: dict[PlanPart, list[PlanOption]]) -> list[tuple[PlanOption, PlanOption, PlanPart]]:
    """List the steps from each option to the next of its hull, the most seconds for each squared error first."""
    steps = [(low, high, part) for part, found in hulls.items() for low, high in zip(found, found[1:])]
    return sorted(steps, key=lambda step: -_slope(*step[:2]))


def _exchanges(options: dict[PlanPart, list[PlanOption]], hulls: dict) -> list[tuple[PlanOption, PlanPart]]:
    found = [(option, part) for part, all_of in options.items() for option in all_of if not option.over]
    return sorted(found, key=lambda one: -_slope(hulls[one[1]][0], one[0]))


def hull(options: list[PlanOption]) -> list[PlanOption]:
    """Find the options worth taking, from exact to fastest: each next one saves less time for its squared error.

    Lower convex hull of seconds over squared error.
    """
    kept: list[PlanOption] = []
    for option in sorted(options, key=lambda o: (o.error, o.seconds)):
        if kept and option.seconds >= kept[-1].seconds:
            continue
        while len(kept) > 1 and _slope(kept[-1], option) >= _slope(kept[-2], kept[-1]):
            kept.pop()
        kept.append(option)
    return kept


def unbeaten(options: list[PlanOption]) -> list[PlanOption]:
    """Find the options that no other one beats both in error and in seconds, nearest first."""
    kept: list[PlanOption] = []
    for option in sorted(options, key=lambda o: (o.error, o.seconds)):
        if not kept or option.seconds < kept[-1].seconds:
            kept.append(option)
    return kept


def front(options: list[PlanOption]) -> list[PlanOption]:
    """Find the options that no other one beats both in seconds and in nearness, nearest first."""
    kept: list[PlanOption] = []
    for option in sorted(options, key=lambda o: (o.nearness, o.seconds)):
        if not kept or option.seconds < kept[-1].seconds:
            kept.append(option)
    return kept


def scale(options: list[PlanOption], known: list[PlanOption]) -> list[PlanOption]:
    """Give options the error of the final latent that `known` ones have for their nearness, in proportion.

    Small errors go through the rest of the sampling as if it were linear.
    """
    ratios = [option.error / option.nearness for option in known if option.nearness]
    ratio = max(ratios, default=0.0)
    measured = {option.name: option for option in known}
    return [measured.get(o.name) or replace(o, error=ratio * o.nearness) for o in options] if ratios else list(known)


def _slope(low: PlanOption, high: PlanOption) -> float:
    return (low.seconds - high.seconds) / max(1e-30, high.error**2 - low.error**2)


def spans(count: int, groups: int) -> tuple[tuple[int, int], ...]:
    """Divide 0..count-1 into `groups` spans (first, last) of nearly equal length; fewer when there are fewer."""
    groups = max(1, min(groups, count))
    edges = [round(i * count / groups) for i in range(groups + 1)]
    return tuple((low, high - 1) for low, high in zip(edges, edges[1:]))


def ranges(count: int) -> tuple[tuple[float, float], ...]:
    """Divide the sampling into `count` spans (start, end)."""
    return tuple((i / count, (i + 1) / count) for i in range(count))
