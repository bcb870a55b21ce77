"""How the fastest engine of a pattern is chosen: right under its mask, within the bound, once, and never by chance."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from attention import patterns as p
from attention.backends.autotune import HOST_RUN
from attention.core.geometry import describe
from attention.core.reference import scaled_dot_product_attention
from attention.core.tokens import BOTH, Span, VideoSpan
from attention.sparse import autotune, engine_registry

GRID, TEXT = (4, 6, 5), 7
PLACE = VideoSpan(GRID, TEXT, BOTH, (Span("text", TEXT),))


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(autotune, "_CHOSEN", {})


def ask(pattern, tensors, engines=None, max_error=0.02, seconds=None, monkeypatch=None, video_span=PLACE):
    """fastest() among the engines that accept, each taking the stated seconds."""
    found = engine_registry.runners(pattern, video_span, describe(*tensors))
    found = tuple(engines(found)) if engines else found
    if seconds is not None:
        monkeypatch.setattr(
            autotune, "time_in_turns", lambda runs, device: {name: seconds.get(name, 9.0) for name in runs}
        )
    return autotune.fastest_engine(
        ("key",), found, lambda kernel: kernel(*tensors), lambda: None, lambda: tensors, max_error
    )


def tensors(seed=0, tokens=TEXT + 120, heads=3, kv_heads=3):
    torch.manual_seed(seed)
    return tuple(torch.randn(1, n, tokens, 16) for n in (heads, kv_heads, kv_heads))


@pytest.mark.parametrize("kv_heads", [1, 3])
@pytest.mark.parametrize("pattern", [p.Spatial(), p.Factorised(0.3), p.Radial(50, step=5), p.TemporalWindow(2)])
def test_the_truth_is_attention_under_the_mask(pattern, kv_heads):
    """Every engine is exact, so each error is rounding: the sample's rows, heads and mask are the pattern's."""
    _, found, fresh = ask(pattern, tensors(kv_heads=kv_heads))
    assert fresh and found.trials[0].name == HOST_RUN and len(found.trials) >= 2
    assert all(trial.reason is None and trial.error < 1e-5 for trial in found.trials[1:])


@pytest.mark.parametrize(
    ("seconds", "winner"),
    [
        ({"folded": 5.0, "slabs": 1.0, "tiles": 2.0}, "slabs"),
        ({"folded": 1.02, "slabs": 1.0, "tiles": 1.0}, "folded"),  # within noise: the first of the table
        ({"folded": float("inf"), "slabs": 3.0, "tiles": 2.0}, "tiles"),
    ],
)
def test_the_fastest_wins_beyond_noise(seconds, winner, monkeypatch):
    runner, found, _ = ask(p.Spatial(), tensors(), seconds=seconds, monkeypatch=monkeypatch)
    assert runner.label == found.winner == winner


def test_a_choice_is_remembered_for_its_geometry(monkeypatch):
    first, *_ = ask(p.Spatial(), tensors(), seconds={"slabs": 1.0}, monkeypatch=monkeypatch)
    again, _, fresh = ask(p.Spatial(), tensors(1), seconds={"tiles": 1.0}, monkeypatch=monkeypatch)
    assert not fresh and again == first
    other, _, fresh = ask(p.Spatial(), tensors(), max_error=0.5, seconds={"tiles": 1.0}, monkeypatch=monkeypatch)
    assert fresh and other.label == "tiles"


def spoilt(runs):
    """An engine that answers with `runs(video, ...)` instead of the first one."""

    def change(found):
        weight, task, engine = found[0].parts[0]
        wrong = replace(engine, name="wrong", run=runs)
        return (replace(found[0], parts=((weight, task, wrong),)), *found)

    return change


def writes(video, *_):
    video[1].mul_(0.5)
    return video[0].clone()


def fails(*_):
    raise MemoryError("too large")


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        (lambda video, *_: scaled_dot_product_attention(*video), "error .* is above 0.02"),
        (writes, "it writes into its inputs"),
        (fails, "MemoryError: too large"),
        (lambda video, *_: video[0] * float("nan"), "error nan is above"),
    ],
)
def test_an_engine_that_is_wrong_is_out(runs, reason, monkeypatch):
    given = tensors()
    before = [t.clone() for t in given]
    runner, found, _ = ask(p.Spatial(), given, spoilt(runs), seconds={"wrong": 0.1}, monkeypatch=monkeypatch)
    (trial,) = (trial for trial in found.trials if trial.name == "wrong")
    assert re.match(reason, trial.reason) and runner.label != "wrong"
    assert all(torch.equal(a, b) for a, b in zip(given, before))
    with pytest.raises(ValueError, match="^wrong: "):
        ask(p.Spatial(), given, lambda found: spoilt(runs)(found)[:1], monkeypatch=monkeypatch)


def test_blocks_of_its_own_may_be_as_bad_as_the_exact_engine_and_the_bound(monkeypatch):
    """top blocks has no mask to be right under: what counts is dense attention."""
    pattern, given = p.TopBlocks(20, tail=True), tensors(tokens=TEXT + 640)
    video_span = replace(PLACE, grid=(10, 8, 8))

    def dense(video, context_kv, *_):
        keys = (torch.cat([t, s], dim=2) for t, s in zip(video[1:], context_kv))
        return scaled_dot_product_attention(video[0], *keys)

    for runs, fits in ((dense, True), (lambda video, *_: video[0] * 3.0, False)):
        autotune._CHOSEN.clear()
        change = spoilt(runs)
        _, found, _ = ask(pattern, given, change, video_span=video_span)
        wrong, exact = (next(t for t in found.trials if t.name == name) for name in ("wrong", "blocks"))
        assert exact.reason is None and exact.error > 0.02
        assert (wrong.reason is None) is fits


def test_the_percentages_of_one_ramp_share_a_choice(monkeypatch):
    """Another percentage of another ramp, or of none, is measured by itself."""
    took = []
    monkeypatch.setattr(autotune, "time_in_turns", lambda runs, device: took.append(1) or dict.fromkeys(runs, 1.0))

    def choose(keep, ramp):
        found = engine_registry.runners(p.TopBlocks(keep), PLACE, describe(*tensors()))
        answer = autotune.fastest_engine(
            ("key",), found, lambda kernel: kernel(*tensors()), lambda: None, tensors, 0.02, None, ramp
        )
        assert answer[0].parts[0][1].pattern.keep == keep
        return answer[2]

    assert [choose(keep, "one") for keep in (50.0, 40.0, 30.0)] == [True, False, False] and len(took) == 1
    assert choose(40.0, "other") and choose(40.0, None) and choose(30.0, None) and len(took) == 4
