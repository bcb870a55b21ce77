"""Registry of backends: their names, loading, refusals, and which of them `auto` may take."""

from __future__ import annotations

import torch

from ..core.error_handling import error_message
from ..core.geometry import Geometry, describe
from ..core.kernel import Kernel
from ..core.reason import Reason
from ..core.tensor_layout import to_mask
from . import TABLE
from .spec import Backend, Unavailable

AUTO = "auto"
HOST = "host default"
UNSEEN = "Video Attention Benchmark has not seen it right here since ComfyUI started"

_BY_NAME = {backend.name: backend for backend in TABLE}
_LOADED: dict[str, Kernel | Reason] = {}
# One compiled kernel, see _compiled -> whether it was right whenever Video Attention Benchmark tried it.
_SEEN: dict[tuple, bool] = {}


def names() -> tuple[str, ...]:
    """Return the name of every known backend, best first, installed or not."""
    return tuple(_BY_NAME)


def get(name: str) -> Backend:
    """Return the row of a name; ValueError with the known names where there is none."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ValueError(f"backend: {name!r} is not known. Known: {', '.join(names())}.") from None


def load(name: str) -> Kernel:
    """Load the kernel of a backend, once in a process; Unavailable with what is missing where that fails."""
    if name not in _LOADED:
        try:
            _LOADED[name] = get(name).load()
        except Unavailable as missing:
            _LOADED[name] = Reason(missing)
        except Exception as broken:  # whatever a package raises when it is touched: a refusal, never more
            _LOADED[name] = Reason(f"{name} cannot be loaded ({error_message(broken)})")
    kernel = _LOADED[name]
    if isinstance(kernel, Reason):
        raise Unavailable(kernel)
    return kernel


def why_not(name: str, geometry: Geometry | None = None) -> Reason | None:
    """Return the first reason why a backend cannot run here, or None.

    name: of the backend.
    geometry: of the call in question; None: whether it can run at all.
    """
    backend = get(name)
    try:
        load(name)
    except Unavailable as missing:
        return Reason(missing)
    return backend.refuses(geometry) if geometry else None


def reasons(name: str, geometry: Geometry) -> tuple[Reason, ...]:
    """Return all reasons why a backend cannot run a call here; the first is the one that `why_not` gives.

    A backend that is not installed tells what is missing, and what would keep it from the call all the same.
    """
    try:
        load(name)
    except Unavailable as missing:
        return Reason(missing), *get(name).limits.reasons(geometry)
    return get(name).reasons(geometry)


def worth_installing(geometry: Geometry, than: str, exact: bool = False) -> Backend | None:
    """Find the best backend that `auto` would try for a call, before the one that it has, were it installed.

    geometry: of the call.
    than: name of the backend that runs now; any other name for the host's own attention.
    exact: leaves out those that quantise or approximate.
    """
    for backend in TABLE:
        if backend.name == than:
            return None
        if not backend.library or not backend.auto or geometry.kv_len < backend.limits.useful_from:
            continue
        # Of one that is not there its library cannot be asked: its limits alone.
        if (exact and not backend.limits.exact) or next(backend.limits.reasons(geometry), None):
            continue
        if why_not(backend.name) is not None:
            return backend
    return None


def pick(geometry: Geometry) -> tuple[str | None, dict[str, str]]:
    """Pick the best backend for a call, None where none accepts it, and why each better one was passed over.

    geometry: of the call.
    """
    accepted, reasons = candidates(geometry)
    if not accepted:
        return None, reasons
    order = [backend.name for backend in TABLE]
    first = order.index(accepted[0])
    return accepted[0], {name: reason for name, reason in reasons.items() if order.index(name) < first}


def candidates(geometry: Geometry) -> tuple[list[str], dict[str, str]]:
    """Return every backend that `auto` may take for a call, best first, and the reasons of the others by their names.

    geometry: of the call.
    """
    accepted, reasons = [], {}
    for backend in TABLE:
        if not (backend.auto or backend.promise):
            continue
        reason = why_not(backend.name, geometry)
        if reason and not backend.auto:
            continue  # nobody misses what `auto` does not take by itself
        if reason is None and geometry.kv_len < backend.limits.useful_from:
            reason = f"{geometry.kv_len} keys are too few to gain, from {backend.limits.useful_from} on"
        if reason is None and not (backend.auto or seen_right(backend.name, geometry)):
            reason = UNSEEN
        if reason is None:
            accepted.append(backend.name)
        else:
            reasons[backend.name] = reason
    return accepted, reasons


def note(name: str, geometry: Geometry, right: bool, by_lists: bool = False) -> None:
    """Note whether a kernel that `auto` waits for was right on real tensors; once wrong it stays so in this process.

    name: of the backend.
    geometry: of the call that it ran.
    right: whether its output was near enough to exact attention.
    by_lists: whether it ran as the engine for patterns of that name.
    """
    key = _compiled(name, geometry, by_lists)
    _SEEN[key] = right and _SEEN.get(key, True)


def seen_right(name: str, geometry: Geometry | None = None, by_lists: bool = False) -> bool:
    """Return whether the kernel that runs such calls has been right on this kind of GPU.

    name: of the backend.
    geometry: of the call; None: whether it has been right on any.
    by_lists: asks for it as the engine for patterns, too.
    """
    if geometry is None:
        return any(right and key[0] == name for key, right in _SEEN.items())
    return all(_SEEN.get(_compiled(name, geometry, way), False) for way in {False, by_lists})


def _compiled(name: str, geometry: Geometry, by_lists: bool) -> tuple:
    """Return the key of one compiled kernel: another head size is other code, which may fail where this is right."""
    return (
        name,
        by_lists,
        geometry.device,
        geometry.capability,
        geometry.amd,
        geometry.dtype,
        geometry.head_dim,
        geometry.mask,
    )


def load_all() -> None:
    """Load what can be loaded, so that no import happens in a forward."""
    for name in names():
        why_not(name)


def attend(q, k, v, mask=None, scale: float | None = None, backend: str = AUTO) -> torch.Tensor:
    """Compute attention by a backend's name, outside of any model: (B, H, Lq, D).

    Raises RuntimeError with the backend and the reason where it cannot run this call.

    q: (B, H, Lq, D).
    k: (B, Hkv, Lk, D).
    v: (B, Hkv, Lk, D).
    mask: broadcasts to (B, H, Lq, Lk), bool or added to the scores; or None.
    scale: factor of the scores; None: 1 / sqrt(D).
    backend: a name, or AUTO: the best that accepts the call.
    """
    mask = to_mask(mask, q.dtype)
    geometry = describe(q, k, v, mask, scale=scale)
    name, reason = pick(geometry)[0] if backend == AUTO else backend, None
    reason = "no backend accepts it" if name is None else why_not(name, geometry)
    if reason:
        raise RuntimeError(f"{backend} cannot run attention of {geometry.shape_text}: {reason}.")
    return load(name)(q, k, v, mask=mask, scale=scale)
