"""Run in a process of its own, with a newer comfy-kitchen first on the path than the one that the tests' ComfyUI pins.

Writes JSON: for each case what the library's own CPU code gives behind our adapter, as relative L2 from float64.
"""

from __future__ import annotations

import json
import sys
from functools import cache, wraps
from inspect import signature
from math import prod

try:
    import comfy_kitchen

    comfy_kitchen.sol_attn, comfy_kitchen.na3d  # noqa: B018
except (ImportError, AttributeError):
    sys.exit(77)
import torch

from attention import patterns as p
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.tokens import BOTH, VideoSpan
from attention.patterns.spec import relation_of
from attention.sparse import kitchen
from attention.sparse.engine import Task

torch.set_num_threads(1)
DRAW = torch.Generator()
GIVEN = {}


@cache
def recorded(name):
    """The library's function `name`, as it is, leaving its named arguments in GIVEN."""
    function = getattr(comfy_kitchen, name)

    @wraps(function)
    def run(*args, **kwargs):
        GIVEN[name] = kwargs
        return function(*args, **kwargs)

    return run


# The adapter asks for a GPU; the library's reference code needs none.
kitchen.load = recorded


def randn(*shape):
    return torch.randn(shape, generator=DRAW)


def na3d(grid, frames, height, width, dim, scale=None) -> float:
    """Error of neighbourhood attention from our own mask."""
    pattern, number = p.Neighbourhood(frames, height, width), prod(grid)
    q, k, v = randn(3, 1, 2, number, dim).unbind()
    out = kitchen.na3d_run((q, k, v), None, scale, (grid, pattern.window(grid)))
    at = torch.arange(number)
    seen = relation_of(pattern, grid).mask_mod(0, 0, at[:, None], at[None])
    return relative_l2(out, scaled_dot_product_attention(q.double(), k.double(), v.double(), seen, scale))


def sol(pattern, grid, dim, context_tokens, alike=True, scale=None) -> float:
    """Error of blocks from dense attention. alike: neighbours are alike, as in a video, so that few blocks suffice."""
    plan = kitchen.sol_plan(Task(pattern, VideoSpan(grid, 0, BOTH)), "cpu", torch.bfloat16)
    number = prod(grid)
    q, k, v = randn(3, 1, 2, number, dim).unbind()
    if alike:
        shared = randn(1, 2, -(-number // 64), dim).repeat_interleave(64, 2)[:, :, :number] * 1.5
        q, k = (t * 0.3 + shared.index_select(2, plan.inverse) for t in (q, k))
    q, k, v, *sink = (
        t.to(torch.bfloat16) for t in (q, k, v, randn(1, 2, context_tokens, dim), randn(1, 2, context_tokens, dim))
    )
    out = kitchen.sol_run((q, k, v), tuple(sink), scale, plan)
    assert GIVEN["sol_attn"]["token_aug"] == signature(comfy_kitchen.sol_attn).parameters["token_aug"].default
    keys, values = (torch.cat(pair, 2).double() for pair in zip((k, v), sink))
    return relative_l2(out.double(), scaled_dot_product_attention(q.double(), keys, values, None, scale))


def singly() -> float:
    """What 256 tokens more for each block of queries change."""
    q, k, v = randn(3, 1, 700, 2, 128).unbind()
    few, more = (comfy_kitchen.sol_attn(q, k, v, tail=False, token_aug=number) for number in (0, 256))
    return relative_l2(more, few)


def pattern_of(name, options):
    return next(row for row in p.TABLE if row.name == name)(**options)


def main() -> None:
    found = []
    for kind, seed, case in json.load(sys.stdin):
        DRAW.manual_seed(seed)
        if "grid" in case:
            case["grid"] = tuple(case["grid"])
        if kind == "sol":
            case["pattern"] = pattern_of(*case["pattern"])
        found.append({"na3d": na3d, "sol": sol, "singly": singly}[kind](**case))
    json.dump(found, sys.stdout)


main()
