"""Single tokens beside the chosen blocks: what of a block that was not chosen stands out, though the block does not.

As comfy-kitchen's sol_attn sees them by its `token_aug`, whose reference code leaves them out.
"""

from __future__ import annotations

import torch

from ..patterns.blocks import KEYS, QUERIES, pool
from .engine import scratch_bytes


class Singles:
    """The single tokens of every block of queries: those outside its seen blocks that its mean scores highest.

    number: most of them for each block of queries.
    q: (B, H, M, D), in the pattern's order.
    k: (B, H, N, D), in the pattern's order.
    seen: (B, H, nq, nk) bool, the chosen blocks.
    scale: of the scores, None: 1 / sqrt(D).
    """

    def __init__(self, number: int, q: torch.Tensor, k: torch.Tensor, seen: torch.Tensor, scale: float | None):
        tokens, blocks = k.shape[2], seen.shape[3]
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        means, wide = pool(q, QUERIES)[0].flatten(0, 1), torch.promote_types(k.dtype, torch.float32)
        # What is gathered comes behind this, so that both have the same room.
        room = scratch_bytes(q.device, q.numel() * q.element_size())
        found = [
            _best(min(number, tokens), *each, scale, wide, room)
            for each in zip(means, k.flatten(0, 1), seen.flatten(0, 1))
        ]
        self._at, self._hidden = (torch.cat(each) for each in zip(*found))
        # In keys that are filled up to whole blocks, a head behind the other.
        self._first = torch.arange(len(means), device=k.device).repeat_interleave(seen.shape[2]) * blocks * KEYS
        self._of_block = torch.zeros(len(self._at), blocks, dtype=wide, device=k.device)
        self._of_block.scatter_add_(1, self._at // KEYS, (~self._hidden).to(wide))

    def keys(self, rows: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Gather the singles of some blocks of queries: (n, singles, D).

        rows: (n,), of B * H * nq.
        t: (B * H * nk, KEYS, D), keys or values in blocks.
        """
        at = self._first[rows, None] + self._at[rows]
        return t.reshape(-1, t.shape[-1]).index_select(0, at.flatten()).view(*at.shape, -1)

    def hidden(self, rows: torch.Tensor) -> torch.Tensor:
        """Tell which of them stand in for none, where fewer tokens are left: (n, singles) bool."""
        return self._hidden[rows]

    def weights(self, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Give what a block's mean weighs without its singles: (n, nk), the logarithm.

        lengths: (nk,), the logarithm of its tokens.
        """
        return (lengths.exp().round() - self._of_block[rows]).clamp_(min=0).log_()


def _best(number: int, means, k, seen, scale: float, wide: torch.dtype, room: int):
    """Find the singles of a head: ((nq, number), and which of them are none).

    room: bytes that scores of a slice of the blocks may take.
    """
    k, found = k.to(wide).mT, []
    # At once: the scores, what topk makes of them, and a mask.
    step = max(1, room // (k.shape[1] * (2 * wide.itemsize + 2)))
    for some, chosen in zip((means.to(wide) * scale).split(step), seen.split(step)):
        scores = some @ k
        scores.masked_fill_(chosen.repeat_interleave(KEYS, 1)[:, : k.shape[1]], -torch.inf)
        found.append(scores.topk(number, dim=-1))
        del scores
    best, at = (torch.cat(each) for each in zip(*found))
    return at, best == -torch.inf
