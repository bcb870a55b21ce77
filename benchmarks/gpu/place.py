"""Where it is measured: a GPU, or in a dry run this CPU with tiny calls, which must go every way that the GPU goes.

A dry run pretends to the choice of kernels that calls are on a GPU, so that ours are taken, which Triton's interpreter
then runs. Kernels that need a GPU for themselves are told to be missing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from attention.backends import own_triton, registry
from attention.core.geometry import Geometry, describe
from attention.core.reason import Reason
from attention.core.tokens import BOTH, VideoSpan
from attention.routing import decide
from attention.sparse import engine_registry, flex

from ..attention import machine
from ..inputs import draw
from ..shapes import Shape
from . import plan
from .float8_rounding import round_to_float8

OURS = (own_triton.INT8.name, own_triton.HALF.name, own_triton.FLOAT8.name)
# What the dry run pretends to be; Triton's interpreter multiplies no bfloat16.
PRETENDED = {"device": "cuda", "dtype": torch.bfloat16, "capability": (9, 0)}
NOT_DRY = Reason("not in a dry run: it needs a GPU, or compiles for long")
DRY_HEADS = 1


@dataclass(frozen=True)
class Place:
    """A device to measure at.

    device: where tensors are.
    dtype: of q, k and v.
    dry: whether this is a dry run.
    machine: its name.
    """

    device: torch.device
    dtype: torch.dtype
    dry: bool
    machine: str

    @classmethod
    def gpu(cls) -> Place:
        """Take the first CUDA device. RuntimeError where there is none."""
        if not torch.cuda.is_available():
            raise RuntimeError("this needs a CUDA GPU; --dry goes through everything without one")
        device = torch.device("cuda", 0)
        registry.load_all()
        return cls(device, torch.bfloat16, False, machine(device))

    @classmethod
    def dry_one(cls) -> Place:
        """Take the CPU, and pretend; this process is for a dry run from now on."""
        from triton.runtime import interpreter

        torch.set_num_threads(1)
        for name in registry.names():
            if name not in OURS and (name == flex.FLEX.name or not registry.get(name).limits.runs_on("cpu")):
                registry._LOADED[name] = NOT_DRY
        interpreter._convert_float = round_to_float8(interpreter._convert_float)
        # The router asks by this name.
        decide.describe = lambda *tensors, **how: pretended(describe(*tensors, **how))
        device = torch.device("cpu")
        return cls(device, torch.float16, True, machine(device))

    @property
    def heads(self) -> int:
        """H of the calls."""
        return DRY_HEADS if self.dry else plan.HEADS

    def shape(self, tokens: int, head_dim: int, heads: int | None = None) -> Shape:
        """Give the call of so many tokens; a tiny one in a dry run."""
        grid = plan.DRY_GRID if self.dry else plan.GRIDS[tokens]
        return Shape(f"{tokens} x {head_dim}", grid, self.heads if self.dry else heads or self.heads, head_dim)

    def draw(self, shape: Shape) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw fresh q, k, v: (1, H, L, D)."""
        return draw(shape, self.device, self.dtype)

    def geometry(self, *tensors) -> Geometry:
        """Describe a call as those who choose kernels are told it."""
        found = describe(*tensors)
        return pretended(found) if self.dry else found

    def why_not(self, name: str, *tensors) -> Reason | None:
        """Say why a backend does not run such a call here; None: it does."""
        return registry.why_not(name, self.geometry(*tensors))

    def span(self, grid) -> VideoSpan:
        """Say where the video is: everywhere."""
        return VideoSpan(grid, 0, BOTH)

    def runner(self, pattern, engine: str, grid, *tensors):
        """Give the Runner of a pattern on an engine, or why there is none."""
        if self.dry and engine == flex.FLEX.name:
            return NOT_DRY
        found = engine_registry.runners(pattern, self.span(grid), self.geometry(*tensors), engine=engine)
        return found if isinstance(found, Reason) else found[0]


def pretended(geometry: Geometry) -> Geometry:
    """Give the same call as on a Hopper GPU."""
    return replace(geometry, **PRETENDED)
