"""Every model family whose attention calls we can place, keyed by the class name of its diffusion model."""

from . import cogvideox, cosmos, flux, hunyuan, kandinsky5, ltxv, minimax, mochi, qwen_image, seedvr2, svd, wan

TABLE = (
    cogvideox.COGVIDEOX,
    cosmos.COSMOS,
    cosmos.COSMOS_PREDICT2,
    flux.FLUX,
    hunyuan.HUNYUAN,
    kandinsky5.KANDINSKY5,
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

# Models of ComfyUI newer than 0.33 whose classes were read and never run here, and what of their attention no override
# sees: no family, so roles are told by token counts alone. (name, class, what is out of reach)
READ = (
    ("Kandinsky 6", "Kandinsky6", "attention between video and audio"),
    ("Prism", "Prism", "its own sparse attention, where that is switched on"),
    ("Qwen-Image 2.1", "QwenImage21Transformer2DModel", ""),
)


def find(class_name: str):
    """The family of a diffusion model, or None."""
    return next((family for family in TABLE if class_name in family.models), None)
