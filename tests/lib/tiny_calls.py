"""How many attention calls the tiny model of `lab` makes in a sampling."""

from __future__ import annotations

BLOCKS, ROLES, STEPS = 2, 2, 4
SLOT = "optimized_attention_override"
ALL_OURS = {("self", "sdpa"): BLOCKS * STEPS, ("cross", "sdpa"): BLOCKS * STEPS}
