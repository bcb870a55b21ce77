"""Lists of key blocks: which blocks of keys each block of queries sees in a sparse call of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange

QUERIES, KEYS = 128, 64


@dataclass(frozen=True, eq=False)
class BlockLists:
    """For R = ceil(Lq / QUERIES) blocks of queries and C = ceil(Lk / KEYS) blocks of keys.

    index: (1|B, 1|H, R, W) int32, numbers of key blocks: first the full ones, which every query sees whole, then the
        partial ones.
    count: (1|B, 1|H, R, 2) int32, how many are full, and how many entries there are.
    mask_index: like index, the rows of `masks` for the partial ones.
    kv_len: Lk, keys.
    masks: (n, QUERIES, 2) int32, a bit for each key, lowest first, set where the query sees it; None where the ragged
        end of the keys is the only edge.
    by_mean: (1|B, 1|H, R, C) uint8, 1 for the blocks that stand for their keys by one mean each; None for none.
    """

    index: torch.Tensor
    count: torch.Tensor
    mask_index: torch.Tensor
    kv_len: int
    masks: torch.Tensor | None = None
    by_mean: torch.Tensor | None = None

    @property
    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        """Return the tensors in the order in which the operator takes them."""
        return self.index, self.count, self.mask_index, self.masks, self.by_mean


def of_blocks(
    selected: torch.Tensor, kv_len: int, means: bool = False, front: int = 0, max_blocks: int | None = None
) -> BlockLists:
    """Make the lists of whole blocks of keys.

    selected: (1|B, 1|H, R, C) bool, as patterns.blocks.select gives it.
    kv_len: keys, those in front with what fills them up among them.
    means: whether the blocks that are not selected count by their means instead of not at all.
    front: keys that stand in front of the blocks, filled up to whole blocks that every query sees.
    max_blocks: the longest row of `selected`; None asks the GPU, and waits for it.
    Raises ValueError where `selected` does not fit kv_len.
    """
    ahead = -(-front // KEYS)
    selected = F.pad(selected, (ahead, 0), value=True)
    if selected.shape[-1] != -(-kv_len // KEYS):
        raise ValueError(f"{selected.shape[-1]} blocks of keys, {kv_len} keys have {-(-kv_len // KEYS)}")
    partial = torch.zeros_like(selected)
    if kv_len % KEYS:
        partial[..., -1] = selected[..., -1]
    if front % KEYS:
        partial[..., ahead - 1] = True
    index, count = _index_and_count(selected & ~partial, partial, None if max_blocks is None else max_blocks + ahead)
    by_mean = (~selected).to(torch.uint8).contiguous() if means else None
    if not front % KEYS:
        return BlockLists(index, count, torch.zeros_like(index), kv_len, None, by_mean)
    tiles = torch.ones(2, QUERIES, KEYS, dtype=torch.bool, device=selected.device)
    tiles[1, :, front % KEYS :] = False
    return BlockLists(index, count, (index == ahead - 1).to(torch.int32), kv_len, _pack_bits(tiles), by_mean)


def of_mask(seen: Callable, q_len: int, kv_len: int, device: torch.device) -> BlockLists:
    """Make the lists of a fixed mask, the same for every head.

    seen: seen(q_idx, k_idx) -> bool, which queries see which keys, over positions that broadcast.
    Looks at every (query, key) pair once, a block of queries at a time; equal partial tiles are kept once.
    """
    known, rows = {b"\xff" * (QUERIES * KEYS // 8): 0}, []
    for row in range(-(-q_len // QUERIES)):
        tiles = tiles_of_row(seen, row, q_len, kv_len, device)
        full, partial = classify_tiles(tiles, kv_len)
        bits = _pack_bits(tiles[partial]).cpu().numpy()
        numbers = [known.setdefault(tile.tobytes(), len(known)) for tile in bits]
        rows.append((full, partial, torch.tensor(numbers, dtype=torch.int32, device=device)))
    full, partial = (torch.stack([row[i] for row in rows])[None, None] for i in (0, 1))
    index, count = _index_and_count(full, partial)
    mask_index = torch.zeros_like(index)
    for row, (_, _, numbers) in enumerate(rows):
        begin, end = count[0, 0, row].tolist()
        mask_index[0, 0, row, begin:end] = numbers
    masks = torch.frombuffer(bytearray(b"".join(known)), dtype=torch.int32).view(-1, QUERIES, 2).to(device)
    return BlockLists(index, count, mask_index, kv_len, masks)


def tiles_of_row(seen: Callable, row: int, q_len: int, kv_len: int, device: torch.device) -> torch.Tensor:
    """Cut the mask of one block of queries into tiles: (C, QUERIES, KEYS) bool. Past the ends the last token stands in.

    seen: as of of_mask.
    row: the block's number.
    """
    blocks, start = -(-kv_len // KEYS), row * QUERIES
    query = torch.arange(start, start + QUERIES, device=device).clamp(max=q_len - 1)
    key = torch.arange(blocks * KEYS, device=device).clamp(max=kv_len - 1)
    return rearrange(seen(query[:, None], key[None, :]), "q (c k) -> c q k", k=KEYS)


def classify_tiles(tiles: torch.Tensor, kv_len: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tell which tiles of a row are full and which partial, (C,) bool each. The ragged one is never full."""
    some, full = tiles.flatten(1).any(1), tiles.flatten(1).all(1)
    if kv_len % KEYS:
        full[-1] = False
    return full, some & ~full


def _pack_bits(tiles: torch.Tensor) -> torch.Tensor:
    """Pack (n, QUERIES, KEYS) bool into bits, (n, QUERIES, 2) int32, the first key lowest."""
    places = torch.arange(32, device=tiles.device)
    words = (tiles.unflatten(2, (2, 32)).to(torch.int64) << places).sum(-1)
    return torch.where(words < 1 << 31, words, words - (1 << 32)).to(torch.int32)


def _index_and_count(
    full: torch.Tensor, partial: torch.Tensor, max_blocks: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn (..., R, C) flags into BlockLists' index and count, no longer than the longest row needs."""
    rank = torch.where(full, 0, torch.where(partial, 1, 2)).to(torch.uint8)
    count = torch.stack([full.sum(-1), (full | partial).sum(-1)], dim=-1).to(torch.int32)
    width = min(max(1, int(count[..., 1].max()) if max_blocks is None else max_blocks), full.shape[-1])
    index = rank.argsort(dim=-1, stable=True)[..., :width]
    # The kernel reads as many entries as are counted: never more than there are.
    return index.to(torch.int32).contiguous(), count.clamp(max=width)
