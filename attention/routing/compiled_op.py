"""The router as one operator: torch.compile makes a single graph of a model, whichever kernels run in it.

A graph keeps no Python object of its first run, so the operator finds everything where it runs: the override that is in
the slot now, the rules and the counts of this run. Only what belongs to the place in the model is in the graph, and of
that the AttentionSite as a tensor with its number: as a constant it would ask for one graph for each block.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

from ..core.site import CALLER, SITE, AttentionSite
from .host_kernel import host_function

# The host's names. transformer_options[SLOT] is the override.
SLOT, OPTIONS = "optimized_attention_override", "transformer_options"
# What a call may carry besides its options and still be told in the operator's arguments.
TRACEABLE = (OPTIONS, "_inside_attn_wrapper", "scale", "low_precision_attention", "enable_gqa")
NO_SITE = torch.tensor(-1)


class _Evaluation(threading.local):
    """Holds what the model evaluation of this thread works with. One thread drives one GPU."""

    options: Mapping | None = None
    sites: tuple[AttentionSite, ...] = ()


_EVALUATION = _Evaluation()
_FUNCTIONS: dict[str, Callable] = {}


def prepare() -> None:
    """Prepare for tracing; not when this file is imported, for this imports the compiler."""
    if compiles():
        torch.compiler.assume_constant_result(name_of)


@cache
def compiles() -> bool:
    """Tell whether torch's compiler can be imported: it imports Triton, and a broken one raises anything."""
    try:
        import torch._dynamo  # noqa: F401
    except Exception:
        return False
    return True


def eagerly(function: Callable) -> Callable:
    """Make torch.compile leave `function` alone; itself where there is no compiler that could trace it."""
    return torch.compiler.disable(function) if compiles() else function


def begin(options: Mapping | None, sites: tuple[AttentionSite, ...] = ()) -> None:
    """Set what the operator works with from now on in this thread.

    options: the host's transformer_options; None: nothing.
    sites: of the model's modules, by number.
    """
    _EVALUATION.options, _EVALUATION.sites = options, sites


def name_of(function: Callable) -> str:
    """Name one of the host's attention functions, so that the operator finds it. Called while tracing."""
    plain = f"{function.__module__}.{function.__qualname__}"
    names = (plain, *(f"{plain} {number}" for number in range(2, 1000)))
    name = next(name for name in names if _FUNCTIONS.get(name, function) is function)
    _FUNCTIONS[name] = function
    return name


def can_trace(router, call) -> bool:
    """Tell whether the operator can stand for an AttentionCall: asked while torch.compile traces.

    Not below another override, nor above one: those read what is in the options of this very call.
    """
    options = call.options
    if _operator is None or router.previous is not None or options.get(SLOT) is not router:
        return False
    caller = options.get(CALLER)
    if caller is None or not caller.live or not hasattr(call.func, "__qualname__"):
        return False
    if any(name not in TRACEABLE for name in call.kw):
        return False
    return not (torch.is_grad_enabled() and (call.q.requires_grad or call.k.requires_grad or call.v.requires_grad))


def route(call) -> Tensor:
    """Ask the operator in place of a router, for an AttentionCall of which `can_trace` is true."""
    tag = call.options[CALLER].tag
    return _operator(
        call.q, call.k, call.v, call.mask, NO_SITE if tag is None else tag.number, name_of(call.func), call.heads,
        call.precision, call.split_in, call.split_out, call.kw.get("scale"), call.kw.get("low_precision_attention"),
        call.kw.get("enable_gqa"),
    )  # fmt: skip


def _run(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, number: Tensor, function: str, heads: int,
    precision: torch.dtype | None, split_in: bool, split_out: bool, scale: float | None, low_precision: bool | None,
    gqa: bool | None,
) -> Tensor:  # fmt: skip
    func, options, site = _FUNCTIONS[function], dict(_EVALUATION.options or {}), int(number)
    if 0 <= site < len(_EVALUATION.sites):
        options[SITE] = _EVALUATION.sites[site]
    given = {"scale": scale, "low_precision_attention": low_precision, "enable_gqa": gqa}
    kw = {name: value for name, value in given.items() if value is not None}
    named = dict(
        mask=mask, attn_precision=precision, skip_reshape=split_in, skip_output_reshape=split_out,
        transformer_options=options, _inside_attn_wrapper=True, **kw,
    )  # fmt: skip
    override = options.get(SLOT)
    if override is None:
        out = host_function(func, None, options)(q, k, v, heads, **named)
    else:
        out = override(func, q, k, v, heads, **named)
    # What a graph was told: q's dtype, dense, and no view of what it gave.
    out = out.to(q.dtype).contiguous()
    taken = out.untyped_storage().data_ptr()
    return out.clone() if taken in (t.untyped_storage().data_ptr() for t in (q, k, v)) else out


def _shape(
    q, k, v, mask, number, function, heads, precision, split_in, split_out, scale, low_precision, gqa
) -> Tensor:  # fmt: skip
    if split_in:
        batch, _, length, _ = q.shape
        width = v.shape[-1]
    else:
        batch, length, channels = q.shape
        width = channels * v.shape[-1] // k.shape[-1] // heads
    return q.new_empty((batch, heads, length, width) if split_out else (batch, length, heads * width))


_SCHEMA = (
    "(Tensor q, Tensor k, Tensor v, Tensor? mask, Tensor number, str function, SymInt heads, ScalarType? precision, "
    "bool split_in, bool split_out, float? scale, bool? low_precision, bool? gqa) -> Tensor"
)


def _define():
    """Define the operator; None where torch (before 2.4) has none of this kind."""
    if not hasattr(torch.library, "custom_op"):
        return None
    # By this module's name: a pack that is there twice has two.
    name = f"video_attention::{re.sub(r'[^0-9A-Za-z]', '_', __name__)}"
    unsafe = getattr(torch.Tag, "cudagraph_unsafe", None)
    more = {} if unsafe is None else {"tags": (unsafe,)}
    operator = torch.library.custom_op(name, _run, mutates_args=(), schema=_SCHEMA, **more)
    operator.register_fake(_shape)
    return operator


_operator = _define()
