"""Phase d: torch.compile around a block whose attention is routed: graph breaks, time and error beside eager."""

from __future__ import annotations

from functools import partial

from attention.backends import sdpa
from attention.core.reference import relative_l2
from attention.routing import compiled_op
from attention.routing.rules import GUARD_OFF, Rule

from .context import Context
from .place import OURS
from .router_calls import Routed
from .timing import once


def run(context: Context, tokens: int) -> None:
    """Compile with each kernel in turn: one that ships with torch, then ours."""
    for kernel in (sdpa.AUTO.name, *OURS[:1]):
        with context.attempt(f"torch.compile, {kernel}", 120):
            measure(context, tokens, kernel)


def measure(context: Context, tokens: int, kernel: str) -> None:
    """Give one row."""
    import torch
    import torch._dynamo

    place = context.place
    shape = place.shape(tokens, 128)
    routed = Routed((Rule(kernel, guard=GUARD_OFF),), shape.grid, shape.heads)
    compiled_op.begin(routed.options)

    def block(q, k, v):
        return routed(q * 1.01, k, v + 0.5) * 2

    q, k, v = place.draw(shape)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    backend = "aot_eager" if place.dry else "inductor"
    try:
        with torch.inference_mode():
            graph = torch.compile(block, backend=backend, dynamic=False)
            out, eager = graph(q, k, v), block(q, k, v)
            breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
            times = [[once(partial(one), (q, k, v), place.device) for _ in range(1 if place.dry else 5)]
                     for one in (block, graph)]  # fmt: skip
    finally:
        compiled_op.begin(None)
        torch._dynamo.reset()
    context.row(call=f"torch.compile ({backend})", kernel=kernel, tokens=shape.tokens, graph_breaks=breaks,
                eager_ms=round(min(times[0]) * 1e3, 3), compiled_ms=round(min(times[1]) * 1e3, 3),
                error=relative_l2(out, eager), ran=routed.ran)  # fmt: skip
