"""ComfyUI's own attention functions, where a ComfyUI can be imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def find(cpu: bool) -> dict[str, Callable]:
    """Name -> attention(q, k, v) over (B, H, L, D), for each function ComfyUI registered; empty without ComfyUI."""
    folder = next(iter(sorted((ROOT / ".host").glob("ComfyUI-*"))), None)
    if folder is None:
        return {}
    sys.path.insert(0, str(ROOT / "scripts"))
    import launch

    launch.stand_in()
    sys.path.insert(0, str(folder))
    arguments, sys.argv = sys.argv, ["main.py", *(["--cpu"] if cpu else [])]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.ldm.modules.attention as attention

    sys.argv = arguments
    # `split` needs more memory than a benchmark should take; the others are what people run.
    names = [name for name in attention.REGISTERED_ATTENTION_FUNCTIONS if name != "split"]
    return {f"ComfyUI {name}": _run(attention.get_attention_function(name)) for name in names}


def _run(function):
    return lambda q, k, v: function(q, k, v, q.shape[1], skip_reshape=True, skip_output_reshape=True)
