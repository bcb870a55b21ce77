"""Which call is given which kept output, when, and what becomes of the others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from attention.core.site import Caller
from attention.reuse import EIGHT_BIT, ReuseSettings
from attention.reuse.run import ReuseRun
from attention.reuse.store import MIB, OutputStore

SHAPE = (1, 6, 8)
SIZE = 6 * 8 * 4


def output(seed: int):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def call_of(about) -> Caller:
    caller = Caller(fresh=True)
    caller.about = about
    return caller


def ask(place, caller, seed, mask=None, split=False):
    """One call: what it is given, or None where it attended and gave output(seed)."""
    if place.find(caller, mask, split):
        return place.found.give()
    place.keep(output(seed), 2, split, mask)
    return None


def store_at(step, every=2, budget=64, **settings) -> OutputStore:
    store = OutputStore(ReuseSettings(every, budget, **settings))
    store.begin(step)
    return store


def test_calls_of_one_module_are_told_by_their_order():
    store, one = store_at(0), object()
    place, caller = store.place("site"), call_of(one)
    assert ask(place, caller, 1) is ask(place, caller, 2) is None
    store.begin(1)
    caller = call_of(one)
    assert torch.equal(ask(place, caller, 3), output(1)) and torch.equal(ask(place, caller, 4), output(2))
    # There was no third.
    assert ask(place, caller, 5) is None


def test_places_and_what_a_call_is_about_are_apart():
    store, one, other = store_at(0), object(), object()
    ask(store.place("a"), call_of(one), 1)
    store.begin(1)
    assert ask(store.place("b"), call_of(one), 2) is None and ask(store.place("a"), call_of(other), 3) is None
    assert ask(store.place("a"), call_of(None), 4) is None and store.place("a") is store.place("a")
    assert torch.equal(ask(store.place("a"), call_of(one), 5), output(1))
    assert ask(store.place("a"), call_of(one), 5, split=True) is None


def test_masks_are_told_by_their_values():
    store, one = store_at(0), object()
    place, mask = store.place("site"), torch.tensor([True, False, True])
    ask(place, call_of(one), 1, mask)
    store.begin(1)
    other = mask.clone()
    assert torch.equal(ask(place, call_of(one), 2, other), output(1))
    other[1] = True
    caller = call_of(one)
    assert ask(place, caller, 3, other) is None and ask(place, call_of(one), 4, None) is None
    # The mask that is kept is a copy.
    store.begin(2)
    ask(place, call_of(one), 5, mask)
    mask[0] = False
    store.begin(3)
    assert ask(place, call_of(one), 6, mask) is None


@pytest.mark.parametrize("every", [2, 3, 4])
def test_no_output_gets_older_than_asked_for(every):
    store, one = store_at(0, every), object()
    place = store.place("site")
    given = []
    # Steps 5 and 6 are answered by someone else.
    for step in (0, 1, 2, 3, 4, 7, 8, 9, 10):
        store.begin(step)
        given.append((step, ask(place, call_of(one), step)))
    newest = None
    for step, out in given:
        if out is None:
            newest = step
        else:
            assert torch.equal(out, output(newest)) and 0 < step - newest < every
    assert [step for step, out in given if out is None] == {2: [0, 2, 4, 7, 9], 3: [0, 3, 7, 10], 4: [0, 4, 8]}[every]


def test_all_of_one_step_attends_or_none_does():
    store, one = store_at(0), object()
    place = store.place("site")
    assert ask(place, call_of(one), 1) is None and ask(place, call_of(one), 2) is None
    store.begin(1)
    # The newer of the two.
    assert all(torch.equal(ask(place, call_of(one), 3), output(2)) for _ in range(2))
    store.begin(None)
    assert ask(place, call_of(one), 4) is None
    store.begin(2)
    assert ask(place, call_of(one), 5) is None


def test_the_budget_bounds_what_is_kept_and_old_outputs_go(monkeypatch):
    monkeypatch.setattr("attention.reuse.store.MIB", SIZE)
    store = store_at(0, budget=2)
    places = [store.place(name) for name in "abc"]
    one, other = object(), object()
    for place in places:
        ask(place, call_of(one), 1)
    assert store.size == store.peak == 2 * SIZE and store.full == 1
    store.begin(1)
    assert [ask(place, call_of(one), 2) is None for place in places] == [False, False, True] and store.full == 2
    # Nobody asks for these any more: a window that moved on.
    for step in (2, 3):
        store.begin(step)
        ask(places[2], call_of(other), step)
    assert store.size == SIZE and store.peak == 2 * SIZE
    store.clear()
    assert store.size == 0 and MIB == 1 << 20


def test_what_is_kept_in_place_of_another_takes_its_memory():
    store, one = store_at(0), object()
    place = store.place("site")
    ask(place, call_of(one), 1)
    store.begin(2)
    ask(place, call_of(one), 2)
    store.begin(3)
    assert torch.equal(ask(place, call_of(one), 3), output(2)) and store.size == store.peak == SIZE
    mean, most = store.apart.read()
    exact = ((output(1) - output(2)).double().norm() / output(2).double().norm()).item()
    assert store.apart.count == 1 and store.apart.apart == 2 and mean == most == pytest.approx(exact, rel=1e-5)
    assert store.rounding.read() == (0.0, 0.0)


def test_eight_bits_state_their_error():
    store, one = store_at(0, storage=EIGHT_BIT), object()
    place = store.place("site")
    ask(place, call_of(one), 1)
    store.begin(1)
    out = ask(place, call_of(one), 2)
    exact = ((out - output(1)).norm() / output(1).norm()).item()
    assert store.rounding.read()[0] == pytest.approx(exact, rel=1e-4) and 0 < exact < 0.01


def test_another_shape_in_the_same_place_is_kept_anew():
    store, one = store_at(0), object()
    place = store.place("site")
    caller = call_of(one)
    place.find(caller, None, False)
    place.keep(output(1), 2, False, None)
    store.begin(2)
    place.find(call_of(one), None, True)
    place.keep(torch.zeros(1, 2, 6, 8), 2, True, None)
    assert store.size == 2 * 6 * 8 * 4


RULE = SimpleNamespace(reuse=ReuseSettings(3), label="reuse every 3 steps")


class Rule:
    reuse, label = RULE.reuse, RULE.label


def steps_of(calls, levels, most=None):
    run, rule = ReuseRun(calls, most), Rule()
    found = []
    for sigma in levels:
        run.begin(sigma, {rule})
        found.append((run.store_of(rule).step, run.store_of(rule).keeps))
    return found, run


def test_evaluations_are_found_in_the_samplers_order():
    heun = [(1.0, 0), (0.5, 0), (0.5, 1), (0.2, 1), (0.2, 2)]
    found, run = steps_of(heun, [sigma * (1 + 3e-5) for sigma, _ in heun])
    assert found == [(0, True), (0, True), (1, True), (1, True), (2, False)] and not run.strange
    # The same again where an evaluation failed, and some that another node answered for.
    found, run = steps_of(heun, [1.0, 1.0, 0.2])
    assert [step for step, _ in found] == [0, 0, 1] and not run.strange
    found, run = steps_of(heun, [1.0, 0.7, 0.5])
    assert found == [(0, True), (None, False), (0, True)] and run.strange == 1
    assert any("rehearsal" in said for said in run.sentences())


def test_a_sampler_that_stands_less_gets_less():
    _, run = steps_of([(1.0, 0)], [1.0], most=1)
    (store,) = run._stores.values()
    assert store.every == 2
    assert any("every 2 steps with this sampler" in said for said in run.sentences())


def test_outside_of_its_steps_a_rule_keeps_nothing():
    run, rule = ReuseRun([(1.0, 0), (0.5, 1), (0.2, 2)]), Rule()
    run.begin(1.0, {rule})
    store = run.store_of(rule)
    ask(store.place("site"), call_of(object()), 1)
    assert store.size
    run.begin(0.5, set())
    assert not store.size


def test_what_calls_are_about_is_one_object_for_the_same():
    run = ReuseRun([])
    assert run.about(1, "a") is run.about(1, "a") is not run.about(1, "b")
    assert run.sentences() == () and ReuseRun([], refused="no").sentences() == ("Nothing was kept: no.",)
