"""One dial on real models: what it sets is what the separate nodes set, is seen as rules, and is said on the node."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import replace

import pytest
import torch
from shaping import error
from tiny import plain
from tiny.case import parts, sample

from attention.presets import LEVELS, TABLE

PLAIN = plain()


@pytest.fixture(scope="module")
def built(pack):
    return functools.cache(lambda name: PLAIN[name].build())


@pytest.fixture
def small(pack, monkeypatch):
    """Patterns also of the few tokens of tiny models."""
    found = pack.attention.presets

    def of_any_size(row):
        return row if row.pattern is None else replace(row, pattern=replace(row.pattern, min_tokens=0))

    monkeypatch.setattr(found, "TABLE", tuple(map(of_any_size, found.TABLE)))


def boosted(pack, model, quality="high", **more):
    """(MODEL, settings, what the node says)."""
    out = pack.nodes.boost.VideoAttentionBoost.execute(model, quality, **more)
    return out.args[0], json.loads(out.args[1]), out.ui.as_dict()["text"][0]


def wired(pack, model, settings: dict):
    """The MODEL behind the separate nodes with the values that Boost tells."""
    nodes = {node.__name__: node for node in pack.nodes.NODES}
    for node in settings["nodes"]:
        values, combos = {}, {}
        for name, value in node["inputs"].items():
            combo, _, widget = name.partition(".")
            if widget:
                combos.setdefault(combo, {})[widget] = value
            else:
                values[name] = value
        for combo, widgets in combos.items():
            values[combo] = {combo: values[combo], **widgets}
        node_class = nodes[node["class_type"]]
        known = {widget.id: widget.default for widget in node_class.GET_SCHEMA().inputs if hasattr(widget, "default")}
        left_out = {name: value for name, value in known.items() if name not in values and value is not None}
        model = node_class.execute(model, **left_out, **values).args[0]
    return model


def run(pack, model, case):
    out = sample(model, case, steps=4)
    return out, pack.nodes.host.run_history.find(out)


# Every level of the families that have rows of their own; of the others one, since only the bound differs.
OWN = {name for row in TABLE for name in row.models}
CASES = [(name, level) for name in PLAIN for level in (LEVELS if name in OWN else LEVELS[-1:])]


@pytest.mark.parametrize("name, quality", CASES)
def test_it_is_what_the_separate_nodes_are(name, quality, pack, built, small, inference):
    case, model = PLAIN[name], built(name)
    one, settings, said = boosted(pack, model, quality)
    many = wired(pack, model, settings)
    rules_of = pack.nodes.host.model_rules.rules_of
    assert rules_of(one) == rules_of(many) and said.startswith(f"{quality} for ")
    out, report = run(pack, one, case)
    assert all(torch.equal(a, b) for a, b in zip(parts(out), parts(sample(many, case, steps=4)), strict=True))
    kinds = [rule.kind or "backend" for rule in rules_of(one)]
    assert [rule.label.split()[0].replace("pattern", "shape") for rule in report.rules] == kinds
    assert report.rules[0].ran + report.rules[0].others and report.answer.sentence
    # Nothing here is quantised: what a pattern changes apart, only rounding may differ.
    if len(report.rules) == 1 or not report.rules[1].ran:
        assert error(out, sample(model, case, steps=4)) < 1e-4


def test_a_pattern_that_is_not_faster_is_not_taken(pack, built, small, inference):
    """A few tokens on a CPU: gathering blocks costs more than it saves, and the report says so."""
    case, model = PLAIN["Wan"], built("Wan")
    _, report = run(pack, boosted(pack, model, "fast")[0], case)
    pattern = next(rule for rule in report.rules if rule.label.startswith("pattern"))
    assert pattern.could and not pattern.ran
    assert all("dense attention is as fast here" in why for why in pattern.reasons)


@pytest.mark.parametrize("faster", [False, True])
def test_a_pattern_is_taken_by_what_is_measured(faster, pack, built, small, inference, monkeypatch):
    """The clock is a stand-in: how long each kernel takes is made up, what is chosen by it is not."""
    engines = pack.attention.sparse.autotune

    def clock(runs, device):
        return {name: 1.0 if name == "host" else 0.5 if faster else 2.0 for name in runs}

    monkeypatch.setattr(engines, "time_in_turns", clock)
    monkeypatch.setattr(
        pack.attention.backends.autotune, "time_in_turns", lambda runs, device: dict.fromkeys(runs, 1.0)
    )
    for found in (engines, pack.attention.backends.autotune):
        monkeypatch.setattr(found, "_CHOSEN", {})
    case, model = PLAIN["Wan"], built("Wan")
    one, settings, _ = boosted(pack, model, "fast")
    out, report = run(pack, one, case)
    pattern = next(rule for rule in report.rules if rule.label.startswith("pattern"))
    assert (pattern.ran == pattern.could > 0) is faster and bool(pattern.ran) is faster
    assert torch.equal(out, sample(wired(pack, model, settings), case, steps=4))
    if faster:
        assert report.answer.sentence.startswith("Self-attention 1.") and "top blocks" in report.answer.sentence


def test_what_is_switched_off_is_left_out(pack, built):
    model = built("Wan")
    kinds = [rule.kind for rule in pack.nodes.host.model_rules.rules_of(boosted(pack, model, "fast")[0])]
    assert kinds == ["", "shape"]
    asked = {"pattern": False, "forecast": False, "timing": True, "on_unsupported": "error"}
    one, settings, said = boosted(pack, model, "fast", **asked)
    (rule,) = pack.nodes.host.model_rules.rules_of(one)
    assert rule.timing and rule.on_unsupported == "error" and not re.search("top blocks|forecast", said)
    assert len(settings["nodes"]) == 1 and pack.nodes.host.forecast.settings_of(one) is None


def test_forecast_steps_are_those_of_the_separate_node(pack, built, inference):
    case, model = PLAIN["Wan"], built("Wan")
    one, settings, said = boosted(pack, model, "fast")
    many = wired(pack, model, settings)
    out = sample(one, case, steps=16)
    report = pack.nodes.host.run_history.find(out)
    assert report.forecasts and "steps forecast" in said and "model evaluations forecast" in report.answer.sentence
    assert torch.equal(out, sample(many, case, steps=16))
    told = pack.nodes.report.VideoAttentionReport.execute({"samples": out}).args[3]
    assert json.loads(told)["as_nodes"] == settings["nodes"], "the report tells the same"


def test_where_nothing_can_be_forecast_the_rest_stands(pack, built):
    model = built("Wan").clone()
    model.model_options["transformer_options"]["easycache"] = object()
    one, settings, said = boosted(pack, model, "fast")
    assert "No step is forecast: EasyCache or LazyCache is on it" in said
    assert [node["class_type"] for node in settings["nodes"]] == ["VideoAttentionBackend", "VideoAttentionPattern"]


def test_the_input_stays_as_it_was_and_clear_takes_all_off(pack, built):
    model = built("Wan")
    before = dict(model.model_options["transformer_options"])
    one = boosted(pack, model, "fast")[0]
    assert model.model_options["transformer_options"] == before
    assert pack.nodes.host.model_rules.rules_of(pack.nodes.host.model_rules.clear(one)) == ()


@pytest.mark.parametrize("side, few", [(8, True), (256, False)])
def test_it_says_the_most_that_can_be_gained(side, few, pack, built):
    model, latent = built("Wan"), {"samples": torch.zeros(1, 16, 4, side, side)}
    said = boosted(pack, model, "fast", latent=latent)[2]
    info = pack.nodes.info.VideoAttentionInfo.execute(model, latent).args[0]
    tokens = re.search(r"At this size, (\d+) tokens, self-attention is (\d+) % of a step", said)
    assert f"= {tokens[1]} tokens" in info and f"arithmetic: {tokens[2]}%" in info
    assert re.search(r"a step would be (\S+)x as fast", said)[1] in info
    assert ("The pattern stays out: it gains from 12288 tokens on." in said) is few


def test_without_a_latent_it_asks_for_one(pack, built):
    assert "Connect the latent" in boosted(pack, built("Wan"))[2]


def test_a_model_that_is_not_known_gets_kernels_alone(pack, tiny_ltxv, monkeypatch):
    monkeypatch.setattr(pack.nodes.boost.model_family, "family_of", lambda model: None)
    one, settings, said = boosted(pack, tiny_ltxv, "fast")
    assert [node["class_type"] for node in settings["nodes"]] == ["VideoAttentionBackend"]
    assert "a model this pack does not know" in said and "No pattern and no forecast is known" in said


def test_lossless_is_exact_kernels_alone(pack, built):
    """Where nothing can be measured, the table's order decides: no quantised kernel even then."""
    (rule,) = pack.nodes.host.model_rules.rules_of(boosted(pack, built("Wan"), "lossless")[0])
    assert rule.max_error <= pack.attention.backends.autotune.EXACT
