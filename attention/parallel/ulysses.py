"""Exchanges tokens for heads: in front of attention each rank gets the whole sequence and some heads, behind it back.

Source: DeepSpeed-Ulysses, https://arxiv.org/abs/2309.14509. Exact: no number is computed in another way.
What begins with `begin_` gives a function that waits for the result, so that other work may lie in between.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .peers import Peers
from .spread import Spread


def slices_of(heads: tuple[int, ...], group: int, count: int) -> list[tuple[slice, ...]]:
    """Cut each rank's heads into slices, so that one is traded while another is computed: for each slice, each rank's.

    heads: of each rank; they add up to H.
    group: heads that share keys and stay together.
    count: of slices wanted; no rank gets a slice without heads.
    """
    count = max(1, min(count, min(heads) // group))
    firsts = [sum(heads[:rank]) for rank in range(len(heads))]
    edges = [[first + number * i // (count * group) * group for i in range(count + 1)]
             for first, number in zip(firsts, heads, strict=True)]  # fmt: skip
    return [tuple(slice(edge[i], edge[i + 1]) for edge in edges) for i in range(count)]


def begin_gather(x: torch.Tensor, spread: Spread, peers: Peers, heads: tuple[slice, ...]) -> Callable:
    """Trade other ranks' heads for this rank's heads of all tokens.

    x: (B, H, local tokens, D).
    heads: of each rank.
    Gives (B, heads[rank], whole sequence, D).
    """
    mine, own = x[:, :, spread.before :], heads[peers.rank]
    shapes = [(x.shape[0], own.stop - own.start, size, x.shape[3]) for size in spread.sizes]
    wait = peers.begin([mine[:, some].contiguous() for some in heads], shapes)
    front = [x[:, own, : spread.before]] if spread.before else []
    return lambda: torch.cat([*front, *wait()], 2)


def gather_tokens(x: torch.Tensor, spread: Spread, peers: Peers, heads: tuple[slice, ...]) -> torch.Tensor:
    """As begin_gather, at once."""
    return begin_gather(x, spread, peers, heads)()


def begin_scatter(x: torch.Tensor, spread: Spread, peers: Peers, heads: tuple[slice, ...]) -> Callable:
    """Trade back: all heads of this rank's tokens for its heads of all.

    x: (B, heads[rank], whole sequence, D).
    Gives [(B, heads of a rank, local tokens, D)] of the ranks.
    """
    pieces = [spread.part(x, rank, 2).contiguous() for rank in range(peers.size)]
    local = spread.local(peers.rank)
    return peers.begin(pieces, [(x.shape[0], some.stop - some.start, local, x.shape[3]) for some in heads])


def gather_heads(x: torch.Tensor, peers: Peers, heads: tuple[slice, ...]) -> torch.Tensor:
    """Put the heads of all ranks together, for queries that every rank has.

    x: (B, heads[rank], L, D).
    Returns (B, H, L, D).
    """
    shapes = [(x.shape[0], some.stop - some.start, *x.shape[2:]) for some in heads]
    return torch.cat(peers.all_to_all([x.contiguous()] * peers.size, shapes), 1)


def gather_rows(x: torch.Tensor, spread: Spread, peers: Peers, dim: int) -> torch.Tensor:
    """Put the tokens of all ranks together, behind the last block.

    x: the local tokens along `dim`.
    Returns the whole sequence.
    """
    mine = x.narrow(dim, spread.before, spread.sizes[peers.rank]).contiguous()
    shapes = [(*x.shape[:dim], size, *x.shape[dim + 1 :]) for size in spread.sizes]
    parts = peers.all_to_all([mine] * peers.size, shapes)
    return torch.cat([x.narrow(dim, 0, spread.before), *parts] if spread.before else parts, dim)
