"""Every model family whose attention calls we can place, keyed by the class name of its diffusion model."""

from . import (
    cogvideox,
    cosmos,
    flux,
    hunyuan,
    kandinsky5,
    kandinsky6,
    ltxv,
    minimax,
    mochi,
    qwen_image,
    seedvr2,
    svd,
    wan,
)

TABLE = (
    cogvideox.COGVIDEOX,
    cosmos.COSMOS,
    cosmos.COSMOS_PREDICT2,
    flux.FLUX,
    hunyuan.HUNYUAN,
    kandinsky5.KANDINSKY5,
    kandinsky6.KANDINSKY6,
    ltxv.LTX2,
    ltxv.LTXV,
    minimax.MINIMAX,
    mochi.MOCHI,
    qwen_image.QWEN_IMAGE,
    seedvr2.SEEDVR2,
    svd.SVD,
    wan.WAN,
    wan.WAN_ANIMATE_2,
    wan.WAN_CAUSAL,
)


def find(class_name: str):
    """Find the family of a diffusion model by its class name; None for one that no row is for."""
    return next((family for family in TABLE if class_name in family.models), None)
