"""What a calibration measures, made up: options of parts, and all that is drawn of them."""

from __future__ import annotations

from types import SimpleNamespace

from attention.plans.calibrate import EXACT, PlanOption, PlanPart
from attention.plans.choose_whole import choose_whole, range_of

BLOCKS = PlanPart("self", (0, 3), 0.0, 0.5)


def options_of(*pairs: tuple[float, float], exact: float = 10.0) -> list[PlanOption]:
    """EXACT and an option for each (seconds, error)."""
    return [PlanOption(EXACT, exact, 0.0), *(PlanOption(f"k{i}", s, e) for i, (s, e) in enumerate(pairs))]


def drawn(count: int):
    options = {
        PlanPart("self", (i, i), 0.0, 1.0): options_of((4.0, 0.01), (9.0, 0.02), (1.0, 0.3), exact=10.0 + i)
        for i in range(count)
    }
    dropped = {"sage as self-attention": "needs cuda", "flash as self-attention": "needs cuda", "k9": "NaN"}
    steps = {range_of(0.0, 1.0): [PlanOption(EXACT, 12.0 * count + 30.0, 0.0)]}
    measured = SimpleNamespace(options=options, every=options, steps=steps, dropped=dropped, times=[50.0, 60.0, 55.0],
                               peak=None, memory=0)  # fmt: skip
    return measured, choose_whole(options, steps, 0.05)
