"""Other packs copy a model's options deeply, as a whole or in each step: all that is told apart by identity stays."""

from __future__ import annotations

import copy

import guidance_rows
import pytest
from guiding import PLAIN, error, guided, prompted, same
from tiny.case import SLOT, prompt
from widget_defaults import defaults

CASE = PLAIN["Wan"]


@pytest.fixture(scope="module")
def model(pack):
    return CASE.build()


def pattern(pack, m, start=0.0):
    node = pack.nodes.pattern.VideoAttentionPattern
    given = {"start_percent": start, "min_tokens": 0, "auto_choice": "table order"}
    return node.execute(m, pattern={"pattern": "temporal window", "time": 1.0}, **defaults(node) | given).args[0]


def kernel(pack, m, **where):
    return pack.nodes.host.model_rules.add_rule(m, pack.attention.routing.rules.Rule("reference", **where))


def by_row(pack, m, name):
    return guidance_rows.execute(guidance_rows.nodes_of(pack)[name], m)[0]


NODES = {
    **{name: lambda pack, m, name=name: by_row(pack, m, name) for name in guidance_rows.NAMES},
    "pag in some steps": lambda pack, m: guided(pack, "pag", m, blocks="1", end_percent=0.5),
    "nag": lambda pack, m: guided(pack, "nag", m, negative=prompt(CASE, 5)),
    "pattern": pattern,
    "kernel of one block": lambda pack, m: kernel(pack, m, blocks=((1, 1),)),
    "kernel in some steps": lambda pack, m: kernel(pack, m, end=0.5),
    "cleared": lambda pack, m: pack.nodes.host.model_rules.clear(guided(pack, "stg", kernel(pack, m))),
    "all": lambda pack, m: guided(
        pack, "nag", guided(pack, "pag", guided(pack, "stg", pattern(pack, kernel(pack, m)), blocks="1"))
    ),
}


def copied(model):
    other = model.clone()
    other.model_options = copy.deepcopy(model.model_options)
    return other


def copied_in_each_step(model, kind):
    """A clone in which another pack's wrapper copies the options: of a step, or of one call in it."""
    other = model.clone()

    def wrapper(executor, *args):
        *before, options = args[:5] if kind == "calc_cond_batch" else args[:3]
        return executor(*before, copy.deepcopy(options), *args[len(before) + 1 :])

    other.add_wrapper_with_key(kind, "copies", wrapper)
    return other


def rows(pack, out):
    report = pack.nodes.host.run_history.find(out)
    if report is None:
        return None
    return sorted((r.role, r.used, r.calls, tuple(sorted(r.blocks))) for r in report.rows), report.notes


HOW = {
    "once": copied,
    "each step": lambda m: copied_in_each_step(m, "predict_noise"),
    "each call": lambda m: copied_in_each_step(m, "calc_cond_batch"),
    "a copy of a copy": lambda m: copied_in_each_step(copied(copied(m)), "calc_cond_batch"),
}


@pytest.mark.parametrize("name", NODES)
def test_every_node_acts_and_counts_after_a_deep_copy(name, pack, model, inference):
    on = NODES[name](pack, model)
    sampling = {"case": CASE, "positive": prompt(CASE, 1), "negative": prompt(CASE, 2), "cfg": 3.0, "steps": 2}
    truth = prompted(on, **sampling)
    counted = rows(pack, truth)
    for how, copies in HOW.items():
        out = prompted(copies(on), **sampling)
        assert same(out, truth) and rows(pack, out) == counted, how
    assert name == "cleared" or error(truth, prompted(model, **sampling)) > 1e-9


def of_the_pack(value, name: str, seen: dict) -> dict:
    """Every object of the pack's classes in the host's containers, and what a copy of it would copy."""
    if id(value) in seen:
        return seen
    if isinstance(value, dict):
        inside = list(value.values())
    elif isinstance(value, (list, tuple)):
        inside = list(value)
    elif type(value).__module__.startswith(name):
        seen[id(value)] = value
        # Nobody copies what is inside one that stays itself.
        inside = [] if copy.deepcopy(value) is value else list(vars(value).values())
    else:
        inside = [value.__self__] if hasattr(value, "__self__") and callable(value) else []
    for each in inside:
        of_the_pack(each, name, seen)
    return seen


def test_what_is_compared_by_identity_is_its_own_copy(pack, model, inference):
    """Every object of ours that reaches the options, of whatever node, also while a run goes on."""
    on, found = NODES["all"](pack, guided(pack, "riflex", guided(pack, "enhance", model))), {}

    def look(executor, *args):
        of_the_pack(args[4], pack.__name__, found)
        inside = args[4]["transformer_options"]
        of_the_pack([inside["vattn.context"].stats, *inside[SLOT].rules], pack.__name__, found)
        return executor(*args)

    on.add_wrapper_with_key("calc_cond_batch", "look", look)
    prompted(on, CASE, prompt(CASE, 1), prompt(CASE, 2), cfg=3.0)
    of_the_pack(on.model_options, pack.__name__, found)
    kinds = {type(value).__name__ for value in found.values()}
    ours = {"Router", "StepContext", "Caller", "RouterGroup", "Passes", "Negative", "RunStats", "Perturbation"}
    assert ours <= kinds
    for value in found.values():
        by_identity = type(value).__eq__ is object.__eq__
        assert not by_identity or (copy.deepcopy(value) is value and copy.copy(value) is value), type(value)
