"""How far tensors are from those they stand for, summed up on their device: nothing waits for it before the end."""

from __future__ import annotations

import torch


class ErrorSums:
    """Sums up the relative L2 of pairs of tensors.

    count: pairs.
    apart: the most steps that a pair was apart.
    """

    def __init__(self):
        self.count, self.apart = 0, 0
        self._sums: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def add(self, guess: torch.Tensor, truth: torch.Tensor, apart: int = 0) -> None:
        """Measure how far a tensor is from the true one.

        guess: of the shape of `truth`.
        apart: how many steps lie between the two.
        """
        truth = truth.float()
        size = truth.norm().clamp_min(torch.finfo(torch.float32).tiny)
        error = guess.float().sub(truth).norm() / size
        total, largest = self._sums.get(error.device, (error.new_zeros(()), error.new_zeros(())))
        self._sums[error.device] = total + error, torch.maximum(largest, error)
        self.count += 1
        self.apart = max(self.apart, apart)

    def read(self) -> tuple[float, float]:
        """Return the mean and the largest. Waits for the GPU; both 0 where nothing was measured."""
        if not self.count:
            return 0.0, 0.0
        pairs = [(float(total), float(largest)) for total, largest in self._sums.values()]
        return sum(total for total, _ in pairs) / self.count, max(largest for _, largest in pairs)
