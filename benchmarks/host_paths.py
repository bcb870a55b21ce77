"""ComfyUI's own attention functions, where a ComfyUI can be imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def find(cpu: bool) -> dict[str, Callable]:
    """Name -> function as the host hands it to an override; empty without ComfyUI."""
    attention = enter(cpu)
    if attention is None:
        return {}
    # `split` needs more memory than a benchmark should take; packages give up on a CPU and run `pytorch`.
    left_out = {"split", *({"sage", "sage3", "flash", "xformers"} if cpu else ())}
    found = {name: run for name, run in attention.REGISTERED_ATTENTION_FUNCTIONS.items() if name not in left_out}
    own = attention.optimized_attention
    return {
        f"ComfyUI {name}" + (" (its choice here)" if function is own else ""): function.__wrapped__
        for name, function in found.items()
    }


def enter(cpu: bool) -> ModuleType | None:
    """ComfyUI's attention module, imported as its own start does it; None without the pinned ComfyUI in .host."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import host
    import launch

    folder = host.HOME / f"ComfyUI-{host.COMFYUI}"
    if not folder.exists():
        return None
    launch.stand_in()
    # Ours has a folder `nodes` too.
    sys.path.insert(0, str(folder))
    arguments, sys.argv = sys.argv, ["main.py", *(["--cpu"] if cpu else [])]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.ldm.modules.attention as attention

    sys.argv = arguments
    return attention


def our_sites() -> ModuleType:
    """nodes/host/site_hooks.py of this pack. Call enter first: it imports ComfyUI."""
    return ours("host.site_hooks")


def ours(name: str) -> ModuleType:
    """nodes/<name>.py of this pack. Call enter first: it imports ComfyUI."""
    pack = sys.modules.setdefault("video_attention_pack", ModuleType("video_attention_pack"))
    pack.__path__ = [str(ROOT)]
    return importlib.import_module(f"video_attention_pack.nodes.{name}")
