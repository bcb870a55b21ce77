"""The widgets of every pattern, at their least, their most and each of their options: the pattern runs as it says."""

from __future__ import annotations

import pytest
from pattern_calls import Call, tried
from shaping import choices, default_of

from attention import patterns as p

GRIDS = ((5, 7, 6), (9, 8, 8))


@pytest.fixture(scope="module")
def offered(pack):
    given = next(i for i in pack.nodes.pattern.VideoAttentionPattern.GET_SCHEMA().inputs if i.id == "pattern")
    return {option.key: option.inputs for option in given.options}


def test_every_pattern_is_offered(pack, offered):
    """As a choice of its own, or as a way to combine two."""
    inputs = pack.nodes.widgets.pattern_inputs
    combined = {row.name for row in inputs.COMBINE.values() if row is not None}
    assert {row.name for row in p.TABLE} == set(offered) | combined and set(offered) == set(inputs.CHOICES)


def ends(widget) -> tuple:
    """The values of a widget that are the likeliest to be wrong."""
    options = getattr(widget, "options", None)
    if options:
        return tuple(options)
    return (True, False) if isinstance(widget.default, bool) else (widget.min, widget.max)


@pytest.mark.parametrize("name", [row.name for row in p.TABLE])
def test_every_value_runs_or_is_refused(name, pack, offered):
    """One widget after the other, the others as they come."""
    ran, row = set(), next(row for row in p.TABLE if row.name == name)
    for widget in offered.get(name, ()):
        for value in (default_of(widget), *ends(widget)):
            made = pack.nodes.widgets.pattern_inputs.make({"pattern": name, **choices(pack)[name], widget.id: value})
            # The pack as ComfyUI imports it has classes of its own.
            pattern = row(**made.__dict__)
            for seed, grid in enumerate(GRIDS):
                ran |= {
                    engine for engine, reason in tried(pattern, grid, Call(before=3, seed=seed)).items() if not reason
                }
    assert ran or not offered.get(name)
