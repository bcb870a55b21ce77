"""Tells ComfyUI's estimate of what a sampling needs whether our rules' attention holds a matrix of queries by keys, and
what part of the tokens each GPU has where they are shared out.

Newer hosts read the first from model_options, as ModelPatcher.set_model_optimized_attention(memory_efficient=) sets it;
without it they go by the attention that ComfyUI was started with. Nothing is told to a host that does not read it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import comfy.model_management
from comfy.ldm.modules import attention as host_attention

from ...attention.backends import registry
from ...attention.core.geometry import Geometry
from ...attention.core.gpu import amd_of, capability_of
from ...attention.inspect.info import examine
from ...attention.routing.memory import is_efficient
from ...attention.routing.rules import Rule
from . import model_family

# The host's name, of its own attention and in model_options; ours for what stood there before us.
KEY, FOUND = "optimized_attention_memory_efficient", "vattn.memory_efficient"
# Of a made-up call: so many that no kernel refuses them as too few.
TOKENS = 4096
# Of what a step takes beside the weights each of N GPUs has SHARED / N, its tokens and what is traded, and WHOLE: what
# goes into the first block and comes out of the last, and positions. By what lived at once in a small Wan with 2 and 4.
SHARED, WHOLE = 1.15, 0.2


def tell(patcher, rules: tuple[Rule, ...]) -> None:
    """Sets what these rules of a MODEL mean, or what stood there before us where they leave it to the host."""
    if not hasattr(host_attention, KEY):
        return
    options = patcher.model_options
    found = options.setdefault(FOUND, options.get(KEY))
    geometry = usual_call(patcher)
    efficient = is_efficient(rules, lambda name: registry.why_not(name, geometry))
    _put(options, found if efficient is None else efficient)


def forget(patcher) -> None:
    """Puts back what stood there before us."""
    if FOUND in patcher.model_options:
        _put(patcher.model_options, patcher.model_options.pop(FOUND))


def _put(options: dict, value: bool | None) -> None:
    if value is None:
        options.pop(KEY, None)
    else:
        options[KEY] = value


def usual_call(patcher) -> Geometry | None:
    """Makes the geometry of a self-attention call as this MODEL will make it; None for one of unknown heads."""
    info = examine(patcher.model.diffusion_model, model_family.family_of(patcher), None)
    if not info.heads:
        return None
    device = comfy.model_management.get_torch_device()
    capability = capability_of(device) if device.type == "cuda" else None
    sizes = (1, info.heads, info.heads, TOKENS, TOKENS, info.head_dim)
    return Geometry(*sizes, patcher.model.get_dtype_inference(), device.type, capability=capability, amd=amd_of(device))


def part_of(sharers: int) -> float:
    """Returns what part of a step's memory beside the weights each of several GPUs needs."""
    return min(1.0, SHARED / sharers + WHOLE)


def of_a_share(sharers_of: Callable) -> Callable:
    """Makes a wrapper of PREPARE_SAMPLING that estimates a GPU's share of the tokens, not all of them.

    sharers_of: (patcher, conds, model_options) -> how many GPUs share each prompt's tokens, 1 for none.
    """

    def prepare(executor, model, noise_shape, conds, model_options=None, **more):
        sharers = sharers_of(model, conds, model_options or {})
        if sharers > 1:
            # The estimate goes by the latent's size, whatever its axes.
            noise_shape = [*noise_shape[:-1], ceil(noise_shape[-1] * part_of(sharers))]
        return executor(model, noise_shape, conds, model_options=model_options, **more)

    return prepare
