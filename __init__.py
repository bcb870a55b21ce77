"""ComfyUI-VideoAttention: swap, shape, see and prove the attention of video diffusion models."""

WEB_DIRECTORY = "./web"

# ComfyUI imports this folder as a package; pytest imports this file alone and must not need ComfyUI.
if __package__:
    from .nodes import comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
