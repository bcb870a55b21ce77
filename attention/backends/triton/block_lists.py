"""Which blocks of keys each block of queries sees: what a sparse call of the kernel works through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

QUERIES, KEYS = 128, 64


@dataclass(frozen=True, eq=False)
class Lists:
    """For R = ceil(Lq / QUERIES) blocks of queries and C = ceil(Lk / KEYS) blocks of keys.

    index: (1|B, 1|H, R, W) int32, numbers of key blocks: first those that every query sees, then the partial ones.
    count: (1|B, 1|H, R, 2) int32, how many see all, and how many entries there are.
    choice: like index, the rows of `masks` for the partial ones.
    masks: (n, QUERIES, 2) int32, a bit for each key, lowest first, set where the query sees it; None where the ragged
    end of the keys is the only edge. kv_len: Lk.
    left: (1|B, 1|H, R, C) uint8, 1 for the blocks that stand for their keys by one mean each; None for none.
    """

    index: torch.Tensor
    count: torch.Tensor
    choice: torch.Tensor
    kv_len: int
    masks: torch.Tensor | None = None
    left: torch.Tensor | None = None

    @property
    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        return self.index, self.count, self.choice, self.masks, self.left


def of_blocks(kept: torch.Tensor, kv_len: int, pooled: bool = False, front: int = 0, most: int | None = None) -> Lists:
    """Lists of whole blocks. kept: (1|B, 1|H, R, C) bool, as patterns.blocks.select gives it.

    pooled: the blocks left out count by their means instead of not at all. front: so many keys stand in front of the
    blocks, filled up to whole blocks that every query sees. most: the longest row of `kept`; None asks the GPU, and
    waits for it.
    """
    ahead = -(-front // KEYS)
    kept = F.pad(kept, (ahead, 0), value=True)
    if kept.shape[-1] != -(-kv_len // KEYS):
        raise ValueError(f"{kept.shape[-1]} blocks of keys, {kv_len} keys have {-(-kv_len // KEYS)}")
    partial = torch.zeros_like(kept)
    if kv_len % KEYS:
        partial[..., -1] = kept[..., -1]
    if front % KEYS:
        partial[..., ahead - 1] = True
    index, count = _listed(kept & ~partial, partial, None if most is None else most + ahead)
    left = (~kept).to(torch.uint8).contiguous() if pooled else None
    if not front % KEYS:
        return Lists(index, count, torch.zeros_like(index), kv_len, None, left)
    tiles = torch.ones(2, QUERIES, KEYS, dtype=torch.bool, device=kept.device)
    tiles[1, :, front % KEYS :] = False
    return Lists(index, count, (index == ahead - 1).to(torch.int32), kv_len, _packed(tiles), left)


def of_mask(seen: Callable, q_len: int, kv_len: int, device: torch.device) -> Lists:
    """Lists of a fixed mask, the same for every head. seen(q_idx, k_idx): bool over broadcast positions.

    Looks at every (query, key) pair once, a block of queries at a time; equal partial tiles are kept once.
    """
    known, rows = {b"\xff" * (QUERIES * KEYS // 8): 0}, []
    for row in range(-(-q_len // QUERIES)):
        tiles = tiles_of(seen, row, q_len, kv_len, device)
        every, partial = judged(tiles, kv_len)
        bits = _packed(tiles[partial]).cpu().numpy()
        chosen = [known.setdefault(tile.tobytes(), len(known)) for tile in bits]
        rows.append((every, partial, torch.tensor(chosen, dtype=torch.int32, device=device)))
    full, partial = (torch.stack([row[i] for row in rows])[None, None] for i in (0, 1))
    index, count = _listed(full, partial)
    choice = torch.zeros_like(index)
    for row, (_, _, chosen) in enumerate(rows):
        begin, end = count[0, 0, row].tolist()
        choice[0, 0, row, begin:end] = chosen
    masks = torch.frombuffer(bytearray(b"".join(known)), dtype=torch.int32).view(-1, QUERIES, 2).to(device)
    return Lists(index, count, choice, kv_len, masks)


def tiles_of(seen: Callable, row: int, q_len: int, kv_len: int, device: torch.device) -> torch.Tensor:
    """One block of queries by blocks of keys, (C, QUERIES, KEYS) bool. Past the ends the last token stands in."""
    blocks, start = -(-kv_len // KEYS), row * QUERIES
    query = torch.arange(start, start + QUERIES, device=device).clamp(max=q_len - 1)
    key = torch.arange(blocks * KEYS, device=device).clamp(max=kv_len - 1)
    return seen(query[:, None], key[None, :]).unflatten(1, (blocks, KEYS)).transpose(0, 1)


def judged(tiles: torch.Tensor, kv_len: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which tiles of a row are whole and which partial, (C,) bool each. The ragged one is never whole."""
    some, every = tiles.flatten(1).any(1), tiles.flatten(1).all(1)
    if kv_len % KEYS:
        every[-1] = False
    return every, some & ~every


def _packed(tiles: torch.Tensor) -> torch.Tensor:
    """(n, QUERIES, KEYS) bool as bits, (n, QUERIES, 2) int32, the first key lowest."""
    places = torch.arange(32, device=tiles.device)
    words = (tiles.unflatten(2, (2, 32)).to(torch.int64) << places).sum(-1)
    return torch.where(words < 1 << 31, words, words - (1 << 32)).to(torch.int32)


def _listed(full: torch.Tensor, partial: torch.Tensor, most: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """index and count of (..., R, C) flags, no longer than the longest row needs."""
    rank = torch.where(full, 0, torch.where(partial, 1, 2)).to(torch.uint8)
    count = torch.stack([full.sum(-1), (full | partial).sum(-1)], dim=-1).to(torch.int32)
    width = min(max(1, int(count[..., 1].max()) if most is None else most), full.shape[-1])
    index = rank.argsort(dim=-1, stable=True)[..., :width]
    # The kernel reads as many entries as are counted: never more than there are.
    return index.to(torch.int32).contiguous(), count.clamp(max=width)
