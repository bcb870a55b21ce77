"""Real models of ComfyUI 0.30 as a newer ComfyUI would run them: each attention module has a holder of the function
that the model's file names for it, and passes it along.

The holder is written after ComfyAttention of comfy/ldm/modules/attention.py, the calls after
comfy/ldm/wan/model.py@0c9a69ae, lightricks/model.py@e03185cf and minimax/model.py@01a56b76 in Comfy-Org/ComfyUI: every
call there carries `preferred_attention=self.comfy_attention`. The models, the sampler and the attention are ComfyUI's.
"""

from __future__ import annotations

import functools
import sys

import torch
from newer_host import Container, newer

NAMES = ("optimized_attention", "optimized_attention_masked")


class Holder(torch.nn.Module):
    """A stand-in for the host's ComfyAttention. function: what the file names, None where that cannot run here."""

    def __init__(self, function=None):
        super().__init__()
        self.config, self.function = None, function


class Kernel:
    """A function that a file may name: a wrapped one of the host's, here exact, that counts its calls."""

    def __init__(self, attention, name="attention_comfy_kitchen_int8", scale=1.0):
        self.calls = self.closed = 0

        def count(q, k, v, heads, mask=None, attn_precision=None, **kw):
            assert "_inside_attn_wrapper" in kw and not isinstance(q, Container)
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
            if closing and not isinstance(q, Container) and "_inside_attn_wrapper" not in kw:
                q, k, v = (Container(t) for t in (q, k, v))
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
