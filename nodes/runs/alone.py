"""What one candidate does to the final latent when it runs in one part of the model alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...attention.core.reason import Reason
from ...attention.guidance.strength import CROSS_FRAME
from ...attention.plans.calibrate import PlanPart
from ...attention.plans.plan import Candidate
from .repeated_sampling import Sampling, distance


@dataclass(frozen=True)
class Alone:
    """One sampling with a candidate in one part.

    error: relative L2 of the final latent.
    chosen: part of the calls that may keep chosen blocks in which they were chosen anew; 1 where none may.
    """

    error: float
    chosen: float = 1.0


def measure(sampling: Sampling, part: PlanPart, candidate: Candidate, exact) -> Alone | Reason:
    """Samples with this candidate in this part alone, once; a Reason where it is out.

    exact: the latent that it is compared with.
    """

    def sample() -> Alone | Reason:
        latent, report = sampling.run((candidate.rule(part.role, (part.blocks,), part.start, part.end),))
        # Emphasis that cannot be had for such calls is left out of the exact run as well.
        fell = (why for _, wanted, why in report.fallbacks if wanted != CROSS_FRAME)
        reason, error = next(fell, None), distance(latent, exact)
        reason = reason or ("NaN or Inf in the latent" if error == math.inf else None)
        reason = reason or ("nothing was kept" if candidate.reuse is not None and not error else None)
        choices = report.coverage
        chosen = choices.chosen / choices.asked if choices is not None and choices.asked else 1.0
        return Reason(reason) if reason else Alone(error, chosen)

    return sampling.once((candidate, part), sample)
