"""What the router costs: one call through it beside the kernel called directly, and one site published, interleaved."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch.utils.benchmark import Timer

from attention.backends import registry
from attention.core.site import CALLER, SELF, SITE, AttentionSite, Caller, SiteTag
from attention.inspect.site_watch import SiteWatch
from attention.routing.router import Router
from attention.routing.rules import GUARD_OFF, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

from . import host_paths

ROUNDS, CALLS = 15, 2000
# As many as the host and a model put into transformer_options, about.
HOST_KEYS = 12


def measure() -> dict[str, tuple[float, float]]:
    """Way -> median microseconds of a call, and how many of them are ours."""
    groups = [ways_of_routing()]
    if host_paths.enter(cpu=True) is not None:
        groups.append(ways_of_publishing(host_paths.our_sites()))
    figures = {}
    for ways in groups:
        times: dict[str, list[float]] = {name: [] for name in ways}
        with torch.inference_mode():
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    times[name].append(Timer("way()", globals={"way": way}).timeit(CALLS).median * 1e6)
        medians = {name: statistics.median(values) for name, values in times.items()}
        base = next(iter(medians.values()))
        figures |= {name: (value, value - base) for name, value in medians.items()}
    return figures


def ways_of_routing(q: torch.Tensor | None = None) -> dict[str, Callable]:
    """The host's function as it is first, then the ways through us. q: (1, 1, L, D), taken for k and v too."""
    q = torch.randn(1, 1, 8, 16) if q is None else q
    router = Router((Rule("sdpa", guard=GUARD_OFF),))
    options = {SITE: AttentionSite("bench", SELF, 0), CONTEXT: RunStats().context, CALLER: Caller(live=True)}
    kernel = registry.load("sdpa")

    def host(q, k, v, heads, mask=None, skip_reshape=True, skip_output_reshape=True, **kw):
        return kernel(q, k, v)

    call = {"skip_reshape": True, "skip_output_reshape": True, "transformer_options": options}
    return {
        "host's function": lambda: host(q, q, q, 1, **call),
        "kernel alone": lambda: kernel(q, q, q, mask=None, scale=None),
        "router, sdpa": lambda: router(host, q, q, q, 1, **call),
        "router without rules": lambda: EMPTY(host, q, q, q, 1, **call),
    }


def ways_of_publishing(sites) -> dict[str, Callable]:
    """A module called as it is first, then with the hooks that announce its AttentionSite."""
    stats, caller = RunStats(), Caller(live=True)
    options = {CONTEXT: stats.context, CALLER: caller, **{f"key {n}": n for n in range(HOST_KEYS)}}
    bare, told = Attention(), Attention()
    watch = SiteWatch(told)
    watch.begin(caller, stats)
    told.caller = caller
    setattr(told, sites.TAG, SiteTag(AttentionSite("bench", SELF, 0), None, torch.tensor(0), watch))
    told.register_forward_pre_hook(sites.announce, with_kwargs=True)
    told.register_forward_hook(sites.fall_silent, with_kwargs=True)
    return {
        "module": lambda: bare(None, transformer_options=options),
        "module that tells its site": lambda: told(None, transformer_options=options),
    }


class Attention(torch.nn.Module):
    """Does nothing but what the router does for the hooks, so that they are all there is to measure."""

    caller = Caller()

    def forward(self, x, transformer_options=None):
        self.caller.routed += 1
        return x


EMPTY = Router()


def table(figures: dict[str, tuple[float, float]]) -> str:
    lines = ["| one call of a tiny attention | microseconds | ours |", "| --- | --- | --- |"]
    lines += [f"| {name} | {value:.1f} | {ours:+.1f} |" for name, (value, ours) in figures.items()]
    return "\n".join(lines)
