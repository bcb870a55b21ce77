"""How long an attention output is kept, and how: what the node asks for, and what a plan may name."""

from __future__ import annotations

from dataclasses import dataclass

MODEL_DTYPE, EIGHT_BIT = "model dtype", "8 bit"
STORAGES = (MODEL_DTYPE, EIGHT_BIT)
# More steps than these are no longer near to each other.
MOST_STEPS = 16


@dataclass(frozen=True)
class ReuseSettings:
    """Says how long an attention output is kept and given again instead of attending anew.

    Pyramid Attention Broadcast, https://arxiv.org/abs/2408.12588: from step to step attention's outputs change little.

    every: steps from one that attends to the next that does: 2 attends in each second step, 3 in each third; 1 in all.
    budget: MiB of outputs that are kept at most, on each device. What has no room attends in every step.
    storage: MODEL_DTYPE keeps outputs as they are, EIGHT_BIT as whole numbers of 8 bits, each token and head with a
        scale of its own.
    offload: whether they lie in the computer's memory and not in the GPU's.
    """

    every: int = 2
    budget: int = 2048
    storage: str = MODEL_DTYPE
    offload: bool = False

    def __post_init__(self):
        if not 1 <= self.every <= MOST_STEPS:
            raise ValueError(f"every: {self.every} must lie between 1 and {MOST_STEPS} steps.")
        if self.budget < 1:
            raise ValueError(f"budget: {self.budget} MiB is less than 1.")
        if self.storage not in STORAGES:
            raise ValueError(f"storage: {self.storage!r} is none of {', '.join(STORAGES)}.")

    @property
    def label(self) -> str:
        """Say what it asks for, in a word or two."""
        return f"reuse every {self.every} steps"
