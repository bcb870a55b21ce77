"""Calls of our Triton kernel, as data: what runs in the interpreter and what is asked of it."""

from __future__ import annotations

# The error that INT8 scores and halves may cost, relative L2 against float64 with the same tensors.
INT8, HALF = 0.02, 2e-3
# Weights and values of 4 significant bits: 0.026 from each of them where values are independent, and that is the worst.
FLOAT8 = 0.04
OLDEST = (8, 0)
# How to call the kernel, and the GPU whose tiling it takes: 8.6 sums values in float16, 9.0 adds them a step later and
# has other tiles, gfx942 and gfx1100 have tiles of half a
# list's blocks, and gfx1100 of 16 means.
VARIANTS = {
    "int8": ({"quantized": True}, OLDEST),
    "half": ({"quantized": False}, OLDEST),
    "int8, float16 sums": ({"quantized": True}, (8, 6)),
    "int8, pipelined": ({"quantized": True}, (9, 0)),
    "half, pipelined": ({"quantized": False}, (9, 0)),
    "int8, half blocks": ({"quantized": True}, "gfx942"),
    "half, half blocks": ({"quantized": False}, "gfx1100"),
    "float8": ({"quantized": True, "float8": True}, OLDEST),
    "float8, float16 sums": ({"quantized": True, "float8": True}, (8, 9)),
    "float8, pipelined": ({"quantized": True, "float8": True}, (9, 0)),
}
BASE = {
    "batch": 1,
    "heads": 1,
    "kv_heads": 1,
    "q_len": 70,
    "kv_len": 130,
    "head_dim": 64,
    "dtype": "float16",
    "scale": None,
    "storage": "own",
    "mask": None,
    "blocks": None,
    # Whether weights and values in float8 are tried as well, and all ways of a newer GPU.
    "float8": False,
    # Times q and k, with the scale less by the same: scores stay, Q K^T leaves float16.
    "gain": 1.0,
    # Times four channels of q and of k, and a component that all keys share.
    "outliers": 1.0,
    "k_bias": 0.0,
}
LENGTHS = (1, 63, 64, 65, 77, 126, 257, 333)
STORAGES = ("strided", "heads last", "fused", "expanded")
MASKS = ("bool", "additive", "lowest", "each head", "hidden row", "all lowest")
BLOCKS = ("fixed mask", "each head", "none for some", "means", "means and bias", "means of hidden")

SMALL_LISTS = {"batch": 2, "heads": 2, "kv_heads": 1, "q_len": 140, "kv_len": 200}

CASES = (
    {"float8": True},
    *({"kv_len": n} for n in LENGTHS),
    {"q_len": 64, "kv_len": 1000},
    {"q_len": 1000, "kv_len": 64},
    {"q_len": 1, "heads": 16, "kv_heads": 4},  # many heads: one row's error alone is a matter of luck
    *({"head_dim": d, "kv_len": 77} for d in (8, 40, 72, 96, 128)),
    {"head_dim": 128, "q_len": 130, "kv_len": 257, "float8": True},
    {"head_dim": 72, "heads": 4, "kv_heads": 2, "kv_len": 333, "storage": "strided", "float8": True},
    {"mask": "hidden row", "batch": 2, "kv_len": 77, "float8": True},
    {"blocks": "fixed mask", "q_len": 140, "kv_len": 200, "float8": True},
    {"blocks": "means", "heads": 2, "q_len": 140, "kv_len": 200, "float8": True},
    {"batch": 2, "heads": 6, "kv_heads": 2, "kv_len": 77},
    {"heads": 4, "kv_heads": 1},
    {"dtype": "float32"},
    {"scale": 0.05},
    {"scale": 1.0, "head_dim": 8},
    *({"storage": storage, "batch": 2, "heads": 2, "kv_heads": 2, "kv_len": 65} for storage in STORAGES),
    {"outliers": 6.0},
    {"outliers": 6.0, "head_dim": 128, "kv_len": 333},
    {"k_bias": 5.0},
    {"gain": 60.0},
    {"gain": 1e-4, "dtype": "float32"},
    *({"mask": mask, "batch": 2, "heads": 2, "kv_heads": 1, "kv_len": 77} for mask in MASKS),
    *({"blocks": blocks, **SMALL_LISTS} for blocks in BLOCKS),
    {"blocks": "each head", "q_len": 128, "kv_len": 192, "head_dim": 128},
    {"blocks": "means", "heads": 2, "q_len": 130, "kv_len": 200, "head_dim": 72},
)


def name_of(case: dict) -> str:
    return ", ".join(f"{key} {value}" for key, value in case.items()) or "plain"


def variants_of(case: dict) -> list[str]:
    """Names of the VARIANTS that a case of BASE is tried with."""
    names = list(VARIANTS)
    if not case["float8"]:
        names = [name for name in names if not name.startswith(("float8", "half, pipelined"))]
        names = [name for name in names if case["blocks"] or "half blocks" not in name]
    return [name for name in names if name != "half, half blocks" or case["head_dim"] <= 64]  # RDNA 3 has none above


def bound_of(variant: str) -> float:
    """The error that a variant may have."""
    return {"int8": INT8, "half": HALF, "float8": FLOAT8}[variant.split(",")[0]]
