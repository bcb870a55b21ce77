"""A memory budget beside the budget of error: what is chosen, what is said of it; what Verify says of memory."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

from calibrations_made import BLOCKS, drawn, options_of
from hypothesis import given
from hypothesis import strategies as st

from attention.plans import calibrate
from attention.plans.calibrate import EXACT, PlanOption, PlanPart, choose_plan, predict
from attention.plans.choose_whole import choose_whole, range_of
from attention.plans.draw_plan import draw_plan, to_text
from attention.plans.draw_verify import draw_verified
from attention.plans.plan import Plan
from attention.plans.plan_data import as_data
from attention.plans.verify import VerifiedSampling
from attention.plans.verify import to_text as verified_to_text

PAIRS = st.tuples(st.floats(0.01, 10.0), st.floats(0.0, 0.5))


def heavy(*pairs: tuple[float, float], exact: float = 1.0) -> list[PlanOption]:
    """options_of, whose EXACT takes more memory than it may."""
    first, *others = options_of(*pairs, exact=exact)
    return [replace(first, over=True), *others]


def test_what_takes_too_much_memory_comes_last():
    """Slower ones that keep the memory budget come before EXACT, as long as the error budget has room for them."""
    other = PlanPart("cross", (0, 3), 0.0, 1.0)
    options = {BLOCKS: heavy((3.0, 0.1), (2.0, 0.3)), other: options_of((2.0, 0.1))}
    for budget, names in ((0.05, [EXACT, EXACT]), (0.12, ["k0", EXACT]), (0.15, ["k0", "k0"]), (0.4, ["k1", "k0"])):
        found = choose_plan(options, budget)
        assert [option.name for option in found.chosen.values()] == names
        assert found.error <= budget and found.bound <= found.seconds


def test_of_two_that_take_too_much_the_nearer_is_mended():
    options = {replace(BLOCKS, blocks=(i, i)): heavy((3.0, 0.1 + 0.1 * i)) for i in range(2)}
    assert [o.name for o in choose_plan(options, 0.15).chosen.values()] == ["k0", EXACT]
    assert [o.name for o in choose_plan(options, 0.25).chosen.values()] == ["k0", "k0"]


HEAVY = st.lists(st.tuples(st.booleans(), st.lists(PAIRS, max_size=3)), min_size=1, max_size=4).map(
    lambda plan_parts: {
        PlanPart("self", (i, i), 0.0, 1.0): (heavy if over else options_of)(*pairs, exact=5.0)
        for i, (over, pairs) in enumerate(plan_parts)
    }
)


@given(HEAVY, st.floats(0.0, 1.0))
def test_both_budgets_are_kept_where_they_can_be(options, budget):
    found = choose_plan(options, budget)
    assert found.error <= budget * (1 + 1e-9) and found.bound <= found.seconds + 1e-9
    nearest = [min(o.error for o in calibrate.usable(some)) for some in options.values()]
    if predict(nearest) < budget:
        over = [part for part, option in found.chosen.items() if option.over]
        assert all(len(options[part]) == 1 for part in over), "something else kept both"


def test_in_the_whole_sampling_too():
    """Beside forecasts: the error of what keeps the memory budget is a part of what each range is offered with."""
    part, at = PlanPart("self", (0, 3), 0.0, 1.0), range_of(0.0, 1.0)
    options = {part: heavy((3.0, 0.1), (2.0, 0.3))}
    steps = {at: [PlanOption(EXACT, 10.0, 0.0), PlanOption("skip", 5.0, 0.2)]}
    for budget, names in ((0.05, (EXACT, EXACT)), (0.15, ("k0", EXACT)), (0.23, ("k0", "skip")), (0.4, ("k1", "skip"))):
        found = choose_whole(options, steps, budget)
        assert (found.parts[part].name, found.steps[at].name) == names
        assert found.error <= budget and found.bound <= found.whole
        assert math.isclose(found.error, math.hypot(found.parts[part].error, found.steps[at].error))


def test_a_plan_with_a_memory_budget_in_words():
    measured, choice = drawn(2)
    weighed = {
        part: [replace(o, peak=(9 + n) << 20, chunks="2 heads at a time" * bool(n)) for n, o in enumerate(some)]
        for part, some in measured.options.items()
    }
    first, second = weighed
    weighed[first] = [replace(weighed[first][0], over=True)]
    choice = choose_whole(weighed, measured.steps, 0.05)
    measured = SimpleNamespace(
        **{**vars(measured), "options": weighed, "every": weighed, "memory": 10, "peak": 3 << 20}
    )
    plan = Plan("M", "", 2, 1, 8, "cpu", 4, budget=0.05)
    text = to_text(plan, measured, SimpleNamespace(choice=choice, times=[1.0], peak=2 << 20))
    assert "Memory of a call beside its q, k and v: budget 10 MiB, at most 10 MiB as chosen.\n" in text
    assert "Peak of a run: 2 MiB instead of 3 MiB, beside what was taken before.\n" in text
    assert f"Nothing kept both budgets in: {first.text}. What attends there is ComfyUI's own attention." in text
    assert "| of the final latent alone | time | peak MiB |\n| --- | --- | --- | --- | --- | --- | --- |" in text
    assert f"| {second.text} | k0, 2 heads at a time | - | - | 1.0e-02 | 36% | 10 |" in text
    data = as_data(plan, measured, choice)
    option = data["parts"][1]["options"][1]
    assert (option["peak_mib"], option["chunks"], option["over"], data["memory"]) == (
        10.0,
        "2 heads at a time",
        False,
        10,
    )
    assert data["parts"][0]["options"][0]["over"]
    assert draw_plan(measured, choice).tobytes() != draw_plan(*drawn(2)).tobytes()


PLANNED = VerifiedSampling("planned", 0.02, "sage (self)", 1.5, 31.25, 0.97, 1.4, 0.8, 0.1, "Visibly apart.")
FLOOR = VerifiedSampling("exact, sdpa", 0.001, "sdpa (self)", 2.5)


def test_a_verification_says_what_memory_was_taken():
    exact = VerifiedSampling("exact", 0.0, "", 3.0, run_peak=300 << 20, call_peak=5 << 20)
    rows = [replace(PLANNED, run_peak=200 << 20, call_peak=2 << 20), FLOOR]
    text = verified_to_text(rows, exact, "")
    assert "| seconds | peak of the run, MiB | peak of a call, MiB |" in text
    assert "| 3.00 | 300 | 5 |" in text and "| 1.50 | 200 | 2 |" in text and "| 2.50 | - | - |" in text
    calls = verified_to_text([replace(row, run_peak=None) for row in rows], replace(exact, run_peak=None), "")
    assert "peak of the run" not in calls and "| 1.50 | 2 |" in calls
    assert draw_verified(rows).tobytes() != draw_verified([PLANNED, FLOOR]).tobytes()
