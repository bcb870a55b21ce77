"""Real models of ComfyUI 0.30 as a newer ComfyUI would run them: each attention module has a holder of the function
that the model's file names for it, and passes it along.

The holder is written after ComfyAttention of comfy/ldm/modules/attention.py, what fills it after comfy/lora.py and
comfy/model_patcher.py@08d0e510, the calls after comfy/ldm/wan/model.py@0c9a69ae, lightricks/model.py@e03185cf and
minimax/model.py@01a56b76 in Comfy-Org/ComfyUI: every call there carries `preferred_attention=self.comfy_attention`. The
models, the sampler and the attention are ComfyUI's.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import ClassVar

import torch
from newer_host import host_container, is_container, newer

NAMES = ("optimized_attention", "optimized_attention_masked")
# Calls of the named kernel in two steps: without a node, Backend with role cross, with blocks 1, with "host default",
# and Clear behind Backend.
NAMED_CALLS = {
    "Wan": (8, 4, 4, 8, 8),
    "LTXV": (8, 4, 4, 8, 8),
    "LTX-2": (24, 20, 12, 24, 24),
    "MiniMax-H3": (6, 6, 4, 6, 6),
}


class Holder(torch.nn.Module):
    """A stand-in for the host's ComfyAttention. function: what the file names, None where that cannot run here.

    KNOWN: the methods that the host knows -> their functions, None for one that this GPU cannot run. An entry is read
    as the host of 2026-10 reads it: JSON, one choice or a list, the first that runs; what is unknown is warned of.
    """

    KNOWN: ClassVar[dict] = {}

    def __init__(self, function=None):
        super().__init__()
        self.config, self.function, self.warnings = None, function, []

    def with_config(self, entry):
        """A new holder; this one stays as it is."""
        made = Holder()
        made.config = json.loads(entry.numpy().tobytes())
        for choice in made.config if isinstance(made.config, list) else [made.config]:
            method = choice.get("attention")
            if method not in self.KNOWN:
                made.warnings.append(method)
            elif self.KNOWN[method] is not None:
                more = {key: value for key, value in choice.items() if key == "tau"}
                made.function = functools.partial(self.KNOWN[method], **more) if more else self.KNOWN[method]
                break
        return made


def load_lora(model, file, strength=1.0):
    """(A clone of a MODEL behind a LoRA's file, keys that found no module), as load_lora and add_patches do it."""
    patched, lost = model.clone(), []
    for key, entry in file.items():
        name, _, last = key.rpartition(".")
        try:
            holder = patched.get_model_object(name)
        except AttributeError:
            holder = None
        if last == "config" and isinstance(holder, Holder):
            if strength:
                patched.add_object_patch(name, holder.with_config(entry))
        else:
            lost.append(key)
    return patched, lost


class Kernel:
    """A function that a file may name: a wrapped one of the host's, here exact, that counts its calls."""

    def __init__(self, attention, name="attention_comfy_kitchen_int8", scale=1.0):
        self.calls = self.closed = 0

        def count(q, k, v, heads, mask=None, attn_precision=None, **kw):
            assert "_inside_attn_wrapper" in kw and not is_container(q)
            self.calls += 1
            return attention(q, k, v, heads, mask=mask, attn_precision=attn_precision, **kw) * scale

        count.__qualname__ = name
        self.function = newer(count)


class Naming:
    """Turns this process's ComfyUI into one that looks at what a file names, as long as the test runs.

    closing: also passes q, k and v in containers, as newer models do.
    """

    def __init__(self, monkeypatch, closing=False):
        import comfy.ldm.modules.attention as host

        real, self.stack = host.optimized_attention, []
        opened = newer(real)

        @functools.wraps(opened)
        def told(q, k, v, heads, *args, **kw):
            if closing and not is_container(q) and "_inside_attn_wrapper" not in kw:
                q, k, v = map(host_container(), (q, k, v))
            return opened(q, k, v, heads, *args, preferred_attention=self.stack[-1] if self.stack else None, **kw)

        self.real = real
        for name in [name for name in sys.modules if name.startswith("comfy.ldm")]:
            for attribute in NAMES:
                if getattr(sys.modules[name], attribute, None) is real:
                    monkeypatch.setattr(sys.modules[name], attribute, told)

    def furnish(self, modules, function=None) -> None:
        """Gives each of these attention modules a holder, and passes it along in the calls that the module makes."""
        for module in modules:
            module.comfy_attention = Holder(function)
            module.forward = self._passing(module)

    def _passing(self, module):
        forward = module.forward

        @functools.wraps(forward)
        def passing(*args, **kw):
            self.stack.append(module.comfy_attention)
            try:
                return forward(*args, **kw)
            finally:
                self.stack.pop()

        return passing
