"""What is remembered: the newest, each key by itself, and no tensor of somebody else's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attention.forecast import CHEBYSHEV, TAYLOR, ForecastSettings
from attention.forecast.history import History
from attention.forecast.memory import bytes_of, in_words, remembered

PAGE = Path(__file__).parents[3] / "web" / "docs" / "VideoAttentionForecast.md"


def settings(**more) -> ForecastSettings:
    return replace(ForecastSettings(), **more)


def full(value: float, shape=(2, 3), dtype=torch.float32):
    return (torch.full(shape, value, dtype=dtype),)


def test_keys_are_apart():
    history = History(settings(degree=1))
    for time in range(3):
        history.push("cond", time, full(time))
        history.push("uncond", time, full(-2.0 * time))
    assert history.forecast("cond", 4)[0].eq(4.0).all() and history.forecast("uncond", 4)[0].eq(-8.0).all()


@pytest.mark.parametrize("method, kept", [(TAYLOR, 3), (CHEBYSHEV, 4)])
def test_what_is_remembered_is_bounded_and_as_was_said(method, kept):
    asked = settings(method=method, degree=2, history=4)
    history = History(asked)
    assert remembered(asked) == kept
    for time in range(9):
        assert history.is_ready("a") == (time >= 3)
        history.push("a", time, full(time, (1, 10, 16), torch.bfloat16))
    assert history.size == bytes_of(asked, 10, 16, 2) == kept * 10 * 16 * 2


def test_a_short_history_is_ready_when_it_is_full():
    history = History(settings(method=CHEBYSHEV, degree=3, history=2))
    history.push("a", 0, full(1.0))
    assert not history.is_ready("a")
    history.push("a", 1, full(1.0))
    assert history.is_ready("a")


def test_the_same_time_again_replaces():
    history = History(settings(degree=1))
    for time, value in ((0, 0.0), (1, 9.0), (1, 1.0)):
        history.push("a", time, full(value))
    assert history.forecast("a", 3)[0].eq(3.0).all()


def test_what_is_remembered_is_nobody_elses():
    history, whole = History(settings(degree=0)), torch.zeros(2, 50)
    history.push("a", 0, (whole[:, 10:20],))
    whole.fill_(7.0)
    (made,) = history.forecast("a", 1)
    assert made.eq(0).all() and history.size == 2 * 10 * 4
    made.fill_(5.0)
    assert history.forecast("a", 1)[0].eq(0).all()


def test_streams_are_apart():
    history = History(settings(degree=1))
    for time in range(2):
        history.push("a", time, (*full(time, (2, 3)), *full(10.0 * time, (1, 5))))
    video, sound = history.forecast("a", 2)
    assert video.shape == (2, 3) and video.eq(2.0).all() and sound.shape == (1, 5) and sound.eq(20.0).all()


def test_old_keys_are_forgotten():
    history = History(settings(degree=0))
    history.push("gone", 1, full(1.0))
    history.push("here", 8, full(1.0))
    history.forget(before=5)
    assert not history.is_ready("gone") and history.is_ready("here")
    history.forget()
    assert not history.size


def test_sizes_in_words():
    assert [in_words(size) for size in (2**19, 774_144_000, 4 * 774_144_000)] == ["0.5 MiB", "738 MiB", "2.9 GiB"]


@pytest.mark.parametrize(
    "row, tokens, channels",
    [("MiniMax-H3", 37 * 24 * 42, 5376), ("Wan 2.1 and 2.2 14B", 21 * 45 * 80, 5120), ("LTX-2", 16 * 34 * 60, 4096)],
)
def test_the_help_page_says_what_it_takes(row, tokens, channels):
    size = in_words(bytes_of(settings(degree=1), tokens, channels, 2, prompts=2))
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {row} |")]
    assert line.endswith(f"| {tokens:,} x {channels:,} | {size} |")
