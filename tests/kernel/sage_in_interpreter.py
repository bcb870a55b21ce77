"""Runs SageAttention 1's own Triton kernels on the CPU: `TRITON_INTERPRET=1 python -O sage_in_interpreter.py`.

Reads a JSON list of cases from stdin and writes one list of results to stdout. -O drops the package's assertion that
the tensors are on CUDA and nothing else that matters here; so this file must not assert either. A process of its own,
since Triton reads TRITON_INTERPRET when it is imported. float16 and float32 only: the interpreter's bfloat16 dot
product of Triton 3.9 is wrong.
"""

from __future__ import annotations

import json
import sys

import torch
from sageattention import sageattn

from attention.backends import sage
from attention.core.reference import relative_l2, scaled_dot_product_attention


def run(case: dict) -> dict:
    """Error against float64 and what became of the caller's keys, for our adapter around the real kernel."""
    dtype = getattr(torch, case["dtype"])
    kv = (case["batch"], case["kv_heads"], case["kv_len"], case["head_dim"])
    q = torch.randn(case["batch"], case["heads"], case["q_len"], case["head_dim"]).to(dtype)
    # A component that all keys share: what the smoothing, and so the writing into K, is for.
    k = (torch.randn(kv) + 3 * torch.randn(1, 1, 1, case["head_dim"])).to(dtype)
    v = torch.randn(kv).to(dtype)
    if case["storage"] == "strided":
        q, k, v = (torch.stack((t, t + 1), dim=-1)[..., 0] for t in (q, k, v))
    if case["storage"] == "heads last":
        q, k, v = (t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v))
    before = [t.clone() for t in (q, k, v)]
    truth = scaled_dot_product_attention(*(t.double() for t in before), scale=case["scale"])
    out = sage.kernel_v1(sageattn)(q, k, v, scale=case["scale"])
    unchanged = all(torch.equal(a, b) for a, b in zip(before, (q, k, v)))
    dense = [t.clone(memory_format=torch.contiguous_format) for t in before]
    sageattn(*dense, tensor_layout="HND", sm_scale=case["scale"])
    return {
        "error": relative_l2(out, truth),
        # The factor that brings `out` closest to the truth: 1 when only noise was added.
        "gain": (out.double().flatten() @ truth.flatten() / truth.square().sum()).item(),
        "unchanged": unchanged,
        "bare_call_writes_k": not torch.equal(dense[1], before[1]),
        "shape": list(out.shape),
        "dtype": str(out.dtype),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump([run(case) for case in json.load(sys.stdin)], sys.stdout)
