"""Exchanges tokens for heads: in front of attention each rank gets the whole sequence and some heads, behind it back.

Source: DeepSpeed-Ulysses, https://arxiv.org/abs/2309.14509. Exact: no number is computed in another way.
"""

from __future__ import annotations

import torch

from .peers import Peers
from .spread import Spread


def gather_tokens(x: torch.Tensor, spread: Spread, peers: Peers, heads: tuple[int, ...]) -> torch.Tensor:
    """Trade other ranks' heads for this rank's heads of all tokens.

    x: (B, H, local tokens, D).
    heads: of each rank; they add up to H.
    Returns (B, heads[rank], whole sequence, D).
    """
    mine = x[:, :, spread.before :]
    pieces = [piece.contiguous() for piece in mine.split(heads, 1)]
    shapes = [(x.shape[0], heads[peers.rank], size, x.shape[3]) for size in spread.sizes]
    parts = peers.all_to_all(pieces, shapes)
    if spread.before:
        parts = [x.split(heads, 1)[peers.rank][:, :, : spread.before], *parts]
    return torch.cat(parts, 2)


def scatter_tokens(x: torch.Tensor, spread: Spread, peers: Peers, heads: tuple[int, ...]) -> torch.Tensor:
    """Trade back: all heads of this rank's tokens for its heads of all.

    x: (B, heads[rank], whole sequence, D).
    Returns (B, H, local tokens, D).
    """
    pieces = [spread.part(x, rank, 2).contiguous() for rank in range(peers.size)]
    local = spread.local(peers.rank)
    return torch.cat(peers.all_to_all(pieces, [(x.shape[0], count, local, x.shape[3]) for count in heads]), 1)


def gather_heads(x: torch.Tensor, peers: Peers, heads: tuple[int, ...]) -> torch.Tensor:
    """Put the heads of all ranks together, for queries that every rank has.

    x: (B, heads[rank], L, D).
    Returns (B, H, L, D).
    """
    shapes = [(x.shape[0], count, *x.shape[2:]) for count in heads]
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
