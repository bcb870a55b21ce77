"""What attention/backends/triton/reorder.py prepares, on the CPU: `TRITON_INTERPRET=1 python triton_reorder.py`.

Writes {name of a check: whether it holds, or an error} to stdout as JSON. A process of its own; see
triton_in_interpreter.py, whose rounding to float8 it takes.
"""

from __future__ import annotations

import json
import sys

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import interpreter
from triton_cases import OLDEST, VARIANTS
from triton_in_interpreter import mean_of as block_mean
from triton_in_interpreter import round_to_float8, stored, tiled_as

from attention.backends.triton import block_lists, quantize, reorder
from attention.backends.triton.launch import attention
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.tensor_layout import dense_rows
from attention.patterns import MassBlocks, TopBlocks
from attention.patterns.blocks import pool, select_blocks, select_pooled
from attention.sparse import own_triton as engine
from benchmarks import kernel
from benchmarks.shapes import Shape

BLOCK = block_lists.KEYS
# Batch, heads, heads of keys, tokens, tokens in front, head size, how the tensors lie.
SIZES = (
    (1, 2, 1, 330, 70, 64, "own"),
    (2, 2, 2, 129, 64, 64, "heads last"),
    (1, 4, 2, 65, 3, 40, "fused"),
    (2, 1, 1, 200, 0, 128, "strided"),
    (2, 2, 1, 64, 1, 72, "expanded"),
)


def draw(batch, heads, kv_heads, tokens, front, dim, storage):
    """q, k, v, the keys and values in front, and an order."""
    torch.manual_seed(tokens)
    shapes = ((heads, tokens), (kv_heads, tokens), (kv_heads, tokens), (kv_heads, front), (kv_heads, front))
    made = [stored((torch.randn(batch, *shape, dim) + 0.5).half(), storage) for shape in shapes]
    return *made[:3], made[3:], torch.randperm(tokens).int()


def whole(x, front):
    """`front` filled up to whole blocks with zeros, and x."""
    return torch.cat([F.pad(front, (0, 0, 0, -front.shape[2] % BLOCK)), x], dim=2)


def copies(size) -> dict[str, bool]:
    """Read through the order, or reordered first: the same to the bit."""
    q, k, v, (front_k, front_v), order = draw(*size)
    q, k, v, front_k, front_v = dense_rows(q, k, v, front_k, front_v)
    moved_q, moved_k, moved_v = (t.index_select(2, order) for t in (q, k, v))
    ahead = -(-front_k.shape[2] // BLOCK)
    none, front_k, front_v = front_k.shape[2] == 0, *(None if t.shape[2] == 0 else t for t in (front_k, front_v))
    shift = quantize.mean_of(k)
    same = {"queries": equal(quantize.quantize_queries(q, 0.3, 128, order, pooled=True),
                             quantize.quantize_queries(moved_q, 0.3, 128, pooled=True))}  # fmt: skip
    made, video = (
        quantize.quantize_keys(k, shift, BLOCK, order, front_k, pooled=True),
        quantize.quantize_keys(moved_k, shift, BLOCK),
    )
    same["keys"] = torch.equal(made[0][:, :, ahead * BLOCK :], video[0]) and made[1][..., ahead:].equal(video[1])
    first = (made[0][:, :, :0], made[1][..., :0]) if none else quantize.quantize_keys(front_k, shift, BLOCK)[:2]
    same["keys in front"] = equal((made[0][:, :, : ahead * BLOCK], made[1][..., :ahead]), first)
    both = moved_v if none else whole(moved_v, front_v)
    plain, means = quantize.reorder_rows(v, BLOCK, order, front_v, torch.float32)
    same["values"] = plain[:, :, : both.shape[2]].equal(both) and not plain[:, :, both.shape[2] :].any()
    same["means of values"] = means[:, :, ahead:].allclose(pool(moved_v.float(), BLOCK)[0], atol=1e-6)
    for dtype, fp16_accumulate in ((torch.float8_e4m3fn, False), (torch.float8_e4m3fn, True), (torch.float16, True)):
        made = quantize.scale_values(v, BLOCK, dtype, order, front_v, fp16_accumulate=fp16_accumulate, pooled=True)
        first, name = (
            quantize.scale_values(both, BLOCK, dtype, fp16_accumulate=fp16_accumulate),
            f"{dtype}, {fp16_accumulate}",
        )
        same[f"values in {name}"] = equal((made[0].float(), made[1]), widened(first))
        means = pool(moved_v.float() / made[1][:, :, None, : v.shape[-1]], BLOCK)[0]
        same[f"means of values in {name}"] = made[2][:, :, ahead:].float().allclose(means, rtol=2e-3)
    return {f"{name}, {size}": held for name, held in same.items()}


def equal(some, others) -> bool:
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def widened(values):
    return values[0].float(), values[1]


def choices(size) -> dict[str, bool]:
    """Blocks chosen by the pass's own means are those that the reference chooses for keys repeated for each head.

    Rotated or not, in 16 bits too.
    """
    q, k, v, front, order = draw(*size)
    repeated = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    same, patterns = {}, (TopBlocks(keep=40), MassBlocks(mass=60))
    wanted = [select_blocks(one, q.index_select(2, order), repeated.index_select(2, order), 0.2) for one in patterns]
    for quantized, rotated in ((True, True), (True, False), (False, True)):
        ready, means = reorder.prepare(
            q, k, v, front, order, 0.2, quantized=quantized, rotated=rotated, selects=True, tail=True
        )
        same[f"choice, {quantized}, {rotated}, {size}"] = equal(
            [select_pooled(one, *means) for one in patterns], wanted
        )
    return same


def truth_of(q, k, v, front, order, kept, tail: bool):
    """Float64 attention of q[order] over `front` and the kept blocks of k[order], the others by their means if so."""
    groups = q.shape[1] // k.shape[1]
    q, k, v = (t.double().index_select(2, order) for t in (q, k, v))
    front, tokens = [t.double() for t in front], q.shape[2]
    seen = kept.repeat_interleave(block_lists.QUERIES, 2)[:, :, :tokens]
    parts_k, parts_v = [front[0], k], [front[1], v]
    ahead = torch.ones(*q.shape[:3], front[0].shape[2], dtype=torch.bool)
    masks = [ahead, seen.repeat_interleave(BLOCK, 3)[..., :tokens]]
    bias = torch.zeros(q.shape[0], 1, 1, front[0].shape[2] + tokens, dtype=torch.float64)
    if tail:
        none = torch.zeros(1, 1, 1, tokens, dtype=torch.float64)
        k_mean, v_mean, mass = zip(*(block_mean(k, v, none, at) for at in range(0, tokens, BLOCK)))
        parts_k, parts_v = [*parts_k, torch.stack(k_mean, 2)], [*parts_v, torch.stack(v_mean, 2)]
        masks, bias = [*masks, ~seen], torch.cat([bias, torch.stack(mass, -1)], -1)
    k, v = (torch.cat(part, 2).repeat_interleave(groups, 1) for part in (parts_k, parts_v))
    return scaled_dot_product_attention(q, k, v, bias.masked_fill(~torch.cat(masks, -1), -torch.inf))


def ways_of(size) -> dict:
    """VARIANTS: all of them for the first size, those of the oldest GPU for the others; and without rotation."""
    ways = {name: way for name, way in VARIANTS.items() if size == SIZES[0] or way[1] == OLDEST}
    return {**ways, "int8, not rotated": ({"quantized": True, "rotated": False}, OLDEST)}


def outputs(size) -> dict[str, float]:
    """{name: error} of attention by lists, with grouped heads, behind tokens in front."""
    q, k, v, front, order = draw(*size)
    shape, found = (q.shape[0], q.shape[1], -(-q.shape[2] // block_lists.QUERIES), -(-q.shape[2] // BLOCK)), {}
    kept = torch.rand(shape) < 0.5
    kept[..., 0] = True
    for name, (how, capability) in ways_of(size).items():
        for tail in (False, True):
            made = block_lists.of_blocks(
                kept, engine.padded_context(front[0].shape[2]) + q.shape[2], tail, front[0].shape[2]
            )
            before = [t.clone() for t in (q, k, v, *front)]
            with tiled_as(capability):
                ready, none = reorder.prepare(q, k, v, front, order, None, **how, tail=tail)
                out = reorder.attend(ready, q, made)
            error = relative_l2(out, truth_of(q, k, v, front, order, kept, tail))
            assert none is None and equal(before, (q, k, v, *front))
            found[f"{name}, tail {tail}, {size}"] = error
    return found


class Noted(TorchDispatchMode):
    """Writes down what torch itself does."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dim() == 4 and out.shape[2] >= 256:
            self.done.append(function.overloadpacket.__name__)
        return out


# How the interpreter and the launcher get at memory.
NO_COPY = ("empty", "new_empty", "transpose", "t", "view", "slice", "set_", "expand")


def copied(**how) -> list[str]:
    """What torch itself copies of the size of q, k or v in a call of an engine that chooses blocks."""
    q, k, v, front, order = draw(1, 2, 2, 330, 70, 64, "own")
    plan = engine.EnginePlan(TopBlocks(keep=30, tail=True), order, order.long().argsort(), None)
    with Noted() as noted:
        engine.run((q, k, v), front, None, plan, **how)
    return [name for name in noted.done if name not in NO_COPY]


def measured() -> bool:
    """What benchmarks/kernel.py runs: blocks chosen in the call and beforehand are the same."""
    shape = Shape("", (3, 8, 10), 2, 64)
    q, k, v = draw(1, 2, 2, 240, 1, 64, "own")[:3]
    blocks = kernel.lists_of_best(shape, q, k, 40, True)
    ours = [
        kernel.by_lists(q, k, v, shape=shape, percent=40, means=True, blocks=b, quantized=True) for b in (blocks, None)
    ]
    return torch.equal(*ours) and relative_l2(ours[0], scaled_dot_product_attention(q, k, v)) < 0.5


def rotation() -> dict[str, float]:
    """Errors of INT8 with channels six times as large as the others, rotated and not."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 128, 64) for _ in "qkv")
    for t in (q, k):
        t[..., :4] *= 6
    q, k, v = (t.half() for t in (q, k, v))
    truth = scaled_dot_product_attention(q.double(), k.double(), v.double())
    return {str(on): relative_l2(attention(q, k, v, quantized=True, rotated=on), truth) for on in (True, False)}


if __name__ == "__main__":
    interpreter._convert_float = round_to_float8(interpreter._convert_float)
    torch.set_num_threads(1)
    held = {name: one for size in SIZES for part in (copies, choices) for name, one in part(size).items()}
    errors = {name: one for size in SIZES[:3] for name, one in outputs(size).items()}
    both = [copied(quantized=quantized) for quantized in (True, False)]
    json.dump(
        {"held": held, "errors": errors, "copied": both, "rotation": rotation(), "measured": measured()}, sys.stdout
    )
