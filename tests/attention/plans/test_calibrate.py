"""The choice of a plan from measured options: within its budget, beside what no choice can beat; how it is drawn."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from calibrations_made import BLOCKS, drawn, options_of
from hypothesis import given
from hypothesis import strategies as st

from attention.core.canvas import BLUE, LINE, RED, WIDTH
from attention.plans import calibrate
from attention.plans.calibrate import EXACT, PlanChoice, PlanOption, PlanPart, choose_plan, front, hull, predict, scale
from attention.plans.choose_whole import all_exact
from attention.plans.draw_plan import PANELS, draw_plan, to_text
from attention.plans.draw_verify import draw_verified
from attention.plans.plan import Plan
from attention.plans.verify import VerifiedSampling, headline
from attention.plans.verify import to_text as verified_to_text

PAIRS = st.tuples(st.floats(0.01, 10.0), st.floats(0.0, 0.5))
PROBLEMS = st.lists(st.lists(PAIRS, max_size=3), min_size=1, max_size=4).map(
    lambda plan_parts: {PlanPart("self", (i, i), 0.0, 1.0): options_of(*pairs) for i, pairs in enumerate(plan_parts)}
)


def cheapest(options: dict, budget: float) -> float:
    """Seconds of the best choice there is, by trying all."""
    every = itertools.product(*options.values())
    return min(sum(o.seconds for o in one) for one in every if predict(o.error for o in one) <= budget)


@given(PROBLEMS, st.floats(0.0, 1.0))
def test_a_choice_keeps_its_budget_and_its_bound(options, budget):
    found = choose_plan(options, budget)
    assert set(found.chosen) == set(options) and all(found.chosen[u] in options[u] for u in options)
    assert found.error == pytest.approx(predict(o.error for o in found.chosen.values()))
    assert found.error <= budget * (1 + 1e-9)
    assert found.seconds == pytest.approx(sum(o.seconds for o in found.chosen.values()))
    truth = cheapest(options, budget * (1 + 1e-12))
    assert found.bound - 1e-9 <= truth <= found.seconds + 1e-9


@given(PROBLEMS, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_tighter_budget_never_predicts_more_error(options, one, other):
    tight, loose = sorted((one, other))
    assert choose_plan(options, tight).error <= choose_plan(options, loose).error + 1e-12


def test_without_a_budget_everything_stays_exact():
    found = choose_plan({BLOCKS: options_of((1.0, 1e-6))}, 0.0)
    assert found == PlanChoice({BLOCKS: options_of()[0]}, 0.0, 10.0, 10.0)


def test_with_all_the_budget_everything_is_fastest():
    options = {BLOCKS: options_of((5.0, 0.1), (1.0, 0.5)), PlanPart("cross", (0, 3), 0.0, 1.0): options_of((2.0, 0.3))}
    found = choose_plan(options, 10.0)
    assert [o.seconds for o in found.chosen.values()] == [1.0, 2.0] and found.bound == found.seconds == 3.0


def test_an_option_off_the_hull_fills_what_is_left():
    # From 10 s to 1 s for 0.5 the hull goes in one move; 6 s for 0.4 lies above it and is all that fits.
    options = {BLOCKS: options_of((6.0, 0.4), (1.0, 0.5))}
    assert [o.seconds for o in hull(options[BLOCKS])] == [10.0, 1.0]
    assert choose_plan(options, 0.45).seconds == 6.0


def test_what_a_move_costs_is_gone():
    """Three parts of error 0.3 each: 0.3, 0.3 * sqrt(2) and 0.3 * sqrt(3) are one, two and all of them."""
    options = {replace(BLOCKS, blocks=(i, i)): options_of((9.0, 0.3)) for i in range(3)}
    for budget, taken in ((0.29, 0), (0.31, 1), (0.42, 1), (0.43, 2), (0.51, 2), (0.53, 3)):
        assert choose_plan(options, budget).seconds == 30.0 - taken


def test_an_exchange_costs_what_it_adds_to_the_error_of_its_unit():
    # The first move leaves 0.41**2 - 0.1**2 = 0.158: enough for 0.4**2 - 0.1**2 = 0.15, not for 0.4**2 beside 0.1**2.
    options = {BLOCKS: options_of((8.0, 0.1), (6.0, 0.4), (1.0, 0.5))}
    assert [o.seconds for o in hull(options[BLOCKS])] == [10.0, 8.0, 1.0]
    found = choose_plan(options, 0.41)
    assert (found.seconds, found.error) == (6.0, pytest.approx(0.4))


def test_exchanges_share_what_is_left():
    # Each part's one move, 0.5, is too much; of the options off the hull, 0.4, one fits, and two from 0.4 * sqrt(2) on.
    options = {replace(BLOCKS, blocks=(i, i)): options_of((6.0, 0.4), (1.0, 0.5)) for i in range(2)}
    for budget, seconds in ((0.39, 20.0), (0.45, 16.0)):
        assert choose_plan(options, budget).seconds == seconds


def test_errors_of_units_add_up_as_squares():
    assert predict([0.03, 0.04]) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("count", "groups", "expected"),
    [
        (5, 2, ((0, 1), (2, 4))),
        (2, 5, ((0, 0), (1, 1))),  # never more groups than blocks
        (40, 1, ((0, 39),)),
        (7, 3, ((0, 1), (2, 4), (5, 6))),
    ],
)
def test_spans(count, groups, expected):
    assert calibrate.spans(count, groups) == expected


@given(st.integers(1, 200), st.integers(1, 64))
def test_spans_hold_every_block_once(count, groups):
    inside = [block for low, high in calibrate.spans(count, groups) for block in range(low, high + 1)]
    assert inside == list(range(count))


def test_ranges_meet():
    assert calibrate.ranges(4) == ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))


def test_units_in_words():
    assert BLOCKS.text == "self, blocks 0-3, 0-50 %"
    assert PlanPart("cross", (7, 7), 0.5, 1.0).text == "cross, block 7, 50-100 %"


def test_only_unbeaten_options_are_sampled():
    near = [
        PlanOption(EXACT, 10.0, 0.0),
        PlanOption("slow and far", 9.0, math.inf, 0.5, 0.4),
        PlanOption("fast", 2.0, math.inf, 0.3, 0.2),
        PlanOption("near", 8.0, math.inf, 0.2, 0.1),
        PlanOption("no block", 1.0, math.inf, 0.25),  # ranked by the call's own error
    ]
    assert [option.name for option in front(near)] == [EXACT, "near", "fast", "no block"]


def test_errors_in_proportion_to_the_block():
    others = [PlanOption("a", 1.0, math.inf, 0.2, 0.1), PlanOption("b", 2.0, math.inf, 0.4, 0.05)]
    known = [PlanOption("a", 1.0, 0.03, 0.2, 0.1)]
    assert [option.error for option in scale(others, known)] == pytest.approx([0.03, 0.015])
    assert scale(others, []) == []


# --- in words and pictures --------------------------------------------------------------------------------------------


def test_the_picture_marks_what_was_chosen():
    measured, choice = drawn(2)
    with_plan = draw_plan(measured, choice)
    without = draw_plan(measured, all_exact(measured.options, measured.steps))
    assert with_plan.size[0] == WIDTH and with_plan.size == without.size
    assert with_plan.tobytes() != without.tobytes()


def test_the_picture_is_bounded():
    measured, choice = drawn(PANELS + 40)
    fewer, choice_of_fewer = drawn(PANELS)
    # That some are left out is said in two lines at most.
    assert 0 <= draw_plan(measured, choice).height - draw_plan(fewer, choice_of_fewer).height <= 2 * LINE


def test_the_line_joins_what_no_other_beats():
    measured, _ = drawn(1)
    (found,) = measured.options.values()
    assert [option.seconds for option in calibrate.unbeaten(found)] == [10.0, 4.0, 1.0]


def test_a_plan_in_words():
    measured, choice = drawn(2)
    plan = Plan(
        "M", "", 2, 1, 8, "cpu", 4, budget=0.05, error=0.014, realised=0.02, exact_seconds=21.0, seconds=8.0,
        quantile=0.9, whole_exact_seconds=54.0, whole_seconds=41.0,
    )  # fmt: skip
    text = to_text(plan, measured, SimpleNamespace(choice=choice, times=[45.0, 44.0, 49.0], peak=None))
    assert "Whole sampling 1.32x as fast: 41.00 s instead of 54.00 s by prediction, 45.00 s instead of 55.00 s" in text
    assert "Attention 2.62x as fast: 8.00 s of it instead of 21.00 s." in text
    assert "budget 0.05, predicted for 90 % of all prompts at most 0.014, on this prompt and seed 0.02" in text
    assert "| self, block 0, 0-100 % | k0 | - | - | 1.0e-02 | 40% |" in text
    assert "| steps" not in text, "where there was nothing to choose"
    assert "MiB" not in text and "peak" not in text
    # One line for each reason.
    assert "  sage as self-attention, flash as self-attention: needs cuda" in text and "  k9: NaN" in text


PLANNED, FLOOR = (
    VerifiedSampling("planned", 0.02, "sage (self)", 1.5, 31.25, 0.97, 1.4, 0.8, 0.1, "Visibly apart."),
    VerifiedSampling("exact, sdpa", 0.001, "sdpa (self)", 2.5),
)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([PLANNED, FLOOR], "0.02 from the exact one, 20 times the noise floor of 0.001."),
        ([FLOOR, PLANNED], "0.001 from the exact one, within the noise floor of 0.02."),
        ([PLANNED], "no other exact kernel here gives a noise floor."),
        (
            [VerifiedSampling("planned", math.inf, "sage (self)", 1.0), FLOOR],
            "holds NaN or Inf: nothing can be compared.",
        ),
        ([VerifiedSampling("planned", math.nan, "sage (self)", 1.0)], "holds NaN or Inf: nothing can be compared."),
    ],
)
def test_a_verification_in_a_sentence(rows, words):
    assert words in headline(rows)


@pytest.mark.parametrize(
    ("budget", "words"),
    [(0.03, "The plan's budget of 0.03 was kept."), (0.01, "The plan's budget of 0.01 was not kept: 2 times as much.")],
)
def test_a_verification_says_whether_the_budget_was_kept(budget, words):
    exact = VerifiedSampling("exact", 0.0, "", 3.0)
    assert words in verified_to_text([PLANNED, FLOOR], exact, "", budget).splitlines()[0]
    plain, marked = (np.asarray(draw_verified([PLANNED, FLOOR], budget=one)) for one in (0.0, budget))
    assert not (plain == RED).all(-1).any() and (marked == RED).all(-1).any()
    broken = VerifiedSampling("planned", math.nan, "", 1.0)
    assert "budget" not in verified_to_text([broken], exact, "", budget)


def test_a_verification_says_what_attention_took():
    exact, planned = (VerifiedSampling("", 0.0, "", seconds, attention=a) for seconds, a in ((2.89, 1.2), (2.83, 0.5)))
    text = verified_to_text([planned], exact, "")
    assert "Planned took 2.83 s, exact 2.89 s: whole sampling 1.02x as fast, attention 2.40x (0.50 s of it, " in text
    forecast = replace(planned, attention=0.0)
    assert "attention" not in verified_to_text([forecast], exact, "")


def test_a_verification_in_words_and_bars():
    exact = VerifiedSampling("exact", 0.0, "", 3.0, motion=1.25, frozen=0.0)
    text = verified_to_text([PLANNED, FLOOR], exact, "Scheduler: simple.")
    assert "| exact | 0 | inf | 1 | - | 1.25 | 0% | 3.00 |" in text
    assert "| planned | 2.00e-02 | 31.25 | 0.9700 | 1.40 | 0.80 | 10% | 1.50 |" in text
    assert "| exact, sdpa | 1.00e-03 | - | - | - | - | - | 2.50 |" in text and text.endswith("Scheduler: simple.")
    assert (
        "\nplanned: Visibly apart.\n" in text
        and "Planned took 1.50 s, exact 3.00 s: whole sampling 2.00x as fast." in text
    )
    assert "budget" not in text and "peak" not in text
    far, near = (draw_verified([VerifiedSampling("planned", error, "", 1.0)]) for error in (math.inf, 0.0))
    blue = [(np.asarray(picture) == BLUE).all(-1).sum() for picture in (far, near)]
    assert blue[0] > 100 * blue[1] > 0
