"""What every kernel here looks like, whoever wrote it."""

from __future__ import annotations

from typing import Protocol

import torch


class Kernel(Protocol):
    """Computes softmax(scale * Q K^T + mask) V for one attention call and changes none of its inputs.

    B batch entries, H heads of queries, Hkv heads of keys (a divisor of H), Lq and Lk tokens, D numbers for each head.

    A kernel that can let go of q, k and v before it answers has `consume(tensors, mask, scale)` as an attribute:
    `tensors` is a list [q, k, v] that nobody else holds. It empties the list once it needs them no more, and returns
    what a plain call returns. One that knows best how to work on some heads at a time has `in_chunks(chunks)`, which
    gives the Kernel that does; any other is called once for each of the Chunks.
    """

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        mask: torch.Tensor | None = None,
        scale: float | None = None,
    ) -> torch.Tensor:
        """Return the attention output: (B, H, Lq, D), in the dtype and on the device of q.

        q: queries, (B, H, Lq, D), possibly a view with any strides.
        k: keys, (B, Hkv, Lk, D), likewise.
        v: values, (B, Hkv, Lk, D), likewise.
        mask: (1|B, 1|H, 1|Lq, Lk), or None. Bool: True may be seen. Float: added to the scores.
        scale: factor of the scores; None: 1 / sqrt(D).

        Raises whatever its library raises: the caller falls back.
        """


def checked(out: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Convert a kernel's output to `dtype`; an error for one of another shape, or of whole or complex numbers."""
    if out.shape != shape:
        raise ValueError(f"output shape {tuple(out.shape)} instead of {tuple(shape)}")
    if not out.is_floating_point():
        raise TypeError(f"output of {str(out.dtype).removeprefix('torch.')}")
    return out.to(dtype)
