"""Presets on tiny models in a real ComfyUI: what a row says runs, by the separate nodes with the values it gives."""

from __future__ import annotations

import functools

import pytest
from tiny import CASES, plain
from tiny.case import parts, sample
from widget_defaults import defaults

from attention import presets
from attention.presets import words

PLAIN = plain()
STEPS = 20
NODES = {words.BACKEND: ("backend", "VideoAttentionBackend"), words.PATTERN: ("pattern", "VideoAttentionPattern")}
VARIANTS = ("FastH3", "MiniMax-H3", "LTX-2.3", "LTX-2.5", "Wan 2.2 TI2V 5B", "Wan-Animate-2", "HunyuanVideo 1.5")
SHAPED = [(row, name) for row in presets.TABLE if row.pattern for name in row.models if name in PLAIN]


@pytest.fixture(scope="module")
def built(pack):
    return functools.cache(lambda name: PLAIN[name].build())


def node(pack, name):
    module, kind = NODES[name]
    return getattr(getattr(pack.nodes, module), kind)


def applied(pack, model, row, **more):
    """The MODEL behind the nodes that the row's values are for. more: other values of the pattern's node."""
    for name, values in words.node_values(row).items():
        if name in NODES:
            # Which kernel is the fastest on a few tokens is chance.
            given = defaults(node(pack, name)) | {"auto_choice": "table order"} | values
            given |= more if name == words.PATTERN else {}
            model = node(pack, name).execute(model, **{k: v for k, v in given.items() if v is not None}).args[0]
    return model


@pytest.mark.parametrize("row", presets.TABLE, ids=lambda row: f"{row.level} {row.models[:1]}")
def test_values_are_those_of_the_nodes_widgets(row, pack):
    for name, values in words.node_values(row).items():
        if name in NODES:
            known = {part.id: part for part in node(pack, name).GET_SCHEMA().inputs}
            assert set(values) <= set(known)
            for widget, value in values.items():
                options = getattr(known[widget], "options", None)
                assert not options or widget == "pattern" or value in options
                assert getattr(known[widget], "min", None) is None or known[widget].min <= value <= known[widget].max


@pytest.mark.parametrize(("row", "name"), SHAPED, ids=lambda value: getattr(value, "level", value))
def test_a_preset_shapes_its_steps_and_blocks_and_no_other(row, name, pack, built, inference):
    case, choice = PLAIN[name], row.pattern
    out = sample(applied(pack, built(name), row, min_tokens=0), case, steps=STEPS)
    report = pack.nodes.host.run_history.find(out)
    assert all(part.isfinite().all() for part in parts(out))
    by_step = [{used for role, used in step.calls if role == "self"} for step in report.timeline]
    shaped = [{used.partition(" (")[0] for used in step if used.startswith("top blocks")} for step in by_step]
    first = next(number for number, step in enumerate(shaped) if step)
    last = max(number for number, step in enumerate(shaped) if step)
    # The tiny models' own noise levels; simple's steps are even in the schedule, but for LTX's by the clip's size.
    assert abs(first / STEPS - choice.start) <= 1 / STEPS and abs((last + 1) / STEPS - choice.end) <= 1 / STEPS
    ran = list(dict.fromkeys(name for step in shaped for name in step))
    percents = [f" {percent:g} %" for percent in choice.percentages] if choice.ramp else [""]
    assert ran == [f"top blocks{percent}" for percent in percents]
    rows = [used for used in report.rows if used.used.startswith("top blocks")]
    assert rows and all(used.role == "self" for used in rows)
    assert min(block for used in rows for block in used.blocks) == choice.dense_first_blocks


def test_short_clips_stay_dense(pack, built, inference):
    """As it comes, the row leaves so few tokens alone, and the report says so."""
    row = presets.find("Wan", presets.FAST)
    report = pack.nodes.host.run_history.find(sample(applied(pack, built("Wan"), row), PLAIN["Wan"], steps=STEPS))
    assert not any("top blocks" in used.used for used in report.rows)
    assert any("fewer than min_tokens" in reason for _, _, reason in report.fallbacks)


@pytest.mark.parametrize(
    "variant", ["FastH3", "Wan 2.2 TI2V 5B", "LTX-2.3", "LTX-2.5", "MiniMax-H3", "Wan-Animate-2", "HunyuanVideo 1.5"]
)
def test_a_loaded_model_finds_its_row(variant, pack, inference):
    """By the name that its family has for it, and where a row is for that family alone, by the family's."""
    case = next(case for case in CASES if case.variant == variant)
    model = case.build()
    family = pack.nodes.host.model_family.family_of(model)
    name = family.name_of(model.model.diffusion_model)
    for level in presets.LEVELS:
        row = presets.find(name, level)
        assert name in row.models and (row.pattern is None or variant not in ("FastH3", "Wan-Animate-2"))
