"""LTX-Video (https://arxiv.org/abs/2501.00103): each block attends over all tokens, then to the text."""

from ..family import Family
from ..site import CROSS, SELF


def modules(model):
    for index, block in enumerate(model.transformer_blocks):
        yield block.attn1, SELF, index
        yield block.attn2, CROSS, index


def grid(x):
    """x: (B, C, T, Y, X) latents; one token is one latent pixel."""
    return tuple(x.shape[2:]) if getattr(x, "ndim", 0) == 5 else None


LTXV = Family(name="LTXV", models=("LTXVModel",), modules=modules, grid=grid)
