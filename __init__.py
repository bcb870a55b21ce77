"""ComfyUI-VideoAttention: swap, shape, see and prove the attention of video diffusion models."""

import re

WEB_DIRECTORY = "./web"
# As in pyproject.toml, for installs that no manager looked after.
FLOOR = (0, 20, 1)


def too_old(version: str) -> str | None:
    """Why this version of ComfyUI will not do, None when it will or cannot be told."""
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    if not numbers or numbers >= FLOOR:
        return None
    needed = ".".join(map(str, FLOOR))
    return f"ComfyUI-VideoAttention needs ComfyUI {needed} or later, this is {version}. Update ComfyUI."


def _version() -> str:
    try:
        from comfyui_version import __version__
    except ImportError:  # no ComfyUI at all: the imports that follow say more
        return ""
    return __version__


# ComfyUI imports this folder as a package; pytest imports this file alone and must not need ComfyUI.
if __package__:
    if sentence := too_old(_version()):
        # ComfyUI shows it beside the pack's name and goes on without the pack.
        raise ImportError(sentence)

    from .nodes import comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
