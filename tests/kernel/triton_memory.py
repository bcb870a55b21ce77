"""Our Triton kernel at sizes that meet every edge, each address checked: `TRITON_INTERPRET=1 python triton_memory.py`.

Writes to stdout, as JSON, what was wrong with how many calls, and which lines reached memory. A process of its own; see
triton_in_interpreter.py and checked_memory.py.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from dataclasses import replace
from functools import partial

import checked_memory
import torch
from triton.runtime import interpreter
from triton_in_interpreter import band, mask_of, round_to_float8, stored, tiled_as

from attention.backends.triton import block_lists, device, launch, reorder, tiling, transforms

LENGTHS = (1, 2, 63, 64, 65, 127, 128, 129, 191, 193)
HEADS = (8, 40, 64, 72, 96, 128)
STORAGES = ("own", "heads last", "at the end", "all in one", "expanded")
MASKS = (None, "bool", "each head", "additive", "hidden row")
# Tokens and tokens in front.
IN_FRONT = ((1, 0), (2, 1), (63, 64), (65, 65), (129, 63), (193, 0), (127, 129), (64, 2))
HOW = {"int8": {"quantized": True}, "half": {"quantized": False}, "float8": {"quantized": True, "float8": True}}


def drawn(batch: int, heads: int, length: int, dim: int, storage: str):
    """(B, H, L, D) float16; "at the end" and "all in one" end with their memory's last byte, as v of one q, k, v."""
    t = torch.randn(batch, heads, length, dim).half()
    if storage == "at the end":
        return torch.cat((t, t), dim=-1)[..., dim:]
    if storage == "all in one":
        return (
            torch.cat([t.transpose(1, 2).flatten(2)] * 3, dim=-1)[..., 2 * heads * dim :]
            .unflatten(-1, (heads, dim))
            .transpose(1, 2)
        )
    return stored(t, storage)


def dense(number: int, how: dict) -> None:
    """One call with grouped heads; its sizes, storages and mask follow from its number."""
    q_len, kv_len = LENGTHS[(3 * number + 1) % len(LENGTHS)], LENGTHS[number % len(LENGTHS)]
    dim, storage = HEADS[number % len(HEADS)], STORAGES[number % len(STORAGES)]
    batch, heads = ((2, 2), (1, 4))[number // 2 % 2]
    q, k, v = (drawn(batch, n, length, dim, storage) for n, length in ((heads, q_len), *[(heads // 2, kv_len)] * 2))
    mask = mask_of(MASKS[number % len(MASKS)], batch, heads, kv_len, q.dtype)
    launch.attention(q, k, v, mask, **how)


def listed(number: int, how: dict) -> None:
    """Lists of a mask, of nothing, of all blocks or of some, with the means of the others and without."""
    q_len, kv_len = LENGTHS[(7 * number + 2) % len(LENGTHS)], LENGTHS[number % len(LENGTHS)]
    dim, kind = (
        HEADS[number % len(HEADS)],
        ("means and mask", "means", "band", "some", "all", "nothing")[number % 7 % 6],
    )
    q, k, v = (drawn(2, n, length, dim, "at the end") for n, length in ((2, q_len), (1, kv_len), (1, kv_len)))
    if kind in ("band", "nothing"):
        seen = band if kind == "band" else (lambda query, key: (query < 0) & (key < 0))
        made = block_lists.of_mask(seen, q_len, kv_len, q.device)
    else:
        kept = torch.rand(2, 2, -(-q_len // block_lists.QUERIES), -(-kv_len // block_lists.KEYS)) < 0.5
        made = block_lists.of_blocks(kept | (kind == "all"), kv_len, kind.startswith("means"))
    launch.attention(q, k, v, mask_of("bool", 2, 2, kv_len, q.dtype) if "mask" in kind else None, blocks=made, **how)


def in_order(number: int, how: dict) -> None:
    """Read through an order, behind tokens in front, with means for a choice and for what is left out."""
    tokens, front = IN_FRONT[number % len(IN_FRONT)]
    shapes = (2, tokens), (1, tokens), (1, tokens), (1, front), (1, front)
    storage, dim = ("at the end", "expanded", "heads last")[number % 3], HEADS[number % len(HEADS)]
    q, k, v, *ahead = (drawn(2, *shape, dim, storage) for shape in shapes)
    kept = torch.rand(2, 2, -(-tokens // block_lists.QUERIES), -(-tokens // block_lists.KEYS)) < 0.5
    tail, blocks = number % 2 == 0, -(-front // block_lists.KEYS) * block_lists.KEYS
    order = torch.randperm(tokens).int() if number % 4 else None
    ready, _ = reorder.prepare(q, k, v, ahead, order, None, **how, selects=number % 3 > 0, tail=tail)
    reorder.attend(ready, q, block_lists.of_blocks(kept, blocks + tokens, tail, front))


CALLS = [(kind, number) for kind, count in ((dense, 10), (listed, 14), (in_order, 12)) for number in range(count)]


def alike(since, kind, dim: int, quantized: bool) -> str:
    """How calls are tiled, as far as the interpreter can tell."""
    ways = ({"bias": bias, "listed": kind is not dense} for bias in (False, True))
    cuts = (tiling.tiling_for(since, quantized, dim, **way) for way in ways)
    return repr([replace(cut, warps=0, stages=0, waves_per_eu=0) for cut in cuts])


def calls(every: bool = False):
    """(name, capability, function): every call, tiled as on one generation, in turn those that differ; or on each."""
    for kind, number in CALLS:
        for name, how in HOW.items():
            ways = {}
            dim = HEADS[number % len(HEADS)]
            for since in (*sorted({since for since, *_ in tiling.TILINGS}), *tiling.AMD):
                if since in tiling.AMD and not tiling.has_row(since, how["quantized"], dim):
                    continue
                ways.setdefault(alike(since, kind, dim, how["quantized"]), since)
            ways = list(ways.values())
            for since in ways if every else [ways[number % len(ways)]]:
                yield f"{kind.__name__} {number}, {name}, {since}", since, partial(kind, number, how)


def failure(since, call) -> str | None:
    """What the checks say of one call; None: nothing."""
    torch.manual_seed(0)
    try:
        with tiled_as(since):
            call()
    except AssertionError as error:
        return str(error)
    return None


def lines() -> list[str]:
    """Where device.py and transforms.py reach memory."""
    found = []
    for module in (device, transforms):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("tl.load", "tl.store"):
                found.append(f"{module.__name__.rpartition('.')[2]}.py:{node.lineno}")
    return sorted(set(found))


def claimed(*shape: int, dtype=torch.float16):
    """A tensor of a size that nobody has memory for."""
    return torch.empty(shape, dtype=dtype, device="meta")


def video(kind: str, batch: int, heads: int, kv_heads: int, tokens: int, dim: int):
    """q, k, v as hosts hand them over."""
    if kind == "own":
        return [claimed(batch, n, tokens, dim) for n in (heads, kv_heads, kv_heads)]
    if kind == "all in one":
        made = claimed(batch, tokens, (heads + 2 * kv_heads) * dim).unflatten(-1, (-1, dim)).transpose(1, 2)
        return made.split((heads, kv_heads, kv_heads), dim=1)
    # Attention over frames, each place a batch of its own: tokens stand far apart.
    made = claimed(tokens, batch, heads * dim).transpose(0, 1).unflatten(-1, (heads, dim)).transpose(1, 2)
    return made, made[:, :kv_heads], made[:, :kv_heads]


def huge(size, mask: int, how: dict) -> None:
    """A dense call. mask: its heads."""
    q, k, v = video(*size)
    bias = launch.bias_of(claimed(q.shape[0], mask, 1, k.shape[2])) if mask else None
    launch.run(q, k, v, bias, 0.1, how["quantized"], how.get("float8", False), True, *(None,) * 5)


def huge_lists(size, front: int, how: dict) -> None:
    """Lists of each head as wide as they can be; read behind `front` tokens, or through an order, where there are."""
    (_, batch, heads, kv_heads, tokens, dim), integers = size, {"dtype": torch.int32}
    q, k, v = video(*size)
    ahead, masks = -(-front // block_lists.KEYS), 60000
    rows, tiles = -(-tokens // block_lists.QUERIES), ahead - (-tokens // block_lists.KEYS)
    tables = [claimed(batch, heads, rows, width, **integers) for width in (tiles, 2, tiles)]
    made = block_lists.BlockLists(*tables, ahead * block_lists.KEYS + tokens,
                             claimed(masks, block_lists.QUERIES, 2, **integers),
                       claimed(batch, heads, rows, tiles, dtype=torch.uint8))  # fmt: skip
    checked_memory.STATE.values = {
        "LIST": (tiles - 1,), "MASK_INDEX": (masks - 1,), "BY_MEAN": (1,), "ORDER": (0, tokens - 1),
        "COUNT": (0 if tokens % block_lists.KEYS else tiles // 2, tiles),
    }  # fmt: skip
    if not front:
        return launch.run(q, k, v, None, 0.1, how["quantized"], how.get("float8", False), True, *made.tensors)
    order = claimed(tokens, **integers) if front % block_lists.KEYS else None
    ahead = claimed(batch, kv_heads, front, dim), claimed(batch, kv_heads, front, dim)
    ready, _ = reorder.prepare(q, k, v, ahead, order, None, **how, selects=True, tail=True)
    reorder.attend(ready, q, made)


MANY = 1 << 18
# How the tensors lie, batch, heads, heads of keys, tokens, head size: up to 2**33 elements of q alone, and lists of
# 4096 blocks; then heads of the mask, or tokens in front.
LARGEST = [
    (huge, ("own", 2, 64, 64, MANY, 128), 64),
    (huge, ("own", 2, 256, 256, MANY - 1, 128), 0),
    (huge, ("own", 1, 1, 1, 1 << 23, 128), 1),
    (huge, ("all in one", 16, 16, 8, MANY - 1, 128), 1),
    (huge, ("all in one", 2, 64, 8, MANY, 72), 0),
    (huge, ("frames", 1 << 13, 64, 64, 129, 128), 1),
    (huge, ("frames", 1 << 15, 64, 64, 1, 128), 0),
    (huge_lists, ("own", 2, 64, 64, MANY - 1, 128), 0),
    (huge_lists, ("all in one", 2, 64, 64, MANY, 72), 0),
    (huge_lists, ("all in one", 2, 64, 64, MANY, 128), 1001),
    (huge_lists, ("all in one", 2, 64, 64, MANY - 1, 128), block_lists.KEYS),
    (huge_lists, ("frames", 1 << 14, 64, 64, 65, 128), 1),
]


def large_calls():
    """(name, capability, function) of the largest calls, without their memory."""
    for number, (kind, size, more) in enumerate(LARGEST):
        since = ((9, 0), (8, 6), (12, 0), (8, 0))[number % 4]
        for name, how in HOW.items():
            yield f"{kind.__name__} {size}, {more}, {name}, {since}", since, partial(kind, size, more, how)


def result(some) -> dict:
    done = {name: failure(since, call) for name, since, call in some}
    return {"calls": len(done), "wrong": {name: one for name, one in done.items() if one}}


def start() -> None:
    interpreter._convert_float = round_to_float8(interpreter._convert_float)
    checked_memory.switch_on()
    torch.set_num_threads(1)


if __name__ == "__main__":
    start()
    edges = {**result(calls("--every" in sys.argv)), "seen": sorted(checked_memory.STATE.seen), "lines": lines()}
    json.dump({"edges": edges, "largest": result(large_calls())}, sys.stdout)
