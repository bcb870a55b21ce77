"""ComfyUI's own attention functions, where a ComfyUI can be imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from attention.moment import MOMENT
from attention.router import Router
from attention.rules import Rule
from attention.tally import Tally

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
    """ComfyUI's attention module, imported as its own start does it; None without a ComfyUI in .host."""
    folder = next(iter(sorted((ROOT / ".host").glob("ComfyUI-*"))), None)
    if folder is None:
        return None
    sys.path.insert(0, str(ROOT / "scripts"))
    import launch

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
    """nodes/_sites.py of this pack. Call enter first: it imports ComfyUI."""
    pack = sys.modules.setdefault("video_attention_pack", ModuleType("video_attention_pack"))
    pack.__path__ = [str(ROOT)]
    return importlib.import_module("video_attention_pack.nodes._sites")


def direct(function: Callable) -> Callable:
    """A host's function as attention(q, k, v) over (B, H, L, D)."""
    return lambda q, k, v: function(q, k, v, q.shape[1], skip_reshape=True, skip_output_reshape=True)


def routed(function: Callable, tally: Tally) -> Callable:
    """The same below a Router on `auto`, as Video Attention Backend sets it up; counted in `tally`."""
    router, options = Router((Rule(),)), {MOMENT: tally.moment}
    return lambda q, k, v: router(function, q, k, v, q.shape[1], None, None, True, True, transformer_options=options)
