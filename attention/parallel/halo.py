"""Halo exchange: each rank keeps its queries and fetches only those keys and values that they may see.

As stencil computations share a grid out. Exact: what a query does not see is never read, and stays zero.
"""

from __future__ import annotations

from math import prod

import torch

from .peers import Peers
from .spread import Spread


def reached(relation, first: int, last: int) -> torch.Tensor:
    """Tell which tokens some queries may see: (N,) bool, in raster order.

    relation: a pattern over a grid, a patterns.spec.Relation.
    first: the first of the queries, by raster index.
    last: one past the last of them.
    """
    frames, rows, columns = relation.grid
    seen, frame = torch.zeros(frames, rows, columns, dtype=torch.bool), rows * columns
    for t in range(first // frame, -(-last // frame)):
        a, b = max(first - t * frame, 0), min(last - t * frame, frame)
        boxes, _ = relation.key_boxes(((t, t + 1), (a // columns, -(-b // columns)), (0, columns)))
        for (t0, t1), (y0, y1), (x0, x1) in boxes:
            seen[t0:t1, y0:y1, x0:x1] = True
    return seen.flatten()


class Halo:
    """Says which rank hands which tokens to which.

    spread: of the sequence, which is the video alone.
    relations: what the queries see by; of several, all together.
    """

    def __init__(self, spread: Spread, relations: tuple):
        if spread.before or any(prod(relation.grid) != spread.length for relation in relations):
            raise ValueError("a halo is for a sequence of the video alone")
        self.spread, ranks = spread, range(len(spread.sizes))
        ends = [(spread.start(rank), spread.start(rank) + spread.sizes[rank]) for rank in ranks]
        seen = [sum(reached(relation, *ends[r]) for relation in relations).bool() for r in ranks]
        # Of rank s's tokens those that rank r fetches, counted from s's first.
        self._handed = {
            (s, r): seen[r][ends[s][0] : ends[s][1]].nonzero().flatten() if s != r else torch.empty(0, dtype=torch.long)
            for s in ranks
            for r in ranks
        }
        self._placed: dict[tuple, torch.Tensor] = {}

    @property
    def most(self) -> int:
        """Count the tokens that the rank hands over which hands over most."""
        ranks = range(len(self.spread.sizes))
        return max(sum(len(self._handed[s, r]) for r in ranks) for s in ranks)

    def fetch(self, x: torch.Tensor, peers: Peers) -> torch.Tensor:
        """Bring what this rank's queries may see: (B, H, L, D), zero where they see nothing.

        x: (B, H, local tokens, D).
        """
        (batch, heads, _, dim), me, ranks = x.shape, peers.rank, range(peers.size)
        pieces = [x.index_select(2, self._on(x.device, me, r)) for r in ranks]
        came = peers.all_to_all(pieces, [(batch, heads, len(self._handed[s, me]), dim) for s in ranks])
        whole = x.new_zeros(batch, heads, self.spread.length, dim)
        start = self.spread.start(me)
        whole[:, :, start : start + x.shape[2]] = x
        for s in ranks:
            if s != me:
                whole.index_copy_(2, self._on(x.device, s, me) + self.spread.start(s), came[s])
        return whole

    def _on(self, device: torch.device, s: int, r: int) -> torch.Tensor:
        key = (device, s, r)
        if key not in self._placed:
            self._placed[key] = self._handed[s, r].to(device)
        return self._placed[key]
