"""Muon (Jordan et al., 2024; arXiv:2502.16982), its work shared by the processes of a run.

torch's own works in bfloat16, which a processor without AMX has no instructions for: 30 times slower there.
"""

import collections

import torch
from torch import Tensor, distributed

# The polynomial of Newton and Schulz whose slope at 0 is steep: five rounds bring singular values near 1.
FACTORS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
# What this processor multiplies fastest.
FAST = torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32


def orthogonalise(matrices: Tensor) -> Tensor:
    """Singular values near 1 for matrices (N, rows, columns), whose singular vectors stay."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(FAST)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    first, second, third = FACTORS
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = first * x + (second * square + third * square @ square) @ x
    return (x.mT if tall else x).to(matrices)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose step is made orthogonal; sizes are those of torch.optim.Muon."""

    def __init__(self, params, lr: float = 0.01, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One step for every matrix that has a gradient; all processes must call it with equal gradients."""
        for group in self.param_groups:
            shapes = collections.defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[tuple(parameter.shape)].append(parameter)
            for parameters in shapes.values():
                self._move(parameters, group)

    def _move(self, parameters: list[Tensor], group: dict) -> None:
        """One step of matrices of one shape."""
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            moving = state["momentum_buffer"]
            moving.lerp_(parameter.grad, 1 - group["momentum"])
            directions.append(parameter.grad.lerp(moving, group["momentum"]))
        directions, lr = torch.stack(directions), group["lr"]
        several = distributed.is_initialized()
        rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
        mine = slice(rank, None, ranks)
        steps = torch.zeros_like(directions)
        if len(directions[mine]):
            steps[mine] = orthogonalise(directions[mine])
        if several:
            distributed.all_reduce(steps)
        rows, columns = parameters[0].shape
        size = lr * max(1.0, rows / columns) ** 0.5
        for parameter, step in zip(parameters, steps):
            parameter.mul_(1 - lr * group["weight_decay"]).sub_(step, alpha=size)
