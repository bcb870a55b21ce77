"""Runs our Triton kernel on the CPU: `TRITON_INTERPRET=1 python triton_in_interpreter.py`.

Reads a JSON list of cases from stdin and writes one list of results to stdout. A process of its own, since Triton reads
TRITON_INTERPRET when it is imported. float16 and float32 only: the bfloat16 dot product of Triton 3.9's interpreter is
wrong.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from triton.runtime import interpreter
from triton_cases import VARIANTS, variants_of

from attention.backends.triton import block_lists, launch
from attention.backends.triton.launch import attention, block_attention
from attention.core.reference import relative_l2, scaled_dot_product_attention
from benchmarks.gpu.float8_rounding import round_to_float8

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def tiled_as(capability: tuple[int, int]):
    """Calls are tiled as on a GPU of that capability."""
    before, launch.INTERPRETED = launch.INTERPRETED, capability
    try:
        yield
    finally:
        launch.INTERPRETED = before


def tensors(case: dict):
    """q: (B, H, Lq, D); k, v: (B, Hkv, Lk, D) of a case, and its scale."""
    dtype, dim = getattr(torch, case["dtype"]), case["head_dim"]
    kv = (case["batch"], case["kv_heads"], case["kv_len"], dim)
    q, k, v = torch.randn(case["batch"], case["heads"], case["q_len"], dim), torch.randn(kv), torch.randn(kv)
    for t in (q, k):
        t[..., :4] *= case["outliers"]
    k += case["k_bias"] * torch.randn(1, 1, 1, dim)
    gain, scale = case["gain"], case["scale"]
    if gain != 1:
        q, k, scale = q * gain, k * gain, dim**-0.5 / gain**2
    return *(stored(t.to(dtype), case["storage"]) for t in (q, k, v)), scale


def stored(t, storage: str):
    """The values of `t` as a host may hand them over."""
    if storage == "strided":
        return torch.stack((t, t + 1), dim=-1)[..., 0]
    if storage == "heads last":
        return t.transpose(1, 2).contiguous().transpose(1, 2)
    if storage == "fused":
        return torch.cat((t, t + 1), dim=-1)[..., : t.shape[-1]]
    return t[:1].expand_as(t) if storage == "expanded" else t


def mask_of(kind: str | None, batch: int, heads: int, kv_len: int, dtype):
    """(1|B, 1|H, 1, Lk) or None."""
    shape = (batch, heads if kind == "each head" else 1, 1, kv_len)
    seen = torch.rand(shape) < 0.5
    seen[..., :2] = True
    lowest = torch.finfo(dtype).min
    if kind == "hidden row":
        seen[0] = False
    return {
        None: None,
        "bool": seen,
        "hidden row": seen,
        "additive": torch.randn(shape).to(dtype),
        "each head": torch.randn(shape).to(dtype),
        "lowest": torch.zeros(shape, dtype=dtype).masked_fill(~seen, lowest),
        "all lowest": torch.full(shape, lowest, dtype=dtype),
    }[kind]


def band(q_idx, k_idx):
    """A mask with whole, partial and empty tiles at these sizes."""
    return (q_idx // 7 - k_idx // 7).abs() < 12


def blocks_of(kind: str | None, case: dict, mask):
    """The BlockLists of a case, and as truth: seen (1|B, 1|H, Lq, Lk), and the blocks that count by their means."""
    q_len, kv_len = case["q_len"], case["kv_len"]
    if kind is None:
        return None, None, None, mask
    if kind == "fixed mask":
        seen = band(torch.arange(q_len)[:, None], torch.arange(kv_len)[None, :])[None, None]
        return block_lists.of_mask(band, q_len, kv_len, torch.get_default_device()), seen, None, mask
    rows, columns = -(-q_len // block_lists.QUERIES), -(-kv_len // block_lists.KEYS)
    kept = torch.rand(case["batch"], case["heads"], rows, columns) < 0.5
    kept[..., -1] |= torch.rand(kept.shape[:-1]) < 0.5  # the ragged one, often
    if kind == "none for some":
        kept[:, 0, 0] = False
    if kind == "means and bias":
        mask = torch.randn(case["batch"], 1, 1, kv_len).to(getattr(torch, case["dtype"]))
    if kind == "means of hidden":
        mask = (torch.arange(kv_len) >= block_lists.KEYS + 5)[None, None, None]
    seen = kept.repeat_interleave(block_lists.QUERIES, 2)[:, :, :q_len].repeat_interleave(block_lists.KEYS, 3)[
        ..., :kv_len
    ]
    means = kind.startswith("means")
    by_mean = ~kept.repeat_interleave(block_lists.QUERIES, 2)[:, :, :q_len] if means else None
    return block_lists.of_blocks(kept, kv_len, means), seen, by_mean, mask


def truth_of(q, k, v, mask, scale, seen, by_mean):
    """Float64: keys under `seen` and `mask`, and one mean key and value for each block that `left` names."""
    q, k, v = q.double(), k.double(), v.double()
    bias = torch.zeros(1, 1, 1, k.shape[2], dtype=torch.float64)
    if mask is not None:
        bias = bias.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask.double()
    if by_mean is not None:
        k_mean, v_mean, mass = zip(*(mean_of(k, v, bias, at) for at in range(0, k.shape[2], block_lists.KEYS)))
        bias = torch.cat([bias.expand(k.shape[0], 1, 1, -1), torch.stack(mass, -1)], dim=-1)
        k, v = torch.cat([k, torch.stack(k_mean, 2)], dim=2), torch.cat([v, torch.stack(v_mean, 2)], dim=2)
        seen = torch.cat([seen, by_mean], dim=-1)
    if seen is not None:
        bias = bias.masked_fill(~seen, -torch.inf)
    return scaled_dot_product_attention(q, k, v, bias, scale)


def mean_of(k, v, bias, at: int):
    """Mean key and value (B, Hkv, D) of one block by the weight of its keys, and log of its whole weight (B, 1, 1)."""
    block = slice(at, at + block_lists.KEYS)
    weights = bias[..., block].exp().transpose(-2, -1)
    mass = weights.sum(dim=2)
    means = ((t[:, :, block] * weights).sum(dim=2) / mass.clamp(min=1e-300) for t in (k, v))
    return *means, mass.log().expand(k.shape[0], 1, 1)


def run(case: dict) -> dict:
    """{variant: error, gain, ...} of the kernel's variants."""
    torch.manual_seed(0)
    q, k, v, scale = tensors(case)
    mask = mask_of(case["mask"], case["batch"], case["heads"], case["kv_len"], q.dtype)
    blocks, seen, by_mean, mask = blocks_of(case["blocks"], case, mask)
    inputs = [t for t in (q, k, v, mask) if t is not None]
    before = [t.clone() for t in inputs]
    truth = truth_of(q, k, v, mask, scale, seen, by_mean)
    results = {"shape": list(q.shape), "zero_rows": (truth == 0).all(-1).sum().item()}
    for name in variants_of(case):
        how, capability = VARIANTS[name]
        with tiled_as(capability):
            out = attention(q, k, v, mask, scale, blocks=blocks, **how)
        results[name] = {
            "error": relative_l2(out, truth),
            # The factor that brings `out` closest to the truth: 1 when only noise was added.
            "gain": (out.double().flatten() @ truth.flatten() / truth.square().sum()).item(),
            "finite": out.isfinite().all().item(),
            "zeros_agree": torch.equal((out == 0).all(-1), (truth == 0).all(-1)),
            "shape": list(out.shape),
            "dtype": str(out.dtype).removeprefix("torch."),
            "tokens_dense": out.transpose(1, 2).is_contiguous(),
        }
    results["unchanged"] = all(torch.equal(a, b) for a, b in zip(before, inputs))
    return results


def extras() -> dict:
    """What is asked of one call alone."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 130, 64).half() for _ in range(3))
    first, second = (attention(q, k, v, quantized=True) for _ in range(2))
    compiled = torch.compile(lambda *t: attention(*t, quantized=True), fullgraph=True, backend="aot_eager")
    checks = torch.library.opcheck(block_attention, (q, k, v, None, 0.125, True, False, True, *(None,) * 5))
    huge = [q * 60, k * 60, v * 1000]  # scores up to 1e4: no INT8 kernel can tell near ties apart
    in_int8 = attention(*huge, quantized=True)
    return {
        "same": torch.equal(first, second),
        "compiled": torch.equal(compiled(q, k, v), first),
        "operator": sorted(set(checks.values())),
        "huge_int8_finite": in_int8.isfinite().all().item(),
        "huge_int8_over_largest_v": (in_int8.abs().max() / huge[2].abs().max()).item(),
        "huge_half": relative_l2(
            attention(*huge, quantized=False), scaled_dot_product_attention(*(t.double() for t in huge))
        ),
        "means": means_against_nothing(),
        "float8_of_neighbours": float8_of_neighbours(),
        "largest": {name: with_largest_values(name) for name in VARIANTS},
        "second_import": second_import(q, k, v, first),
    }


def second_import(q, k, v, first) -> list[bool]:
    """Whether both copies answer alike after the pack is imported again under another name, as ComfyUI does."""
    spec = importlib.util.spec_from_file_location("other-name", ROOT / "attention" / "__init__.py")
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    other = importlib.import_module("other-name.backends.triton.launch").attention
    return [torch.equal(one(q, k, v, quantized=True), first) for one in (other, attention)]


def means_against_nothing() -> list[float]:
    """Error against dense attention where half of the blocks are left out, and where their means stand for them.

    Keys of a block are alike, as neighbours in a video are.
    """
    torch.manual_seed(0)
    q = torch.randn(1, 1, 128, 64)
    k, v = (
        torch.randn(1, 1, 8, 64).repeat_interleave(block_lists.KEYS, 2) + 0.3 * torch.randn(1, 1, 512, 64) for _ in "kv"
    )
    q, k, v = (t.half() for t in (q, k, v))
    truth = scaled_dot_product_attention(q.double(), k.double(), v.double())
    kept = torch.arange(8)[None, None, None] % 2 == 0
    blocks = [block_lists.of_blocks(kept, 512, means) for means in (False, True)]
    return [relative_l2(attention(q, k, v, quantized=False, blocks=one), truth) for one in blocks]


def with_largest_values(name: str) -> float:
    """Error where every value is near float16's largest and all keys count alike: where float16 sums could overflow."""
    torch.manual_seed(0)
    q, k = (0.01 * torch.randn(1, 1, 200, 64) for _ in "qk")
    v = torch.full((1, 1, 200, 64), 0.9 * torch.finfo(torch.float16).max)
    v[..., ::2] *= -1
    q, k, v = (t.half() for t in (q, k, v))
    how, capability = VARIANTS[name]
    with tiled_as(capability):
        out = attention(q, k, v, **how)
    return relative_l2(out, scaled_dot_product_attention(q.double(), k.double(), v.double()))


def float8_of_neighbours() -> float:
    """Error with float8 where neighbouring tokens are alike and look at each other, as in a video."""
    torch.manual_seed(0)
    alike = torch.randn(1, 2, 12, 64).repeat_interleave(32, 2)
    q, k = (alike + 0.5 * torch.randn(1, 2, 384, 64) for _ in "qk")
    v = torch.randn(1, 2, 12, 64).repeat_interleave(32, 2) + 0.5 * torch.randn(1, 2, 384, 64)
    q, k, v = (t.half() for t in (q, k, v))
    truth = scaled_dot_product_attention(q.double(), k.double(), v.double())
    return relative_l2(attention(q, k, v, quantized=True, float8=True), truth)


if __name__ == "__main__":
    interpreter._convert_float = round_to_float8(interpreter._convert_float)
    torch.set_num_threads(1)
    json.dump({"cases": [run(case) for case in json.load(sys.stdin)], "extras": extras()}, sys.stdout)
