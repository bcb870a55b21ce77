"""The geometry of one attention call: what backends decide by, never the tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .gpu import amd_of, capability_of

MASKS = ("none", "key", "dense")


@dataclass(frozen=True)
class Geometry:
    """Holds everything a backend may ask about one call of softmax(scale * Q K^T + mask) V.

    batch: entries of q, k and v.
    heads: of q, (batch, heads, q_len, head_dim).
    kv_heads: of k and v, (batch, kv_heads, kv_len, head_dim).
    q_len: tokens that are queries.
    kv_len: tokens that are keys.
    head_dim: numbers of a token in one head.
    dtype: of the arithmetic: the tensors' own, or the wider one that the caller asks for.
    device: torch's type of it, "cuda" or "cpu".
    mask: one of MASKS; "key": the same keys are hidden from every query.
    scale: factor of the scores; None: head_dim ** -0.5.
    low_precision: False where the caller forbids quantised or approximate kernels.
    high_precision: True where the caller asks for wider arithmetic than its tensors'.
    capability: CUDA compute capability (major, minor), None elsewhere.
    grad: True where a gradient will be asked for (training nodes).
    amd: architecture of an AMD GPU, as gfx1100; None elsewhere.
    """

    batch: int
    heads: int
    kv_heads: int
    q_len: int
    kv_len: int
    head_dim: int
    dtype: torch.dtype
    device: str
    mask: str = "none"
    scale: float | None = None
    low_precision: bool = True
    high_precision: bool = False
    capability: tuple[int, int] | None = None
    grad: bool = False
    amd: str | None = None

    @property
    def shape_text(self) -> str:
        """Return the shapes in words: `2x32 heads, 6144x6144 tokens, head size 128, bfloat16`."""
        kv = "" if self.kv_heads == self.heads else f" ({self.kv_heads} key heads)"
        return (
            f"{self.batch}x{self.heads} heads{kv}, {self.q_len}x{self.kv_len} tokens, "
            f"head size {self.head_dim}, {str(self.dtype).removeprefix('torch.')}"
        )


def mask_kind(mask: torch.Tensor | None) -> str:
    """Return which of MASKS a mask is.

    mask: (1|B, 1|H, 1|Lq, Lk), or None.
    """
    if mask is None:
        return "none"
    return "key" if mask.shape[-2] == 1 else "dense"


def describe(q, k, v, mask=None, *, scale=None, low_precision=True, precision: torch.dtype | None = None) -> Geometry:
    """Return the Geometry of a call.

    q: (B, H, Lq, D).
    k: (B, Hkv, Lk, D).
    v: (B, Hkv, Lk, D).
    mask: (1|B, 1|H, 1|Lq, Lk), or None.
    scale: factor of the scores; None: D ** -0.5.
    low_precision: False where the caller forbids quantised or approximate kernels.
    precision: dtype that the caller wants the arithmetic in, None: the tensors' own.
    """
    batch, heads, q_len, head_dim = q.shape
    return Geometry(
        batch=batch,
        heads=heads,
        kv_heads=k.shape[1],
        q_len=q_len,
        kv_len=k.shape[2],
        head_dim=head_dim,
        dtype=precision or q.dtype,
        device=q.device.type,
        mask=mask_kind(mask),
        scale=scale,
        low_precision=low_precision,
        high_precision=precision is not None and precision != q.dtype,
        capability=capability_of(q.device) if q.device.type == "cuda" else None,
        amd=amd_of(q.device),
        grad=torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad),
    )
