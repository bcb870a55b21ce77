"""Memory of kept attention outputs: what is kept and counted, what has no room, and that nothing of it stays."""

from __future__ import annotations

import gc

import pytest
import torch
from forecasting import equal, records, sampled
from reusing import Watched, by_step, counted, reuse
from tiny import plain

CASE = plain()["Wan"]


@pytest.fixture(scope="module")
def model(pack):
    return CASE.build()


@pytest.fixture
def kept(pack, monkeypatch):
    """Every KeptOutput that is made in a test."""
    found, kind = [], pack.attention.reuse.store.KeptOutput

    def make(*args):
        found.append(kind(*args))
        return found[-1]

    monkeypatch.setattr(pack.attention.reuse.store, "KeptOutput", make)
    return found


def test_two_experts_have_their_own(pack, model, inference, kept):
    from studio import Studio

    studio = Studio(pack, CASE)
    high, low = reuse(pack, studio.model), reuse(pack, studio.model.clone())
    with records(pack) as found:
        studio.two(high=high, low=low, steps=12, switch_step=6)
    first, second = found
    assert [bool(calls) for calls in by_step(first)] == [bool(calls) for calls in by_step(second)] == [False, True] * 3
    assert len(kept) == 4


@pytest.mark.parametrize("storage", ["model dtype", "8 bit"])
def test_what_is_kept_is_counted_and_goes_with_the_run(storage, pack, model, inference, kept):
    import weakref

    _, report = sampled(pack, reuse(pack, model, storage=storage), CASE)
    width, heads = model.model.diffusion_model.dim, model.model.diffusion_model.num_heads
    size = 36 * (4 * width if storage == "model dtype" else width + 4 * heads)
    assert [one.size for one in kept] == [size] * 2
    assert ("Eight bits differ by" in " ".join(report.notes)) == (storage == "8 bit")
    alive = [weakref.ref(one._data) for one in kept]
    kept.clear()
    gc.collect()
    assert not any(ref() is not None for ref in alive)


def test_what_has_no_room_attends(pack, inference, kept, monkeypatch):
    model = CASE.build()
    monkeypatch.setattr(pack.attention.reuse.store, "MIB", 36 * 4 * model.model.diffusion_model.dim)
    watched = Watched(pack, reuse(pack, model, budget=1))
    _, report = sampled(pack, watched.model, CASE)
    assert by_step(report) == [0, 1] * 4 and len(kept) == 1
    (row,) = [row for row in report.rows if row.used == "kept output"]
    assert row.blocks == {0} and any("7 outputs had no room" in note for note in report.notes), report.notes


@pytest.mark.parametrize("where", ["put", "give", "make"])
def test_no_memory_ends_it_and_not_the_render(where, pack, model, inference, monkeypatch):
    kind, calls = pack.attention.reuse.kept_output.KeptOutput, []

    def fails(*args):
        calls.append(1)
        raise torch.OutOfMemoryError("no memory")

    exact, _ = sampled(pack, model, CASE)
    name = {"put": "put", "give": "give", "make": "__init__"}[where]
    monkeypatch.setattr(kind, name, fails)
    out, report = sampled(pack, reuse(pack, model), CASE)
    assert equal(out, exact) and len(calls) == 1 and counted(report)[0] == 0
    assert any("From there on all attended" in note and "no memory" in note for note in report.notes)


def test_an_interrupt_leaves_nothing(pack, model, inference, kept):
    import weakref

    import comfy.model_management as host

    patched = reuse(pack, model)
    good, _ = sampled(pack, patched, CASE)

    def stop(step, *args):
        if step == 3:
            raise host.InterruptProcessingException()

    kept.clear()
    with pytest.raises(host.InterruptProcessingException):
        sampled(pack, patched, CASE, callback=stop)
    assert kept
    alive = [weakref.ref(one._data) for one in kept]
    kept.clear()
    gc.collect()
    assert not any(ref() is not None for ref in alive)
    assert equal(sampled(pack, patched, CASE)[0], good)
