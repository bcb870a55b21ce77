"""What a backend is: a name, how to load it, and which calls it refuses and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from ..core.chunks import output_bytes
from ..core.error_handling import error_message
from ..core.geometry import Geometry
from ..core.kernel import Kernel
from ..core.reason import Reason

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
HALVES = (torch.float16, torch.bfloat16)
ANY, POSITIVE, DEFAULT = "any", "positive", "1 / sqrt(head size)"
# Limits.devices of a kernel made of torch's own operations alone. No device at all is an empty tuple.
EVERY_DEVICE = (ANY,)
# Limits.amd: what the names of architectures begin with. Instinct MI200 to MI350; Radeon RX 7000, Ryzen AI, RX 9000.
CDNA, RDNA, EVERY_AMD = ("gfx90a", "gfx942", "gfx950"), ("gfx110", "gfx115", "gfx120"), ("gfx",)

# CUDA launches at most this many blocks along the axes that kernels give to batch and heads; torch's own kernels and
# others' then fail with "invalid configuration argument" (https://github.com/pytorch/pytorch/issues/146704).
MAX_BLOCKS = 65535


class Unavailable(Exception):
    """A backend cannot be loaded here. The message says what is missing and how to get it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Holds what a kernel can take, as data: the refusals and the compatibility table both follow from it.

    The first four have no default: a row that leaves one out must not read as one that runs anywhere. There is no word
    of causal attention: ComfyUI's attention functions cannot ask for it.

    devices: torch's device types, "cuda" or "cpu"; EVERY_DEVICE where the kernel has no code for a device.
    dtypes: of q, k and v.
    masks: those of geometry.MASKS that it takes.
    exact: True without quantisation and approximation.
    head_dims: sizes of a head, a tuple or a range.
    head_dim_multiple: what a head's size must be a multiple of.
    gqa: whether k and v may have fewer heads than q.
    kv_multiple: what the number of keys must be a multiple of.
    scale: ANY, POSITIVE or DEFAULT.
    min_capability: CUDA compute capability (major, minor); checked on NVIDIA only.
    max_batch: largest batch; 0: any.
    max_batch_heads: largest batch times heads of queries; 0: any.
    max_scores: most scores (batch x heads x queries x keys) that it may hold at once, 4 bytes each; 0: it holds none.
    grad: whether a gradient comes back through it.
    useful_from: below this many keys `auto` passes the kernel by, since launching it costs more than it saves.
    amd: AMD's architectures that the library knows too, what their names begin with: CDNA, RDNA, EVERY_AMD or others.
    """

    devices: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    masks: tuple[str, ...]
    exact: bool
    head_dims: tuple[int, ...] | range = range(1, 1 << 16)
    head_dim_multiple: int = 1
    gqa: bool = True
    kv_multiple: int = 1
    scale: str = ANY
    min_capability: tuple[int, int] = (0, 0)
    max_batch: int = 0
    max_batch_heads: int = 0
    max_scores: int = 0
    grad: bool = True
    useful_from: int = 0
    amd: tuple[str, ...] = ()

    def runs_on(self, device: str) -> bool:
        """Tell whether the kernel has code for a device.

        device: torch's type of it, "cuda" or "cpu".
        """
        return self.devices == EVERY_DEVICE or device in self.devices

    def reasons(self, geometry: Geometry) -> Iterator[Reason]:
        """Yield every reason why a call is beyond these limits, the one that matters most first."""
        return filter(None, (check(self, geometry) for check in CHECKS))


def row_sums(geometry: Geometry) -> int:
    """Count what a fused kernel takes beside its output: a float32 for each query of each head."""
    return geometry.batch * geometry.heads * geometry.q_len * 4


def scores_of(geometry: Geometry) -> int:
    """Count the bytes of a whole matrix of scores in float32, or in the call's own wider dtype."""
    size = max(4, geometry.dtype.itemsize)
    return geometry.batch * geometry.heads * geometry.q_len * geometry.kv_len * size


def copies_of(geometry: Geometry, q: float, k: float, v: float) -> int:
    """Count the bytes of copies of q, k and v with so many bytes a number, and of a float32 for each query."""
    queries, keys = (
        geometry.batch * heads * length * geometry.head_dim
        for heads, length in ((geometry.heads, geometry.q_len), (geometry.kv_heads, geometry.kv_len))
    )
    return int(queries * q + keys * (k + v)) + row_sums(geometry)


@dataclass(frozen=True)
class Backend:
    """One row of the table.

    name: as the nodes' combos, plans and reports have it.
    summary: one sentence or two for a user: what it is, whether it is exact.
    limits: the calls it takes, as data.
    load: returns the Kernel, or raises Unavailable. Called when a node patches a model, never in a forward.
    other_reasons: yields what else is beyond the kernel, where Limits cannot say it. Asked on hardware that they allow.
    auto: whether `auto` may take it.
    promise: relative L2 error that counts as right, beside the rounding of the dtype, for a backend that `auto` takes
        only where Video Attention Benchmark has seen it right; 0: for any other.
    besides: what other_reasons looks at, in words, for the table of backends.
    scores: whether it holds the whole matrix of scores, queries by keys; None where another library decides that.
    scratch: bytes that a call without a mask takes beside q, k, v and its output, as far as its authors' code tells.
    library: what has to be installed for it, as its authors write it; empty where ComfyUI or torch brings it.
    install: how that is done, in words that can be typed or read.
    """

    name: str
    summary: str
    limits: Limits
    load: Callable[[], Kernel]
    other_reasons: Callable[[Geometry], Iterable[Reason]] | None = None
    auto: bool = True
    promise: float = 0.0
    besides: str = ""
    scores: bool | None = False
    scratch: Callable[[Geometry], int] = row_sums
    library: str = ""
    install: str = ""

    def takes(self, geometry: Geometry) -> int:
        """Return about how many bytes a call takes beside q, k and v: its output and what it holds meanwhile."""
        return output_bytes(geometry) + self.scratch(geometry)

    @property
    def by_queries(self) -> bool:
        """Tell whether fewer queries at a time take less of what it holds: where it may hold scores."""
        return self.scores is not False

    def refuses(self, geometry: Geometry) -> Reason | None:
        """Return the first reason why this backend cannot run the call, in a few words, or None."""
        return next(self._reasons(geometry), None)

    def reasons(self, geometry: Geometry) -> tuple[Reason, ...]:
        """Return all reasons why this backend cannot run the call; the first is the one that `refuses` gives."""
        return tuple(self._reasons(geometry))

    def _reasons(self, geometry: Geometry) -> Iterator[Reason]:
        yield from self.limits.reasons(geometry)
        if self.other_reasons is None or any(check(self.limits, geometry) for check in HARDWARE):
            return
        try:
            yield from self.other_reasons(geometry)
        except Exception as broken:
            yield cannot_be_asked(broken)


def reason_of(refuses: Callable[..., Reason | None], *asked) -> Reason | None:
    """Return refuses(*asked); where that raises, the reason is that nobody knows whether it would run."""
    try:
        return refuses(*asked)
    except Exception as broken:
        return cannot_be_asked(broken)


def cannot_be_asked(error: Exception) -> Reason:
    """Return the reason why a kernel stays out that fails when it is asked what it takes."""
    return Reason(f"it cannot be asked ({error_message(error)})")


def _device(limits: Limits, geometry: Geometry) -> Reason | None:
    if not limits.runs_on(geometry.device):
        return Reason(f"needs {' or '.join(limits.devices) or 'another device'}, the tensors are on {geometry.device}")
    return None if limits.devices == EVERY_DEVICE else other_amd(geometry, limits.amd)


def other_amd(geometry: Geometry, known: tuple[str, ...]) -> Reason | None:
    """Return why a kernel refuses a call on an AMD GPU, or None.

    known: as Limits.amd.
    """
    if geometry.amd is None or geometry.amd.startswith(known):
        return None
    if not known:
        return Reason(f"made for NVIDIA, this GPU is AMD's {geometry.amd}")
    return Reason(f"knows AMD's {', '.join(f'{name}*' for name in known)}, this GPU is {geometry.amd}")


def _exactness(limits: Limits, geometry: Geometry) -> Reason | None:
    if not limits.exact and (geometry.high_precision or not geometry.low_precision):
        return Reason("the model asks for exact attention here")
    return None


def _capability(limits: Limits, geometry: Geometry) -> Reason | None:
    if geometry.capability is None or geometry.capability >= limits.min_capability:
        return None
    need, have = (".".join(map(str, c)) for c in (limits.min_capability, geometry.capability))
    return Reason(f"needs compute capability {need}, this GPU has {have}")


def _dtype(limits: Limits, geometry: Geometry) -> Reason | None:
    if geometry.dtype in limits.dtypes:
        return None
    return Reason(f"dtype {_name(geometry.dtype)}, takes {', '.join(map(_name, limits.dtypes))}")


def _gradient(limits: Limits, geometry: Geometry) -> Reason | None:
    return Reason("no gradient") if geometry.grad and not limits.grad else None


def _empty(limits: Limits, geometry: Geometry) -> Reason | None:
    sizes = (geometry.batch, geometry.heads, geometry.q_len, geometry.kv_len, geometry.head_dim)
    return Reason("empty tensors") if 0 in sizes else None


def _head_dim(limits: Limits, geometry: Geometry) -> Reason | None:
    if geometry.head_dim in limits.head_dims and geometry.head_dim % limits.head_dim_multiple == 0:
        return None
    return Reason(f"head size {geometry.head_dim}, takes {head_dims_text(limits)}")


def _mask(limits: Limits, geometry: Geometry) -> Reason | None:
    return None if geometry.mask in limits.masks else Reason(f"{geometry.mask} mask")


def _grouped_heads(limits: Limits, geometry: Geometry) -> Reason | None:
    return Reason("grouped-query attention") if geometry.kv_heads != geometry.heads and not limits.gqa else None


def _key_length(limits: Limits, geometry: Geometry) -> Reason | None:
    if geometry.kv_len % limits.kv_multiple == 0:
        return None
    return Reason(f"key length {geometry.kv_len} is not a multiple of {limits.kv_multiple}")


def _scale(limits: Limits, geometry: Geometry) -> Reason | None:
    scale = geometry.scale
    if scale is None or limits.scale == ANY or (limits.scale == POSITIVE and scale > 0):
        return None
    if limits.scale == DEFAULT and abs(scale * geometry.head_dim**0.5 - 1) < 1e-6:
        return None
    return Reason(f"scale {scale:g}, takes {'a positive one' if limits.scale == POSITIVE else limits.scale}")


def _batch(limits: Limits, geometry: Geometry) -> Reason | None:
    if limits.max_batch and geometry.batch > limits.max_batch:
        return Reason(f"batch is {geometry.batch}, takes up to {limits.max_batch}")
    return None


def _batch_heads(limits: Limits, geometry: Geometry) -> Reason | None:
    rows = geometry.batch * geometry.heads
    if limits.max_batch_heads and rows > limits.max_batch_heads:
        return Reason(f"batch x heads is {rows}, takes up to {limits.max_batch_heads}")
    return None


def _scores(limits: Limits, geometry: Geometry) -> Reason | None:
    scores = geometry.batch * geometry.heads * geometry.q_len * geometry.kv_len
    if limits.max_scores and scores > limits.max_scores:
        return Reason(f"would hold {scores * 4 / 2**30:.1f} GiB of scores")
    return None


# In the order in which reasons are told.
CHECKS = (
    _device, _exactness, _capability, _dtype, _gradient, _empty, _head_dim, _mask, _grouped_heads, _key_length,
    _scale, _batch, _batch_heads, _scores,
)  # fmt: skip
HARDWARE = (_device, _capability)


def head_dims_text(limits: Limits) -> str:
    """Return `64, 96, 128`, `1 to 256`, `8 to 256 in steps of 8` or `any`."""
    dims, step = limits.head_dims, limits.head_dim_multiple
    if isinstance(dims, tuple):
        return ", ".join(map(str, dims))
    if dims.stop > 1 << 15:
        return "any" if step == 1 else f"multiples of {step}"
    return f"{max(dims.start, step)} to {dims.stop - 1}" + (f" in steps of {step}" if step > 1 else "")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
