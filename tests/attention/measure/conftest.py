"""The measures are tested with this pack's own flow, whether OpenCV is installed here or not."""

from __future__ import annotations

import sys

import pytest

from attention.measure import opencv_flow


@pytest.fixture(autouse=True)
def without_opencv(request, monkeypatch):
    if "opencv" in request.node.path.name:
        yield
        return
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv_flow.load.cache_clear()
    yield
    opencv_flow.load.cache_clear()
