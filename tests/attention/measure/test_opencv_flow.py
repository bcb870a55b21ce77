"""OpenCV's flow where it can be imported, by a stand-in that answers as OpenCV does, and whatever is wrong with it."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from clips_made import HEIGHT, WIDTH, make_pan

from attention.measure import opencv_flow, temporal


@pytest.fixture
def install(monkeypatch):
    """Puts a cv2 in place whose flow is what a function gives for two pictures of 8 bits; None: there is no cv2."""

    def put(calc):
        cv2 = types.ModuleType("cv2")
        cv2.DISOPTICAL_FLOW_PRESET_MEDIUM = 2
        cv2.DISOpticalFlow_create = lambda preset: types.SimpleNamespace(calc=lambda a, b, flow: calc(a, b))
        monkeypatch.setitem(sys.modules, "cv2", cv2 if calc else None)
        opencv_flow.load.cache_clear()

    there = sys.modules.get("cv2")
    yield put
    monkeypatch.undo()
    sys.modules.pop("cv2", None)
    sys.modules.update({} if there is None else {"cv2": there})
    opencv_flow.load.cache_clear()


def constant(columns, rows):
    return lambda first, second: np.broadcast_to(np.float32([columns, rows]), (*first.shape, 2))


def luma(frame):
    return frame.mean(-1)[None, None]


def test_its_flow_is_taken(install):
    seen = []

    def calc(first, second):
        seen.append((first, second))
        return constant(3, -2)(first, second)

    install(calc)
    estimate, clip = opencv_flow.FlowEstimator(), make_pan(3, -2, 2)
    found = estimate(luma(clip[0]) * 0.1, luma(clip[1]) * 0.1)
    assert found.shape == (1, 2, HEIGHT, WIDTH) and (found == torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)).all()
    assert estimate.name == "OpenCV DIS" and estimate.notes == []
    # Of a dark clip all 8 bits are used, of both pictures alike.
    first, second = seen[0]
    assert first.dtype == np.uint8 and min(first.min(), second.min()) == 0 and max(first.max(), second.max()) == 255


@pytest.mark.parametrize(
    "calc, words",
    [
        (lambda a, b: 1 / 0, "division by zero"),
        (lambda a, b: constant(np.nan, 0)(a, b), "not finite"),
        (lambda a, b: constant(0, 0)(a[1:], b), "another size"),
        (lambda a, b: None, ""),
    ],
)
def test_a_failure_is_counted_and_our_own_flow_taken(install, calc, words):
    install(None)
    clip = make_pan(3, -2, 4)
    own = temporal.measure_clip(clip)
    install(calc)
    found = temporal.measure_clip(clip)
    assert found.figures == pytest.approx(own.figures, nan_ok=True) and own.notes == ()
    assert (
        len(found.notes) == 1
        and found.notes[0].startswith("OpenCV failed in 6 of 6 searches")
        and words in found.notes[0]
    )
    assert found.title == own.title and "flow by Lucas-Kanade" in own.title


def test_one_failure_leaves_the_others(install):
    calls = iter(range(9))
    install(lambda a, b: constant(0, 0)(a, b) if next(calls) != 1 else 1 / 0)
    found = temporal.measure_clip(make_pan(0, 0, 3))
    assert "OpenCV failed in 1 of 4 searches" in " ".join(found.notes) and "flow by OpenCV DIS" in found.title


def test_small_frames_are_our_own(install):
    install(lambda a, b: 1 / 0)
    assert opencv_flow.SMALLEST > 12
    found = temporal.measure_clip(make_pan(1, 0, 3)[:, :12])
    assert not any("OpenCV" in note for note in found.notes)


@pytest.mark.parametrize(
    "text, words",
    [
        ("raise RuntimeError('module compiled against ABI version 2')", "cannot be imported (module compiled"),
        ("import no_such_numpy_part", "cannot be imported (No module named"),
        ("DISOPTICAL_FLOW_PRESET_MEDIUM = 2", "cannot be imported (module 'cv2' has no attribute"),
        ("raise SystemError", "cannot be imported (SystemError)"),
    ],
)
def test_a_broken_opencv_is_said_and_harmless(install, monkeypatch, tmp_path, text, words):
    (tmp_path / "cv2.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("cv2", None)
    opencv_flow.load.cache_clear()
    found = temporal.measure_clip(make_pan(2, 1, 3))
    assert words in found.notes[0] and found.notes[0].endswith("the flow is this pack's own.")


def test_the_real_one_follows_a_pan():
    pytest.importorskip("cv2", exc_type=ImportError)
    opencv_flow.load.cache_clear()
    clip = make_pan(3, -2, 2)
    estimate = opencv_flow.FlowEstimator()
    found = estimate(luma(clip[0]), luma(clip[1]))
    inner = found[:, :, 10:-10, 10:-10]
    assert (inner - torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)).norm(dim=1).mean() < 0.3
    assert estimate.name == "OpenCV DIS" and estimate.notes == []
