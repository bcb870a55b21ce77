"""A counted run of several steps."""

from __future__ import annotations

from counted_runs import HOST, add

from attention.core.site import CROSS, SELF
from attention.routing.run_stats import RunStats

STEPS = 4


def run(timed=False, steps=STEPS) -> RunStats:
    """The self-attention of the first step on sdpa, later ones on a pattern; cross-attention always falls back."""
    stats = RunStats("LTXVModel", (4, 8, 16), steps)
    first, later, cross = (
        add(stats, role, 0, used, 0, wanted="sdpa", reason=reason)
        for role, used, reason in ((SELF, "sdpa", None), (SELF, "spatial (folded)", None), (CROSS, HOST, "broken"))
    )
    stats.begun = 10.0
    for step in range(steps):
        for decision in (first if step == 0 else later, cross):
            decision.calls += 3
            decision.fell_back += 3 * (decision.reason is not None)
            if timed:
                decision.spans += [0.1 * (step + 1)] * 3
        stats.mark()
        stats.marks[-1] = 10.0 + 3.0 + 2.0 * step, stats.marks[-1][1]
    return stats
