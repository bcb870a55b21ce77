"""Which ramps and kept choices of blocks are worth a try, and what they are taken to cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.patterns import AdaptiveBlocks, MassBlocks, Spatial, TopBlocks
from attention.patterns.ramp import Ramp
from attention.plans.calibrate import EXACT, PlanOption, PlanPart, hull
from attention.plans.over_time import between, falls_first, keeping, option_of, pair_of, plain, wins, with_kept
from attention.plans.plan import Candidate

EXACTLY = PlanOption(EXACT, 10.0, 0.0)


def made(*candidates_and_figures):
    """([EXACT and options], {name: Candidate}) of (pattern, seconds, error)."""
    named = {}
    options = [EXACTLY]
    for pattern, seconds, error in candidates_and_figures:
        candidate = pattern if isinstance(pattern, Candidate) else Candidate(pattern=pattern)
        named[candidate.name] = candidate
        options.append(PlanOption(candidate.name, seconds, error))
    return options, named


def names(pair):
    return None if pair is None else tuple(option.name for option in pair)


@pytest.mark.parametrize(
    "many, few", [(TopBlocks(50.0), TopBlocks(25.0)), (MassBlocks(95.0), MassBlocks(80.0)),
                  (AdaptiveBlocks(0.5), AdaptiveBlocks(1.5))],
)  # fmt: skip
def test_two_densities_of_one_pattern_make_a_ramp(many, few):
    options, named = made((few, 2.0, 0.2), (Spatial(), 1.0, 0.5), (many, 6.0, 0.1))
    pair = pair_of(options, named)
    assert names(pair) == (Candidate(pattern=many).name, Candidate(pattern=few).name)
    falling, rising = (between(*(named[option.name] for option in pair), way, "linear") for way in (True, False))
    assert falling.pattern == many and rising.pattern == few
    assert falling.rule("self", (), 0.0, 1.0).shape.stretches[-1].pattern == few
    assert rising.rule("self", (), 0.0, 1.0).shape.stretches[-1].pattern == many


def test_what_is_no_pair():
    top, few = TopBlocks(50.0), TopBlocks(25.0)
    assert pair_of(*made((top, 6.0, 0.1), (MassBlocks(25.0), 2.0, 0.2))) is None
    assert pair_of(*made((top, 6.0, 0.1), (replace(few, tail=True), 2.0, 0.2))) is None
    assert pair_of(*made((top, 6.0, 0.1), (replace(few, refresh=4), 2.0, 0.2))) is None
    assert pair_of(*made((top, 6.0, 0.1), (replace(few, by_heads=(25.0, 5.0)), 2.0, 0.2))) is None
    assert pair_of(*made((top, 6.0, 0.1), (Candidate(pattern=few, ramp=Ramp(5.0)), 2.0, 0.2))) is None
    assert pair_of(*made((top, 6.0, 0.1), (Candidate("sage"), 2.0, 0.2))) is None
    # Another option beats one end, or both take as long.
    assert pair_of(*made((top, 6.0, 0.1), (few, 2.0, 0.2), (Spatial(), 1.0, 0.05))) is None
    assert pair_of(*made((top, 2.1, 0.1), (few, 2.0, 0.2))) is None
    # Of two pairs the one further apart.
    wide = made((top, 6.0, 0.1), (few, 5.0, 0.11), (MassBlocks(95.0), 5.5, 0.105), (MassBlocks(80.0), 1.0, 0.3))
    assert names(pair_of(*wide)) == ("blocks by mass (mass 95)", "blocks by mass (mass 80)")


@given(st.lists(st.sampled_from((50.0, 45.0, 40.0, 35.0, 30.0, 25.0)), min_size=1, max_size=9), st.floats(0.0, 0.3))
def test_its_time_and_when_it_wins(values, error):
    options, named = made((TopBlocks(50.0), 6.0, 0.1), (TopBlocks(25.0), 2.0, 0.2))
    near, far = pair_of(options, named)
    ends = [(named[option.name], option) for option in (near, far)]
    ramp = option_of(between(ends[0][0], ends[1][0], True, "linear"), *ends, values, error)
    assert 2.0 <= ramp.seconds <= 6.0
    assert ramp.seconds == pytest.approx(2.0 + 4.0 * (sum(values) / len(values) - 25) / 25)
    # What wins is what the knapsack's hull of these three takes up.
    if 2.0 < ramp.seconds < 6.0:
        line = 0.1**2 + (6.0 - ramp.seconds) / 4.0 * (0.2**2 - 0.1**2)
        if abs(error**2 - line) > 1e-9:
            assert wins(ramp, near, far) == (error**2 < line)
            assert error == 0 or wins(ramp, near, far) == (ramp in hull([near, ramp, far]))


def test_it_begins_dense_where_early_steps_err_more():
    parts = [PlanPart("self", (0, 1), i / 3, (i + 1) / 3) for i in range(3)]
    other = PlanPart("cross", (0, 1), 0.0, 1.0)
    steps = {part: [0, 1, 2] for part in parts} | {other: [0]}
    options = {part: [EXACTLY, PlanOption("x", 5.0, error)] for part, error in zip(parts, (0.3, 0.2, 0.1))}
    options[other] = [EXACTLY]
    assert all(falls_first(part, "x", options, steps) for part in parts)
    for part, error in zip(parts, (0.1, 0.2, 0.3)):
        options[part] = [EXACTLY, PlanOption("x", 5.0, error)]
    assert not any(falls_first(part, "x", options, steps) for part in parts)
    # By the step: as much error in twice as many.
    options[parts[0]], options[parts[1]] = ([EXACTLY, PlanOption("x", 5.0, 0.2)] for _ in range(2))
    assert not falls_first(parts[0], "x", options, {**steps, parts[0]: list(range(6))})
    # Nothing is known of what it was not tried in, or of the range alone.
    options[parts[1]] = [EXACTLY]
    assert falls_first(parts[0], "x", options, steps)
    assert falls_first(parts[2], "x", {parts[2]: options[parts[2]]}, steps)


def test_choices_are_kept_where_choosing_takes_time():
    top, mass = TopBlocks(50.0), MassBlocks(80.0)
    kept = [Candidate(pattern=replace(top, refresh=4)), Candidate(pattern=top, refresh_overlap=0.9),
            Candidate(pattern=replace(mass, refresh=4))]  # fmt: skip
    options, named = made((top, 6.0, 0.1), (mass, 4.0, 0.2))
    named |= {candidate.name: candidate for candidate in kept}
    assert {plain(candidate).name for candidate in kept} == {option.name for option in options[1:]}
    raw = [PlanOption(candidate.name, seconds, 0.0) for candidate, seconds in zip(kept, (5.0, 5.5, 1.0))]
    base, ways = keeping(options, raw, named, 4)
    assert base == options[2] and ways == raw[2:], "it saves most"
    base, ways = keeping(options, raw[:2], named, 4)
    assert base == options[1] and ways == raw[:2]
    kept = replace(raw[0], seconds=0.25 * 6.0 + 0.75 * 5.0, error=0.3, extra=0.25 * (6.0 - 5.0), often=0.25)
    assert with_kept(raw[0], base, 0.25, 0.3) == kept
    # Half of the steps computed: blocks are chosen in half of these. A tenth: in all of them.
    assert kept.in_part(0.5).seconds == 0.25 * 6.0 + 0.25 * 5.0 and kept.in_part(0.1).seconds == pytest.approx(
        0.1 * 6.0
    )
    # In some calls it chooses: it takes what they take.
    low, high = replace(raw[0], peak=10), replace(base, peak=30)
    assert with_kept(low, high, 0.25).peak == 30 and with_kept(replace(low, peak=40), high, 0.25).peak == 40
    assert with_kept(low, base, 0.25).peak is None
    # One evaluation keeps nothing; what takes as long is not worth it; nor is what another option beats.
    assert keeping(options, raw, named, 1) == (None, [])
    assert keeping(options, [replace(raw[0], seconds=5.9)], named, 4) == (None, [])
    beaten = [*options, PlanOption("x", 1.0, 0.05)]
    assert keeping(beaten, raw, named, 4) == (None, [])
