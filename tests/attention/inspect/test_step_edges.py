"""Steps of samplers that evaluate the model several times in each: where they end, by evaluations and callbacks."""

from __future__ import annotations

import pytest

from attention.routing.run_stats import RunStats


@pytest.mark.parametrize(
    "run, steps",
    [
        ("e! e! e!", [1, 1, 1]),
        ("e! e e! e e!", [2, 2, 1]),
        ("e! e e e! e e", [3, 3]),
        # Its end is told, as by dpm_adaptive.
        ("e e e! e e e!", [3, 3]),
        ("e e e! e e e! e", [3, 3]),
        # Without an evaluation before it nothing is known of a step.
        ("! e! e e!", [2, 1]),
    ],
)
def test_every_evaluation_is_counted_with_its_step(run, steps, monkeypatch):
    """`e` evaluates, `!` is a callback."""
    stats, done = RunStats(), []
    monkeypatch.setattr(stats.edges, "look", lambda: (0.0, {"key": len(done)}))
    for sign in run.replace(" ", ""):
        if sign == "e":
            stats.begin()
            done.append(sign)
        else:
            stats.mark()
    stats.edges.end()
    ends = [counts["key"] for _, counts in stats.marks]
    assert [after - before for before, after in zip([0, *ends], ends)] == steps
