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

# Models of newer ComfyUIs that are no family here: their roles are told by token counts alone.
# Read and never run: (name, class, what that makes of its calls, what no override sees).
READ = (
    ("Prism", "Prism", "", "its own sparse attention, where that is switched on"),
    (
        "Qwen-Image 2.1", "QwenImage21Transformer2DModel",
        "the image sees the prompt too, so its calls count as cross, the prompt's own as self", "",
    ),
)  # fmt: skip
# Whose classes could not be read, so nothing is known of what an override sees.
UNREAD = ("LTX-2.3's image model (LTXVImageModel)", "MOSS-Image", "PAN 2", "RelayVSR")


def find(class_name: str):
    """Find the family of a diffusion model by its class name; None for one that no row is for."""
    return next((family for family in TABLE if class_name in family.models), None)
