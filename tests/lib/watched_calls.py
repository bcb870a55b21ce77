"""Calls that maps look at."""

from __future__ import annotations

from math import prod

import torch

from attention.core.site import SELF, SITE, AttentionSite
from attention.core.tokens import Span, Tokens
from attention.routing.step_context import CONTEXT, StepContext

GRID, TEXT = (3, 4, 5), 7
JOINT = Tokens(GRID, prefix=(Span("text", TEXT),), suffix=(Span("reference", 4),))
LENGTH = TEXT + prod(GRID) + 4


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def options(tokens=JOINT, role=SELF, block=0, **more):
    return {SITE: AttentionSite("Test", role, block), CONTEXT: StepContext(tokens=tokens), **more}


def host(q, k, v, heads, **kw):
    return v
