"""Devices that tests run on. What needs a GPU has the mark `gpu`, and is skipped where there is none."""

from __future__ import annotations

import pytest
import torch

NO_GPU = "no CUDA GPU here"
CUDA = pytest.param("cuda", marks=(pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)))
DEVICES = ("cpu", CUDA)
