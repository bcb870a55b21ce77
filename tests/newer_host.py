"""Stand-ins for what a newer ComfyUI does around attention and ComfyUI 0.30 does not: q, k and v in containers, and a
function that the model's file names for a module.

Written after its AttentionTensorContainer and wrap_attn, comfy/ldm/modules/attention.py in Comfy-Org/ComfyUI@05080f60.
Whole models of such a host: naming_host.py.
"""

from __future__ import annotations

import functools

import torch

from attention.layout import from_heads, to_heads

SDPA = torch.nn.functional.scaled_dot_product_attention
HEADS, SLOT = 3, "optimized_attention_override"


class Container:
    """A stand-in for the host's container of one tensor."""

    def __init__(self, tensor):
        self.tensor = tensor

    def peek(self):
        if self.tensor is None:
            raise RuntimeError("already taken")
        return self.tensor

    def take(self):
        tensor, self.tensor = self.peek(), None
        return tensor


def is_container(value) -> bool:
    """Ours or the host's own, of which nothing but its two methods is known."""
    return hasattr(value, "peek") and hasattr(value, "take")


def host_container():
    """The host's own class where it has one (ComfyUI 0.31 and later), else the stand-in."""
    import comfy.ldm.modules.attention as host

    return getattr(host, "AttentionTensorContainer", Container)


def newer(attention):
    """A stand-in for a host's function that opens containers: what its wrapper does around `attention`."""

    @functools.wraps(attention)
    def wrapper(q, k, v, heads, *args, **kw):
        preferred = getattr(kw.pop("preferred_attention", None), "function", None)
        inside, closed = "_inside_attn_wrapper" in kw, is_container(q)
        override = None if inside else kw.get("transformer_options", {}).get(SLOT)
        kw["_inside_attn_wrapper"] = True
        if override and closed and hasattr(override, "container_function"):
            return override.container_function(q, k, v, heads, *args, **kw)
        if preferred is not None and not override and not inside:
            return preferred(q, k, v, heads, *args, **kw)
        if closed:
            q, k, v = q.take(), k.take(), v.take()
        return override(attention, q, k, v, heads, *args, **kw) if override else attention(q, k, v, heads, *args, **kw)

    wrapper.container_function = None
    return wrapper


def attention_exact(
    q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw
):
    """The host's own attention."""
    return from_heads(SDPA(*to_heads(q, k, v, heads, skip_reshape), attn_mask=mask), skip_output_reshape)


class Recording:
    """The host's own attention or another pack's override: what it was given, and whether that was closed."""

    def __init__(self, *names):
        self.seen, self.__qualname__ = [], "recording"
        if "container_function" in names:
            self.container_function = self.answer

    def __call__(self, *args, **kw):
        return self.answer(*args, **kw)

    def answer(self, *args, skip_reshape=False, skip_output_reshape=False, **kw):
        func = None if isinstance(args[0], torch.Tensor) or is_container(args[0]) else args[0]
        q, k, v, _ = args if func is None else args[1:]
        closed = is_container(q)
        self.seen.append((func, closed, kw["_inside_attn_wrapper"]))
        return from_heads((q.take() if closed else q).unflatten(-1, (HEADS, -1)).transpose(1, 2), skip_output_reshape)
