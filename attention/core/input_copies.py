"""Copies of what a kernel is given: whether it wrote into that, and undoing it."""

from __future__ import annotations

import torch

from .reason import Reason

WRITES = Reason("it writes into its inputs")
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class InputCopies:
    """Copies of a call's q, k, v and mask, made before a kernel runs on them.

    Costs as much memory as they take, until it is gone, and two passes over them. Where the device has no room the
    copies are in the machine's own memory, and without room there nothing is watched. A mask larger than q, k and v
    together is not watched. Nothing but a copy can tell: in inference mode tensors carry no version.
    """

    def __init__(self, q, k, v, mask=None):
        watched = mask is not None and mask.numel() <= q.numel() + k.numel() + v.numel()
        self.tensors = tuple(t.detach() for t in ((q, k, v, mask) if watched else (q, k, v)))
        try:
            self.copies = tuple(t.clone() for t in self.tensors)
        except Exception:
            self.copies = self.tensors
            self.shelve()

    def shelve(self) -> None:
        """Moves the copies off the device, so that a kernel has the memory that it would have without us."""
        try:
            moved = tuple(torch.empty_like(t, device="cpu").copy_(t) for t in self.copies)
        except Exception:
            moved = ()
        self.copies = moved

    def undo(self) -> bool:
        """Whether the tensors were changed; they are as before afterwards."""
        changed = [(t, copy) for t, copy in zip(self.tensors, self.copies) if not _same(t, copy)]
        for tensor, copy in changed:
            once = tuple(slice(None) if step else slice(0, 1) for step in tensor.stride())  # of what is expanded
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                tensor[once].copy_(copy[once])
        return bool(changed)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit by bit, so that NaN equals itself; a tensor of the meta device has no numbers that could change."""
    if a.is_meta:
        return True
    a, b = (t if t.dtype == torch.bool else t.view(_BITS[t.element_size()]) for t in (a, b))
    return torch.equal(a.to(b.device), b)
