"""Whether several GPUs are worth it: a model's arithmetic, what is traded, and how fast both go here."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..core.timing import elapsed, end_span, start_span
from .speed import seconds_of_product
from .spread import Spread

# Of a copy that is timed.
MEGABYTES = 64
# Below it a step gains too little for what it costs in memory.
WORTH = 1.2


def bytes_traded(tokens: int, channels: int, blocks: int, ranks: int, size: int = 2, groups: int = 1) -> float:
    """Count the bytes that each rank hands to others in one evaluation: q, k, v and the output of each block among
    those that trade heads, and k and v to every other group of those.

    tokens: of the whole sequence.
    channels: of a token in attention, over all heads.
    blocks: with attention over the sequence.
    ranks: how many share it, or its heads.
    size: bytes of a number.
    groups: of as many ranks each.
    """
    near = 4 * (ranks - 1) / ranks**2 / groups
    return size * blocks * tokens * channels * (near + 2 * (groups - 1) / (groups * ranks))


def rows_traded(spread: Spread, heads: Sequence[int], key_heads: Sequence[int]) -> int:
    """Count the rows of a head that the rank hands over which hands over most, where heads are traded: q, k, v, output.

    heads: of each rank.
    key_heads: of each rank.
    """

    def of(rank: int) -> int:
        others = sum(heads) - heads[rank] + 2 * (sum(key_heads) - key_heads[rank])
        return spread.sizes[rank] * others + heads[rank] * (spread.length - spread.sizes[rank])

    return max(of(rank) for rank in range(len(heads)))


def speedup(operations: float, rate: float, traded: float, link: float, ranks: int) -> float:
    """Tell how many times as fast an evaluation is on `ranks` GPUs, nothing of the trading hidden behind other work.

    operations: of one evaluation on one GPU.
    rate: operations a second.
    traded: bytes that each rank hands over.
    link: bytes a second.
    """
    alone = operations / rate
    return alone / (alone / ranks + traded / link)


def rate_of(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the operations a second that a device makes in a product of matrices."""
    seconds, side = seconds_of_product(device, dtype)
    return 2 * side**3 / seconds


def link_between(first: torch.device, second: torch.device) -> float:
    """Measure the bytes a second of a copy from one device to another."""
    data = torch.empty(MEGABYTES << 20, dtype=torch.uint8, device=first)
    spans = []
    for _ in range(3):
        begin = start_span(second)
        data.to(second, copy=True)
        spans.append(end_span(begin, second))
    return data.numel() / max(min(elapsed(span) for span in spans[1:]), 1e-9)


def sentence(operations: float, traded: float, devices: list[torch.device], dtype: torch.dtype) -> str:
    """Measure this machine, and say whether sharing an evaluation out among these devices is worth it.

    operations, traded: as of `speedup`.
    """
    link, rate = link_between(devices[0], devices[1]), rate_of(devices[0], dtype)
    times = speedup(operations, rate, traded, link, len(devices))
    verdict = "" if times >= WORTH else ": hardly worth it"
    return (
        f"On {len(devices)} GPUs a step would be about {times:.1f}x as fast{verdict}. Computed, not measured: copies "
        f"between them go at {link / 1e9:.3g} GB/s here, each hands {traded / 1e9:.3g} GB to others in a step, and "
        f"attention is taken to be as fast as a product of matrices ({rate / 1e12:.3g} TFLOPS)."
    )
