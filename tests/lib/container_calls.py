"""Calls whose q, k and v lie in containers, as newer hosts make them."""

from __future__ import annotations

import pytest
import torch
from kitchen_library import Library
from newer_host import HEADS, SLOT, Container, attention_exact, newer
from open_limits import open_limits

from attention.backends import kitchen, registry
from attention.backends.spec import Backend
from attention.routing.router import Router
from attention.routing.rules import GUARD_OFF, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT


class Watched(Library):
    """Also counts its stages, and looks when the second begins which of `watch` is still in memory."""

    def __init__(self, fails=""):
        super().__init__(fails)
        self.stages, self.watch, self.held = [], [], None

    def int8_attention(self, *tensors, **kw):
        self.stages.append("whole")
        if self.fails == "whole":
            raise torch.OutOfMemoryError("no memory for the whole")
        return super().int8_attention(*tensors, **kw)

    def prequantize_int8_attention(self, *tensors, **kw):
        self.stages.append("first")
        return super().prequantize_int8_attention(*tensors, **kw)

    def int8_attention_from_prequantized(self, packed):
        self.stages.append("second")
        self.held = [ref() is not None for ref in self.watch]
        if self.fails == "second":
            raise torch.OutOfMemoryError("no memory for the output")
        out = super().int8_attention_from_prequantized(packed)
        return out[..., :-1] if self.fails == "shape" else out


@pytest.fixture
def install(monkeypatch):
    """install(fails, **limits): a Watched library behind our adapter, as the backend "test"."""

    def add(fails="", **limits):
        library = Watched(fails)
        kernel = kitchen.kernel(library)
        monkeypatch.setitem(
            registry._BY_NAME, "test", Backend("test", "A test's.", open_limits(**limits), lambda: kernel)
        )
        monkeypatch.setitem(registry._LOADED, "test", kernel)
        return library

    return add


def draw(split=False, dtype=torch.float32):
    shape = (2, HEADS, 8, 16) if split else (2, 8, HEADS * 16)
    return [torch.randn(shape).to(dtype) for _ in range(3)]


def make(previous=None, host=None, **rule):
    """A Router as a node makes it, on the stand-in host."""
    return Router((Rule(**{"backend": "test", "guard": GUARD_OFF, **rule}),), previous, host or newer(attention_exact))


def counted():
    """A RunStats as in an evaluation of the model that is made again should a kernel lose its inputs."""
    stats = RunStats()
    stats.history.may_consume = True
    return stats


def call(router, tensors, stats=None, **kw):
    """One call as a model of a newer host makes it: (output, containers)."""
    options = {SLOT: router, CONTEXT: (counted() if stats is None else stats).context}
    containers = [Container(t) for t in tensors]
    return newer(attention_exact)(*containers, HEADS, transformer_options=options, **kw), containers


def decision_of(stats):
    (decision,) = stats.decisions.values()
    return decision
