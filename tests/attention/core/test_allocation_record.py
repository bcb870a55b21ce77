"""The host's record of allocations is paused once, however many ask for it."""

from __future__ import annotations

import contextlib

import pytest

from attention.core import allocation_record
from attention.core.allocation_record import record_paused


@pytest.fixture
def pauses(monkeypatch):
    """What a host's own pause does, in its order."""
    done = []

    @contextlib.contextmanager
    def pause():
        done.append("begin")
        try:
            yield
        finally:
            done.append("end")

    monkeypatch.setattr(allocation_record, "_pause", pause)
    return done


def test_a_pause_within_a_pause_ends_with_the_outer_one(pauses):
    with record_paused():
        with record_paused():
            assert pauses == ["begin"]
        assert pauses == ["begin"]
    assert pauses == ["begin", "end"]
    with record_paused():
        pass
    assert pauses == ["begin", "end"] * 2


def test_an_error_ends_it(pauses):
    with pytest.raises(KeyError), record_paused():
        raise KeyError
    assert pauses == ["begin", "end"]
    with record_paused():
        assert pauses[-1] == "begin"
