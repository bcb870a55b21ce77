"""Fixtures that several files of this room take."""

import sys

import prompts
import pytest
from compiling import compiled  # noqa: F401


@pytest.fixture(scope="module", autouse=True)
def no_dead_models():
    """Takes models whose patcher is gone off ComfyUI's list behind each file.

    Where a test still holds such a model, ComfyUI collects all garbage of this process at each load: seconds each.
    """
    yield
    management = sys.modules.get("comfy.model_management")
    if management is not None:
        loaded = management.current_loaded_models
        loaded[:] = [model for model in loaded if not model.is_dead()]


@pytest.fixture
def queue(pack, tiny_ltxv, monkeypatch):
    """A prompts.Queue for the tiny model: nothing is known of runs before."""
    return prompts.Queue(pack, tiny_ltxv, monkeypatch)
