"""The operator that stands for a router in a graph of torch.compile: which calls it may stand for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from attention.core.reference import scaled_dot_product_attention
from attention.core.site import CALLER
from attention.routing import compiled_op
from attention.routing.attention_call import AttentionCall
from attention.routing.router import Router


@pytest.mark.parametrize("wants", [None, "q", "k", "v"])
def test_what_is_trained_is_not_left_to_the_operator(wants):
    """It has no backward: with a gradient to come, torch.compile must see the router's own calls."""
    tensors = {name: torch.randn(1, 4, 16, requires_grad=name == wants) for name in "qkv"}
    router = Router(())
    options = {compiled_op.SLOT: router, CALLER: SimpleNamespace(live=True, tag=None)}
    call = AttentionCall(scaled_dot_product_attention, **tensors, heads=2, kw={compiled_op.OPTIONS: options})
    with torch.enable_grad():
        assert compiled_op.can_trace(router, call) == (wants is None)
    with torch.no_grad():
        assert compiled_op.can_trace(router, call)
