"""What may change over the steps of a part: between which densities, which way first, and how long that takes."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import inf, sqrt

from ..core.peak_memory import most_of
from ..patterns.ramp import Ramp, ramped
from .calibrate import EXACT, SAVES, PlanOption, PlanPart, unbeaten
from .plan import Candidate


def pair_of(options: list[PlanOption], named: dict) -> tuple[PlanOption, PlanOption] | None:
    """Find two densities of one pattern between which a ramp is worth a try: the one that sees more, then the other.

    options: of a part, EXACT first, with their errors of the final latent.
    named: name of an option -> Candidate.

    None of them is beaten by another option in both error and time. Of several pairs the one that are furthest apart in
    time; None where no two save enough beside each other.
    """
    pairs = [(a, b) for a, b in combinations(unbeaten(options), 2) if _alike(named.get(a.name), named.get(b.name))]
    near, far = max(pairs, key=lambda pair: pair[0].seconds - pair[1].seconds, default=(options[0], options[0]))
    return (near, far) if near.seconds - far.seconds > (1 - SAVES) * options[0].seconds else None


def _alike(one: Candidate | None, other: Candidate | None) -> bool:
    """Tell whether two candidates are one pattern that differs in the number that may change over the steps alone."""
    if not all(c is not None and c.pattern is not None and c.ramp is None for c in (one, other)):
        return False
    name = ramped(one.pattern)
    if name is None or one.pattern.by_heads or ramped(other.pattern) != name:
        return False
    return replace(one, pattern=replace(one.pattern, **{name: getattr(other.pattern, name)})) == other


def between(near: Candidate, far: Candidate, falls: bool, shape: str) -> Candidate:
    """Make the ramp from one density to the other.

    near: the one that sees more.
    falls: whether it begins with that.
    shape: one of ramp.CURVES.
    """
    begin, end = (near, far) if falls else (far, near)
    return replace(begin, ramp=Ramp(getattr(end.pattern, ramped(end.pattern)), shape))


def option_of(ramp: Candidate, near, far, values: list[float], error: float) -> PlanOption:
    """Make the option of a ramp: its time is the mean over its steps, by the line between the times of its ends.

    near: (Candidate, PlanOption) of the end that sees more.
    far: likewise.
    values: the number that changes, at each of the steps.
    error: relative L2 of the final latent.
    """
    (a, slow), (b, fast) = near, far
    low, high = (getattr(one.pattern, ramped(one.pattern)) for one in (b, a))
    share = sum((value - low) / (high - low) for value in values) / len(values)
    seconds = fast.seconds + share * (slow.seconds - fast.seconds)
    chunks = slow.chunks or fast.chunks
    return PlanOption(ramp.name, seconds, error, peak=most_of([slow.peak, fast.peak]), chunks=chunks)


def wins(option: PlanOption, near: PlanOption, far: PlanOption) -> bool:
    """Tell whether an option errs less than its two ends would, put together to take as long: lies below their line,
    seconds over squared error, on which a hull without it runs."""
    share = (near.seconds - option.seconds) / (near.seconds - far.seconds)
    return option.error**2 < near.error**2 + share * (far.error**2 - near.error**2)


def falls_first(part: PlanPart, name: str, options: dict[PlanPart, list[PlanOption]], steps: dict) -> bool:
    """Tell whether a ramp should rather begin dense: where the ranges of steps around this one are ever less sensitive.

    name: of the option by whose error that is told, in each step of a range.
    options: of each part.
    steps: part -> its steps.
    """
    row = sorted((at for at in options if (at.role, at.blocks) == (part.role, part.blocks)), key=lambda at: at.start)
    index = row.index(part)
    around = row[max(0, index - 1)], row[min(len(row) - 1, index + 1)]
    known = [_error_of(options[at], name, len(steps[at])) for at in around]
    return None in known or known[0] >= known[1]


def _error_of(options: list[PlanOption], name: str, steps: int) -> float | None:
    return next((option.error / sqrt(steps) for option in options if option.name == name), None)


def keeping(options: list[PlanOption], kept: list[PlanOption], named: dict, evaluations: int) -> tuple:
    """Find the pattern that has most to gain by keeping its choice of blocks: (its option, ways to keep it).

    options: of a part, with their errors of the final latent.
    kept: of the part; their seconds are those of calls whose blocks were chosen before.
    named: name of an option -> Candidate.
    evaluations: of the model in the part; in the first of them at least blocks are chosen.

    None of what it is chosen of is beaten by another option. (None, []) where choosing blocks takes too little.
    """
    there, found = {option.name: option for option in unbeaten(options) if option.name != EXACT}, {}
    for option in kept:
        base = there.get(plain(named[option.name]).name)
        if base is not None and with_kept(option, base, 1 / evaluations).seconds < SAVES * base.seconds:
            found.setdefault(base, []).append(option)
    return max(found.items(), key=lambda one: one[0].seconds - min(o.seconds for o in one[1]), default=(None, []))


def plain(candidate: Candidate) -> Candidate:
    """Make the candidate that chooses its blocks in every step."""
    return replace(candidate, pattern=replace(candidate.pattern, refresh=1), refresh_overlap=0.0)


def with_kept(option: PlanOption, base: PlanOption, chosen: float, error: float = inf) -> PlanOption:
    """Give an option that keeps choices of blocks its time, its error and its peak: it chooses at least once.

    option: its seconds and its peak are those of calls whose blocks were chosen before.
    base: the same pattern, which chooses in every call.
    chosen: part of the calls in which it chooses.
    error: relative L2 of the final latent.
    """
    seconds = chosen * base.seconds + (1 - chosen) * option.seconds
    extra, peak = chosen * (base.seconds - option.seconds), most_of([option.peak, base.peak])
    # What a single call gave tells nothing of blocks that were chosen before.
    return replace(option, seconds=seconds, error=error, local=None, effect=None, peak=peak, extra=extra, often=chosen)
