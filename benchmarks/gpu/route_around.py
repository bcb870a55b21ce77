"""Phase d: the guard, timing and containers around a call, beside the kernel alone."""

from __future__ import annotations

from functools import partial

from attention.backends import kitchen, registry, sdpa
from attention.routing.rules import GUARD_EVERY, GUARD_FIRST, GUARD_OFF, Rule

from .context import Context
from .dense import call
from .place import OURS
from .router_calls import Routed, host_attention
from .timing import peak, side_by_side, truth_of


class Container:
    """Holds one tensor until it is taken, as the host's AttentionTensorContainer does (ComfyUI 0.31 and later)."""

    def __init__(self, tensor):
        self.tensor = tensor

    def peek(self):
        return self.tensor

    def take(self):
        tensor, self.tensor = self.tensor, None
        return tensor


def run(context: Context, tokens: int) -> None:
    """Measure on one size."""
    place = context.place
    shape, truth, kernel = place.shape(tokens, 128), [], OURS[1] if place.dry else sdpa.AUTO.name
    ways = {
        "guard off": Rule(kernel, guard=GUARD_OFF),
        "guard first call": Rule(kernel, guard=GUARD_FIRST),
        "guard every call": Rule(kernel, guard=GUARD_EVERY),
        "timing": Rule(kernel, guard=GUARD_OFF, timing=True),
    }
    routed = {name: Routed((rule,), shape.grid, shape.heads) for name, rule in ways.items()}

    def closed(q, k, v):
        boxes, one = (Container(t) for t in (q, k, v)), routed["guard off"]
        return one.router.container_function(*boxes, one.heads, None, None, True, True, transformer_options=one.options)

    def host(q, k, v):
        return host_attention(q, k, v, shape.heads, skip_reshape=True, skip_output_reshape=True)

    def make(q, k, v) -> dict:
        if not truth:
            truth.append(truth_of(q, k, v))
        runs = {
            "kernel alone": partial(call, registry.load(kernel)),
            "host's own": host,
            **routed,
            "containers": closed,
        }
        return {name: (one, truth[0]) for name, one in runs.items()}

    context.at("float64")
    found = side_by_side(context, shape, make, tokens=shape.tokens)
    alone = found.get("kernel alone")
    for name, trial in found.items():
        context.row(call=name, kernel=kernel, tokens=shape.tokens, ms=trial.ms,
                    beside=trial.beside(alone) if alone else None, error=trial.error, mib=trial.mib)  # fmt: skip
    for name, one in routed.items():
        if kernel not in one.ran:
            context.note(f"{name}: ran on {one.ran}")
    consumed(context, shape)


def consumed(context: Context, shape) -> None:
    """Measure the memory of comfy-kitchen's INT8 attention in one stage and in two, whose first frees q, k and v."""
    place = context.place
    q, k, v = place.draw(shape)
    name = kitchen.INT8.name
    reason = place.why_not(name, q, k, v)
    if reason is None and not hasattr(registry.load(name), "consume"):
        reason = "it has one stage only"
    if reason:
        return context.note(f"containers on {name}: {reason}")
    kernel = registry.load(name)

    def two_stages(*tensors):
        return kernel.consume([t.clone() for t in tensors], mask=None, scale=None)

    with context.attempt(f"{name}, two stages"):
        whole, parts = peak(partial(call, kernel), q, k, v), peak(two_stages, q, k, v)
        copies = sum(t.numel() * t.element_size() for t in (q, k, v)) / 2**20
        context.row(call=f"{name}, containers", mib=parts - copies, **{"MiB in one stage": round(whole)})
    return None
