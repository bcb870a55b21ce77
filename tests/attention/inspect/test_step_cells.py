"""What ran in each block at each step, as the page's grid reads it."""

from __future__ import annotations

import json

import pytest
from counted_runs import HOST, add, make_stepped

from attention.core.site import CROSS, SELF
from attention.core.tokens import VideoSpan
from attention.inspect import step_cells
from attention.inspect.combined_report import combine
from attention.inspect.report import summarise
from attention.patterns import Neighbourhood
from attention.patterns.density import density
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats


def cells(stats: RunStats) -> dict:
    return json.loads(json.dumps(summarise(stats).as_dict()))["cells"]


def test_each_block_and_step_has_its_kernel_time_and_reason():
    found = cells(make_stepped(timed=True))
    role = found["roles"][SELF]
    ran = [[found["states"][number] for number in row] for row in role["steps"]]
    assert role["blocks"] == [0] and [row[0][0]["used"] for row in ran] == ["sdpa", *["spatial (folded)"] * 3]
    assert [row[0] for row in role["seconds"]] == pytest.approx([0.3, 0.6, 0.9, 1.2])
    cross = found["roles"][CROSS]
    said = found["states"][cross["steps"][2][0]]
    assert said == [{"used": HOST, "calls": 3, "wanted": "sdpa", "reason": "broken"}]
    assert "seconds" not in cells(make_stepped())["roles"][SELF]


def test_a_pattern_says_how_much_it_computes():
    stats, pattern, grid = RunStats("Any", (4, 8, 16), 1), Neighbourhood(), (4, 8, 16)
    span = VideoSpan(grid, 0, "both", (), ())
    decision = add(stats, SELF, 5, "neighbourhood (mask)", 0, rule=Rule(shape=Shape(pattern)), video_span=span)
    stats.begun = 1.0
    decision.calls = 2
    stats.mark()
    ((ran,),) = cells(stats)["states"]
    assert ran["density"] == pytest.approx(density(pattern, grid), abs=1e-4) and 0 < ran["density"] < 1


def test_a_block_without_a_call_in_a_step_and_one_without_a_number():
    stats = RunStats("Any", None, 2)
    first, second = (add(stats, SELF, block, "sdpa", 0) for block in (None, 7))
    stats.begun = 1.0
    for decision in (first, second):
        decision.calls += 1
        stats.mark()
    role = cells(stats)["roles"][SELF]
    assert role["blocks"] == [step_cells.UNKNOWN, 7] and role["steps"] == [[0, -1], [-1, 0]]


def test_several_runs_stand_one_behind_the_other_and_too_many_cells_are_left_out(monkeypatch):
    report = summarise(make_stepped())
    data = combine([report, report]).as_dict()["cells"]
    assert len(data["roles"][SELF]["steps"]) == 8
    monkeypatch.setattr(step_cells, "MOST", 7)
    assert combine([report, report]).as_dict()["cells"]["roles"] == {}
