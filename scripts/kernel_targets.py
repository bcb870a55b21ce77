"""What compile_kernels.py compiles: each GPU generation and way to call our Triton kernel, by name."""

from __future__ import annotations

from dataclasses import dataclass

from attention.backends.triton.block_lists import KEYS
from attention.backends.triton.quantize import ROWS
from attention.backends.triton.tiling import AMD, AMD_FLOAT8, has_row

ARCHITECTURES = (80, 86, 89, 90, 100, 120)
WITH_FLOAT8 = (89, 90, 100, 120)
WITH_FP16_ACCUMULATE = (86, 89, 120)
HEAD_DIMS = (64, 128)
# Those of AMD that are compiled in every way; the others take the same cuts, and are compiled where registers are
# scarcest.
EVERY_WAY_OF_AMD = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201")
# Which optional tensors of `attend` a way to call it has.
FEATURES = {
    "bias": ("BIAS",),
    "listed": ("LIST", "COUNT", "MASK_INDEX"),
    "masks": ("MASKS",),
    "means": ("BY_MEAN", "K_POOL", "K_POOL_SCALE", "V_POOL", "POOL_BIAS"),
}
WAYS = {
    "dense": (),
    "key mask": ("bias",),
    "lists": ("listed",),
    "lists, masks": ("listed", "masks"),
    "lists, means": ("listed", "means"),
    "lists, masks, means": ("listed", "masks", "means"),
}
# The ways that take most registers.
FULLEST = ("dense", "lists, masks", "lists, masks, means")
# What prepares the tensors: the function, whether for INT8 scores, and what is fixed besides the head size; a size that
# is left open is that of the kernel's tiles. The ways in order read through an index and write means: reorder.py.
AS_IT_STANDS, IN_ORDER = {"ORDER": None, "POOL": None}, {"ROWS": KEYS}
PREPARING = {
    "quantise": ("quantize", True, {**AS_IT_STANDS, "ROWS": ROWS, "EACH_ROW": False}),
    "pool": ("pool_kv", False, {"BIAS": None, "N": None}),
    "quantise queries in order": ("quantize", True, {"MEAN": None, "ROWS": ROWS, "EACH_ROW": True}),
    "quantise keys in order": ("quantize", True, {**IN_ORDER, "EACH_ROW": False}),
    "quantise keys in order, not rotated": ("quantize", True, {**IN_ORDER, "HADAMARD": None, "EACH_ROW": False}),
    "move in order": ("reorder_rows", False, {**IN_ORDER, "SCALE": None}),
}
# Values whose sums are float16.
FOR_FP16_ACCUMULATE = {
    "scale": ("reorder_rows", False, {**AS_IT_STANDS, "ROWS": None}),
    "scale in order": ("reorder_rows", False, IN_ORDER),
}
FOR_FLOAT8 = {
    "turn": ("transpose_v", False, {**AS_IT_STANDS, "ROWS": None}),
    "turn in order": ("transpose_v", False, IN_ORDER),
}
PREPARED = PREPARING | FOR_FLOAT8 | FOR_FP16_ACCUMULATE


@dataclass(frozen=True)
class Target:
    """One row of the table.

    architecture: 90 for sm_90, or AMD's name.
    way: of WAYS, or what prepares for it, of PREPARED.
    quantized: whether scores are INT8.
    head_dim: D.
    dtype: of q, k and v, as Triton names it.
    float8: whether weights and values have 8 bits.
    """

    architecture: int | str
    way: str
    quantized: bool
    head_dim: int
    dtype: str = "fp16"
    float8: bool = False

    @property
    def accumulates_fp16(self) -> bool:
        """Whether the kernel's values are float16 over a scale."""
        return self.way in WAYS and self.quantized and not self.float8 and self.architecture in WITH_FP16_ACCUMULATE

    @property
    def name(self) -> str:
        values = "float8" if self.float8 else {"fp16": "float16", "bf16": "bfloat16"}[self.dtype]
        kind = values if not self.quantized else "int8" if values == "float16" else f"int8 and {values}"
        return f"{'' if self.amd else 'sm_'}{self.architecture}, {self.way}, {kind}, head size {self.head_dim}"

    @property
    def amd(self) -> bool:
        """Whether it is for a GPU of AMD's."""
        return isinstance(self.architecture, str)

    @property
    def gpu(self) -> tuple[int, int] | str:
        """The GPU as tiling_for wants it."""
        return self.architecture if self.amd else divmod(self.architecture, 10)


def targets() -> list[Target]:
    """List every way with float16; bfloat16, which takes the same instructions, where registers are scarcest."""
    every = [Target(a, way, q, d) for a in ARCHITECTURES for way in WAYS for q in (True, False) for d in HEAD_DIMS]
    every += [Target(a, way, q, d) for a in ARCHITECTURES for way, (_, q, _) in PREPARING.items() for d in HEAD_DIMS]
    every += [Target(a, way, False, d) for a in WITH_FLOAT8 for way in FOR_FLOAT8 for d in HEAD_DIMS]
    every += [Target(a, way, False, d) for a in WITH_FP16_ACCUMULATE for way in FOR_FP16_ACCUMULATE for d in HEAD_DIMS]
    small = [Target(a, way, True, d, "bf16", True) for a in WITH_FLOAT8 for way in FULLEST for d in HEAD_DIMS]
    filled = [Target(a, "dense", q, 96) for a in ARCHITECTURES for q in (True, False)]
    scarce = [Target(a, way, q, 128, "bf16") for a in (90, 120) for way in FULLEST for q in (True, False)]
    halves = [Target(a, "dense", False, 128, "bf16") for a in (80, 86, 89, 100)]
    return [*every, *small, *filled, *scarce, *halves, *targets_of_amd()]


def targets_of_amd() -> list[Target]:
    """List every way with float16 of those in EVERY_WAY_OF_AMD, and of all where registers are scarcest.

    Chosen blocks without means or masks are a part of those with. Ways that are refused have no row.
    """
    ways = ("dense", "key mask", "lists, masks", "lists, masks, means")
    found = [Target(a, way, q, d) for a in EVERY_WAY_OF_AMD for way in ways for q in (True, False) for d in HEAD_DIMS]
    dims = {a: (128,) if a in EVERY_WAY_OF_AMD else HEAD_DIMS for a in AMD}
    found += [Target(a, FULLEST[-1], q, d, "bf16") for a in AMD for q in (True, False) for d in dims[a]]
    found += [Target(a, "dense", q, 96, "bf16") for a in ("gfx942", "gfx1100", "gfx1201") for q in (True, False)]
    found += [Target("gfx1151", "dense", q, d) for q in (True, False) for d in HEAD_DIMS]
    found += [Target(a, FULLEST[-1], True, 128, "bf16", True) for a in AMD_FLOAT8]
    found += [Target(a, "dense", True, d, "bf16", True) for a in AMD_FLOAT8 for d in HEAD_DIMS]
    found += [Target(a, way, q, 128, "bf16") for a in EVERY_WAY_OF_AMD for way, (_, q, _) in PREPARING.items()]
    found += [Target(a, "turn in order", False, 128, "bf16") for a in EVERY_WAY_OF_AMD if a in AMD_FLOAT8]
    return [t for t in found if t.way in PREPARED or has_row(t.architecture, t.quantized, t.head_dim)]
