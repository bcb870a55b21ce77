"""RunStats of runs that nobody made, and the bars of a report's picture."""

from __future__ import annotations

import torch
from PIL import Image

from attention.backends import registry
from attention.core.geometry import Geometry
from attention.core.site import CROSS, SELF, AttentionSite
from attention.routing.router import Router
from attention.routing.rules import CHOICES, Rule
from attention.routing.run_stats import Decision, RunStats

HOST = f"{registry.HOST} (pytorch)"
# Of make_stepped.
STEPS = 4


def call(q_len=512, kv_len=512):
    """Makes the Geometry of a call."""
    return Geometry(2, 8, 8, q_len, kv_len, 64, torch.bfloat16, "cpu")


# backend -> the Rule that asks for it, and the rules of a run -> their Router.
BACKENDS, ROUTERS = {name: Rule(name) for name in CHOICES}, {}


def add(
    stats, role, block, used, calls, *, wanted="sdpa", reason=None, fell_back=0, seconds=(), of=None, rules=None, **more
):
    """Adds one Decision to `stats`.

    of: Geometry of its calls.
    rules: of its router, the first of which made it; None for the one that asks for `wanted`.
    more: other fields, as passed_over.
    """
    if rules is None:
        rules = (BACKENDS[wanted],) if wanted in BACKENDS else ()
    site, router = AttentionSite("LTXV", role, block), ROUTERS.setdefault(tuple(map(id, rules)), Router(rules))
    decision = Decision(site, of or call(), rules[0] if rules else None, wanted, used)
    decision.calls, decision.reason, decision.fell_back, decision.spans = calls, reason, fell_back, list(seconds)
    for name, value in more.items():
        setattr(decision, name, value)
    stats.decisions[router, site, len(stats.decisions)] = decision
    return decision


def make_stats(timed=False):
    """Makes the RunStats of four blocks of LTXV over 20 steps.

    Self-attention on sdpa, one block's cross-attention falls back.
    """
    stats = RunStats("LTXVModel", (4, 8, 16), 20)
    for block in range(4):
        add(stats, SELF, block, "sdpa", 40, seconds=[0.3] if timed else ())
    for block in (0, 1, 3):
        add(stats, CROSS, block, "sdpa", 40, of=call(512, 77), seconds=[0.1] if timed else ())
    add(
        stats, CROSS, 2, HOST, 40, reason="RuntimeError: broken", fell_back=39, of=call(512, 77),
        seconds=[0.1] if timed else (),
    )  # fmt: skip
    return stats


def make_stepped(timed=False, steps=STEPS) -> RunStats:
    """Makes the RunStats of several steps.

    The self-attention of the first step on sdpa, later ones on a pattern; cross-attention always falls back.
    """
    stats = RunStats("LTXVModel", (4, 8, 16), steps)
    first, later, cross = (
        add(stats, role, 0, used, 0, wanted="sdpa", reason=reason)
        for role, used, reason in ((SELF, "sdpa", None), (SELF, "spatial (folded)", None), (CROSS, HOST, "broken"))
    )
    stats.begun = 10.0
    for step in range(steps):
        for decision in (first if step == 0 else later, cross):
            decision.calls += 3
            decision.fell_back += 3 * (decision.reason is not None)
            if timed:
                decision.spans += [0.1 * (step + 1)] * 3
        stats.mark()
        stats.marks[-1] = 10.0 + 3.0 + 2.0 * step, stats.marks[-1][1]
    return stats


def pixels(picture: Image.Image, colour) -> int:
    """Counts the pixels of a colour."""
    return sum(count for count, found in picture.getcolors(1 << 24) if found == colour)


def bar_lengths(picture: Image.Image, colours) -> list[int]:
    """Measures the longest run of each colour in one row of the picture."""
    rows = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(picture.height, picture.width, 3)
    return [(rows == torch.tensor(colour, dtype=torch.uint8)).all(dim=-1).sum(dim=1).max().item() for colour in colours]
