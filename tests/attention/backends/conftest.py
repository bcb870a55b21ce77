"""Fixtures that several files of this room take."""

from __future__ import annotations

import pytest

from attention.backends import registry, sage


@pytest.fixture
def all_loaded(monkeypatch):
    """Every backend loads, and SageAttention is version 2."""
    monkeypatch.setattr(sage, "major_version", lambda: 2)
    for name in registry.names():
        monkeypatch.setitem(registry._LOADED, name, lambda q, k, v, mask=None, scale=None: q)
