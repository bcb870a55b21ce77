"""Names, loads and picks backends: the only dispatch."""

from __future__ import annotations

import torch

from .backend import Backend, Kernel, Unavailable
from .backends import TABLE
from .call import Call, describe
from .layout import to_mask

AUTO = "auto"
HOST = "host default"

_BY_NAME = {backend.name: backend for backend in TABLE}
_LOADED: dict[str, Kernel | str] = {}


def names() -> tuple[str, ...]:
    """Every known backend, best first, installed or not."""
    return tuple(_BY_NAME)


def get(name: str) -> Backend:
    """The row called `name`; ValueError with the known names otherwise."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ValueError(f"backend: {name!r} is not known. Known: {', '.join(names())}.") from None


def load(name: str) -> Kernel:
    """The kernel behind `name`, loaded once per process; Unavailable with what is missing otherwise."""
    if name not in _LOADED:
        try:
            _LOADED[name] = get(name).load()
        except Unavailable as missing:
            _LOADED[name] = str(missing)
    kernel = _LOADED[name]
    if isinstance(kernel, str):
        raise Unavailable(kernel)
    return kernel


def why_not(name: str, call: Call | None = None) -> str | None:
    """Why `name` cannot run `call` here (without a call: cannot run at all), or None."""
    backend = get(name)
    try:
        load(name)
    except Unavailable as missing:
        return str(missing)
    return backend.refuses(call) if call else None


def pick(call: Call) -> tuple[str | None, dict[str, str]]:
    """The best backend for `call` and, for each better one passed over, why."""
    accepted, reasons = candidates(call)
    if not accepted:
        return None, reasons
    order = [backend.name for backend in TABLE]
    first = order.index(accepted[0])
    return accepted[0], {name: reason for name, reason in reasons.items() if order.index(name) < first}


def candidates(call: Call) -> tuple[list[str], dict[str, str]]:
    """Every backend that `auto` may take for `call`, best first, and the reasons of the others."""
    accepted, reasons = [], {}
    for backend in TABLE:
        if not backend.auto:
            continue
        reason = why_not(backend.name, call)
        if reason is None and call.kv_len < backend.limits.useful_from:
            reason = f"{call.kv_len} keys are too few to gain, from {backend.limits.useful_from} on"
        if reason is None:
            accepted.append(backend.name)
        else:
            reasons[backend.name] = reason
    return accepted, reasons


def load_all() -> None:
    """Loads what can be loaded, so that no import happens in a forward."""
    for name in names():
        why_not(name)


def attend(q, k, v, mask=None, scale: float | None = None, backend: str = AUTO) -> torch.Tensor:
    """Attention by name, outside of any model.

    q: (B, H, Lq, D); k, v: (B, Hkv, Lk, D); mask: broadcasts to (B, H, Lq, Lk) or None; returns (B, H, Lq, D).
    Raises RuntimeError with the backend and the reason when it cannot run this call.
    """
    mask = to_mask(mask, q.dtype)
    call = describe(q, k, v, mask, scale=scale)
    name, reason = pick(call)[0] if backend == AUTO else backend, None
    reason = "no backend accepts it" if name is None else why_not(name, call)
    if reason:
        raise RuntimeError(f"{backend} cannot run attention of {call.shape_text}: {reason}.")
    return load(name)(q, k, v, mask=mask, scale=scale)
