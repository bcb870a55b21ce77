"""Copies of what a kernel is given: they tell whether it wrote into that, and restore it."""

from __future__ import annotations

import torch

from .reason import Reason

WRITES = Reason("it writes into its inputs")
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class InputCopies:
    """Holds copies of a call's q, k, v and mask, made before a kernel runs on them.

    Costs as much memory as they take, until it is gone, and two passes over them. Where the device has no room the
    copies are in the machine's own memory, and without room there nothing is watched. A mask larger than q, k and v
    together is not watched. Nothing but a copy can tell: in inference mode tensors carry no version.

    q: of any shape and layout.
    k: of any shape and layout.
    v: of any shape and layout.
    mask: as the host gave it, or None.
    """

    def __init__(self, q, k, v, mask=None):
        watched = mask is not None and mask.numel() <= q.numel() + k.numel() + v.numel()
        self.tensors = tuple(t.detach() for t in ((q, k, v, mask) if watched else (q, k, v)))
        try:
            self.copies = tuple(t.clone() for t in self.tensors)
        except Exception:
            self.copies = self.tensors
            self.offload()

    def offload(self) -> None:
        """Move the copies off the device, so that a kernel has the memory that it would have without us."""
        try:
            moved = tuple(torch.empty_like(t, device="cpu").copy_(t) for t in self.copies)
        except Exception:
            moved = ()
        self.copies = moved

    def restore(self) -> bool:
        """Put back what was changed in the tensors; returns whether anything was."""
        changed = [(t, copy) for t, copy in zip(self.tensors, self.copies) if not _same(t, copy)]
        for tensor, copy in changed:
            once = tuple(slice(None) if step else slice(0, 1) for step in tensor.stride())  # of what is expanded
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                tensor[once].copy_(copy[once])
        return bool(changed)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Compare bit by bit, so that NaN equals itself; a tensor of the meta device has no numbers that could change."""
    if a.is_meta:
        return True
    a, b = (t if t.dtype == torch.bool else t.view(_BITS[t.element_size()]) for t in (a, b))
    return torch.equal(a.to(b.device), b)
