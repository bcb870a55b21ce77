"""Backends that fail, put into the table for one test, and calls through a router."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from open_limits import open_limits
from stand_in_host import exact, host

from attention.backends import registry
from attention.backends.spec import Backend
from attention.core.site import SELF, SITE, AttentionSite
from attention.core.tokens import Tokens
from attention.routing.router import Router
from attention.routing.rules import Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

SITE_0, TOKENS = AttentionSite("LTXV", SELF, 0), Tokens((4, 2, 3))


@pytest.fixture
def add(monkeypatch):
    """add(kernel): the backend "test" runs it, and is the only one that `auto` knows."""

    def adds(kernel, **row):
        made = Backend("test", "A test's.", open_limits(), lambda: kernel, **row)
        monkeypatch.setitem(registry._BY_NAME, "test", made)
        monkeypatch.setitem(registry._LOADED, "test", kernel)
        monkeypatch.setattr(registry, "TABLE", (made,))
        monkeypatch.setattr("attention.backends.autotune._CHOSEN", {})
        return kernel

    return adds


def draw(layout="plain", kv=2, length=24):
    """q, k, v in memory as models have them: (B, L, H*D)."""
    q, k, v = torch.randn(2, length, 32), torch.randn(2, length, 16 * kv), torch.randn(2, length, 16 * kv)
    if layout == "packed":
        return list(torch.cat([q, k, v], dim=-1).split([32, 16 * kv, 16 * kv], dim=-1))
    return [q, q, q] if layout == "one tensor" else [q, k, v]


def run(tensors, rule=None, stats=None, mask=None, site=SITE_0, own=host):
    options = {CONTEXT: (stats or RunStats()).context.but(tokens=TOKENS), SITE: site}
    return router_of(rule or Rule("test"))(own, *tensors, 2, mask, transformer_options=options)


@cache
def router_of(rule):
    return Router((rule,))


def only(stats):
    (decision,) = stats.decisions.values()
    return decision


def exactly(q, k, v, mask=None):
    return exact(q, k, v).to(q.dtype)
