"""Which kernel runs where nothing can be measured, and when a pattern is worth taking."""

from __future__ import annotations

import pytest
from counted_runs import add

from attention.backends import registry
from attention.backends.autotune import EXACT, HOST_RUN, AutotuneResult, KernelTrial
from attention.core.site import SELF
from attention.routing import choose
from attention.routing.rules import Rule
from attention.routing.run_stats import RunStats


def decided(**more):
    return add(RunStats(), SELF, 0, "sdpa", 1, wanted="auto", **more)


def measured(host, winner, name="sdpa"):
    return AutotuneResult(name, (KernelTrial(HOST_RUN, host), KernelTrial(name, winner)), 0.0)


@pytest.mark.parametrize("accepted, max_error, chosen", [
    (["sage", "sdpa"], 0.02, "sage"),
    (["sage", "sdpa"], EXACT, "sdpa"),
    (["sage"], EXACT, HOST_RUN),
])  # fmt: skip
def test_without_a_measurement_no_quantised_kernel_where_exactness_is_asked_for(
    accepted, max_error, chosen, monkeypatch
):
    def fails(*args):
        raise MemoryError("no room for the sample")

    monkeypatch.setattr(choose, "_measure", fails)
    monkeypatch.setattr(registry, "candidates", lambda geometry: (accepted, {}))
    stats, decision = RunStats(), decided(rules=(Rule("auto", max_error=max_error),))
    assert choose.choose_auto(None, decision, stats) == chosen
    assert "could not measure" in stats.notes[0] and decision.choice is None


@pytest.mark.parametrize("pattern, dense, taken", [
    (measured(2.0, 1.0), None, True),
    (measured(2.0, 1.0), measured(2.0, 0.8), False),  # the kernel without the pattern is faster
    (measured(2.0, 1.0), measured(9.0, 5.4), True),  # of a busier minute: what counts is how it compares then
    (measured(2.0, 1.99), None, False),  # within noise
    (measured(2.0, 2.5), None, False),
    (None, None, False),
    (measured(2.0, float("inf")), None, False),
])  # fmt: skip
def test_a_pattern_is_taken_where_it_gains(pattern, dense, taken):
    why = choose.why_dense(decided(choice=pattern), decided(choice=dense))
    assert (why is None) is taken
    assert taken or "dense attention is as fast here" in why or why == "its engine could not be measured"
