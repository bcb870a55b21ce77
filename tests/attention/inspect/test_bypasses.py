"""Calls that rules left alone since nothing tells whose they are."""

from __future__ import annotations

import pytest
import torch

from attention.inspect.bypasses import untold
from attention.patterns.spatial import Spatial
from attention.routing.router import Router
from attention.routing.rules import Rule, Shape

EVERYWHERE, SOME_BLOCKS, PATTERN = Rule("reference"), Rule("sdpa", blocks=((1, 1),)), Rule(shape=Shape(Spatial()))


@pytest.mark.parametrize("calls", [1, 2])
def test_a_kernel_for_all_blocks_leaves_no_call_alone(calls):
    """It needs no announcement; a rule for blocks does, and a pattern where the model announces its calls."""
    router = Router((EVERYWHERE, SOME_BLOCKS, PATTERN))
    for _ in range(calls):
        router(lambda *args, **kwargs: args[2], *[torch.randn(1, 6, 8)] * 3, 2, transformer_options={})
    (known,), (unknown,) = untold(router.stats, True), untold(router.stats, False)
    verb = "1 attention call" if calls == 1 else "2 attention calls"
    assert known.startswith(f"{verb} told nothing of ") and known.endswith(": backend sdpa, pattern spatial.")
    assert unknown.startswith(f"{verb} told no block") and unknown.endswith(": backend sdpa.")
    assert (" was left alone" in unknown) == (calls == 1)
    plain = Router((EVERYWHERE,))
    plain(lambda *args, **kwargs: args[2], *[torch.randn(1, 6, 8)] * 3, 2, transformer_options={})
    assert untold(plain.stats, True) == ()
