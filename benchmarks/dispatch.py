"""What the router costs: one call through it beside the kernel called directly, interleaved."""

from __future__ import annotations

import statistics

import torch
from torch.utils.benchmark import Timer

from attention import registry
from attention.moment import MOMENT
from attention.router import Router
from attention.rules import GUARD_OFF, Rule
from attention.site import SELF, SITE, Site
from attention.tally import Tally

ROUNDS, CALLS = 15, 2000


def measure() -> dict[str, float]:
    """Median microseconds of a call: of the kernel alone, through our router, and through a router without rules."""
    q = torch.randn(1, 1, 8, 16)
    router = Router((Rule("sdpa", guard=GUARD_OFF),))
    options = {SITE: Site("bench", SELF, 0), MOMENT: Tally().moment}
    kernel = registry.load("sdpa")

    def host(q, k, v, heads, mask=None, skip_reshape=True, skip_output_reshape=True, **kw):
        return kernel(q, k, v)

    call = {"skip_reshape": True, "skip_output_reshape": True, "transformer_options": options}
    ways = {
        "kernel alone": lambda: kernel(q, q, q, mask=None, scale=None),
        "host's function": lambda: host(q, q, q, 1, **call),
        "router, sdpa": lambda: router(host, q, q, q, 1, **call),
        "router without rules": lambda: EMPTY(host, q, q, q, 1, **call),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for name, way in ways.items():
                times[name].append(Timer("way()", globals={"way": way}).timeit(CALLS).median * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


EMPTY = Router()


def table(medians: dict[str, float]) -> str:
    base = medians["host's function"]
    lines = ["| one call of a tiny attention | microseconds | more than the host's own |", "| --- | --- | --- |"]
    lines += [f"| {name} | {value:.1f} | {value - base:+.1f} |" for name, value in medians.items()]
    return "\n".join(lines)
