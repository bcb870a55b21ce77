"""torch.compile around a model, and how many graphs it made."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo.utils


@pytest.fixture
def compiled(lab):
    """Compiles as ComfyUI's TorchCompileModel node does, with its guard filter."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()

    def compile(model, backend="eager", **more):
        patched = model.clone(disable_dynamic=True)
        keep = {"guard_filter_fn": lambda entries: ["transformer_options" not in entry.name for entry in entries]}
        set_torch_compile_wrapper(patched, backend=backend, options=keep, **more)
        return patched

    yield compile
    torch._dynamo.reset()


def broken_at() -> list[str]:
    """What broke a graph since the compiler was reset."""
    return list(torch._dynamo.utils.counters["graph_break"])


def graphs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]
