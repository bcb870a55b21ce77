"""Stand-ins for what a newer ComfyUI does around attention and ComfyUI 0.30 does not: q, k and v in containers, a
function that the model's file names for a module, its own nodes that take the override slot, and what packs do there.

Written after its AttentionTensorContainer and wrap_attn, comfy/ldm/modules/attention.py in Comfy-Org/ComfyUI@05080f60;
ModelPatcher.set_model_optimized_attention of ComfyUI 0.33; comfy_extras/nodes_sparse_attention.py at 01dafad3 and
comfy/ldm/minimax/model.py at 01a56b76 of Comfy-Org/ComfyUI. Whole models of such a host: naming_host.py.
"""

from __future__ import annotations

import functools

import torch

from attention.core.tensor_layout import from_heads, to_heads

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


def set_model_optimized_attention(model, attention) -> None:
    """The host's method of this name: what was in the slot is gone. Model Attention Backend and loaders call it."""

    def optimized_attention_override(_, *args, **kwargs):
        return attention(*args, **kwargs)

    optimized_attention_override.__module__ = "comfy.model_patcher"
    optimized_attention_override.__qualname__ = (
        "ModelPatcher.set_model_optimized_attention.<locals>.optimized_attention_override"
    )
    if getattr(attention, "container_function", None) is not None:
        optimized_attention_override.container_function = attention.container_function
    model.model_options["transformer_options"][SLOT] = optimized_attention_override


def sparse_attention(model, kernel=attention_exact):
    """(a clone behind the host's Model Sparse Attention, the calls it took).

    It passes on what it leaves, here all but self-attention without a mask, and puts itself on top of whatever is in
    the slot: when it is applied, and again in each step.
    """
    from comfy.patcher_extension import CallbacksMP

    took, installed = [], set()

    def make_attention_override(previous):
        def override(func, q, k, v, heads, mask=None, **kwargs):
            if mask is not None or q.shape != k.shape:
                args = (q, k, v, heads)
                return (
                    func(*args, mask=mask, **kwargs) if previous is None else previous(func, *args, mask=mask, **kwargs)
                )
            took.append(q.shape)
            return kernel(q, k, v, heads, **kwargs)

        override.__module__ = "/ComfyUI/comfy_extras/nodes_sparse_attention"
        return override

    def install(options):
        if options.get(SLOT) not in installed:
            options[SLOT] = made = make_attention_override(options.get(SLOT))
            installed.add(made)

    patched = model.clone()
    install(patched.model_options["transformer_options"])
    patched.add_callback_with_key(
        CallbacksMP.ON_PREPARE_STATE,
        "block_sparse_attention",
        lambda patcher, timestep, model_options: install(model_options["transformer_options"]),
    )
    return patched, took


def sampler_of_bleh(steps, delegates: bool = False):
    """(a SAMPLER that sets its own override in the options of each model call at these steps, the calls it took).

    As ComfyUI-bleh's two attention samplers do: one passes nothing on, the other hands on what it found.
    """
    import comfy.samplers

    took = []

    def override(previous, func, *args, **kwargs):
        took.append(args[0].shape)
        return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)

    override.__module__ = "/ComfyUI/custom_nodes/ComfyUI-bleh.py.nodes.sageAttention"

    class Wrapped:
        def __init__(self, model):
            self.model, self.step = model, 0

        def __call__(self, x, sigma, **kwargs):
            self.step += 1
            if self.step not in steps:
                return self.model(x, sigma, **kwargs)
            model_options = kwargs.pop("model_options", {}).copy()
            options = model_options.pop("transformer_options", {}).copy()
            found = options.pop(SLOT, None)
            options[SLOT] = functools.partial(override, found if delegates else None)
            return self.model(x, sigma, **kwargs, model_options={**model_options, "transformer_options": options})

        def __getattr__(self, name):
            return getattr(self.model, name)

    inner = comfy.samplers.ksampler("euler")
    return comfy.samplers.KSAMPLER(
        lambda model, *args, **kwargs: inner.sampler_function(Wrapped(model), *args, **kwargs)
    ), took


# What runs instead of a block's own attention, in `block_attention` below.
_INSTEAD: list = []


def forward_of_block(self, x, t_emb, mod_segments, rope_freqs, transformer_options={}, attention=None):  # noqa: B006
    """DiTBlock.forward of the newer MiniMax-H3: `attention` stands in for the block's own module, if given."""
    from comfy.ldm.minimax.model import _mod_gate, _mod_scale_shift

    attention = attention or (_INSTEAD[-1] if _INSTEAD else self.attn)
    shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = self.adaln_proj(t_emb)
    h = _mod_scale_shift(self.norm1(x), shift_msa, scale_msa, mod_segments)
    x = _mod_gate(
        x, gate_msa, attention(h, rope_freqs=rope_freqs, transformer_options=transformer_options), mod_segments
    )
    h = _mod_scale_shift(self.norm2(x), shift_mlp, scale_mlp, mod_segments)
    return _mod_gate(x, gate_mlp, self.mlp(h), mod_segments)


def block_attention(model, blocks):
    """(a clone whose blocks get other attention by block patches, the blocks that did), as Model Sparse Attention does
    for MiniMax-H3: `block.attn` is never called. Needs `forward_of_block`."""
    took, patched = [], model.clone()

    def make(index, attn):
        def attention(h, rope_freqs=None, transformer_options=None):
            took.append(index)
            return type(attn).forward(attn, h, rope_freqs)

        def block_patch(args, extra):
            _INSTEAD.append(attention)
            try:
                return extra["original_block"]({**args, "attention": attention})
            finally:
                _INSTEAD.pop()

        block_patch.__module__ = "/ComfyUI/comfy_extras/nodes_sparse_attention"
        return block_patch

    for index in blocks:
        attn = patched.model.diffusion_model.blocks[index].attn
        patched.set_model_patch_replace(make(index, attn), "dit", "double_block", index)
    return patched, took


def chunked_heads(model, chunks: int):
    """A clone whose attention modules call once for each of `chunks` groups of heads, the first ones larger.

    As MiniMax H3 Low VRAM Attention of KJNodes does, here for every module of MiniMax-H3's blocks.
    """
    import comfy.ldm.minimax.model as host

    patched = model.clone()

    def forward(self, x, rope_freqs=None, transformer_options=None):
        def in_chunks(q, k, v, heads, **kwargs):
            first, outs = 0, []
            q, k, v = (t.take() if is_container(t) else t for t in (q, k, v))
            for index in range(chunks):
                last = first + heads // chunks + (index < heads % chunks)
                part = (t[:, first:last] for t in (q, k, v))
                outs.append(attention(*part, last - first, **kwargs))
                first = last
            return torch.cat(outs, dim=-1)

        attention, host.optimized_attention = host.optimized_attention, in_chunks
        try:
            return type(self).forward(self, x, rope_freqs, transformer_options)
        finally:
            host.optimized_attention = attention

    forward.__module__ = "/ComfyUI/custom_nodes/ComfyUI-KJNodes.nodes.minimax_nodes"
    for index, block in enumerate(patched.model.diffusion_model.blocks):
        patched.add_object_patch(f"diffusion_model.blocks.{index}.attn.forward", forward.__get__(block.attn))
    return patched
