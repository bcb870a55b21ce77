"""Copies of a MODEL on the other GPUs of this machine, made by ComfyUI, and what can be said of them beforehand."""

from __future__ import annotations

import comfy.model_management

from ...attention.core.error_handling import error_text
from ...attention.core.reason import Reason
from ...attention.inspect.info import Info
from ...attention.parallel import estimate
from ...attention.parallel.ring import inner_of
from . import model_rules, several_gpus, sharing, token_ranks
from .token_ranks import COPIES

try:
    from comfy.multigpu import create_multigpu_deepclones
except ImportError:  # hosts before 0.30
    create_multigpu_deepclones = None


def on_several(model, gpus: int, split: str, shares: str, strict: bool, overlap: bool = False) -> tuple:
    """Makes (a clone of the MODEL `model` that is evaluated on several GPUs, one line about it).

    gpus: how many, 0 for all, or as many of them as `best_of` says.
    split, shares, overlap: as several_gpus.install has them.
    strict: whether to raise ValueError where that cannot be; else the model is given as it came, and why.
    """
    why = cannot(model, gpus)
    if why is None:
        try:
            return _copied(model, gpus, split, shares, overlap)
        except RuntimeError as error:
            why = f"model: ComfyUI could not copy it to another GPU: {error_text(error)}"
    if strict and not isinstance(why, Alone):
        raise ValueError(f"{why}. Bypass this node or set on_unsupported to 'fall back'.")
    return model, f"Off: {why}. The model is as it came."


class Alone(Reason):
    """That there is nothing to share out: no error, since a workflow for many machines runs on one GPU too."""


def cannot(model, gpus: int) -> Reason | None:
    """Says why a MODEL cannot be evaluated on several GPUs here; None where it can."""
    if create_multigpu_deepclones is None:
        return Reason("it needs ComfyUI 0.30 or newer, which makes copies of a model for other GPUs")
    if gpus == 1:
        return Alone("gpus is 1")
    count = len(comfy.model_management.get_all_torch_devices())
    if count < 2:
        return Alone("there is one GPU here")
    rule = token_ranks.rule_of(model)
    if isinstance(rule, Reason):
        return Reason(f"model: its tokens cannot be shared out over several GPUs: {rule}")
    if model.cached_patcher_init is None:
        return Reason(
            "model: its loader cannot make a copy for a second GPU. Load it with Load Diffusion Model or Load "
            "Checkpoint"
        )
    return None


def _copied(model, gpus: int, *how) -> tuple:
    devices = len(comfy.model_management.get_all_torch_devices())
    heads = sharing.fewest_heads(model)
    wanted = min(gpus or best_of(devices, heads), devices)
    # ComfyUI 0.30 trips over a model in its list that is no more.
    alive = all(loaded is not None for loaded in comfy.model_management.loaded_models())
    told = create_multigpu_deepclones(model_rules.count(model), wanted, reuse_loaded=alive)
    told = several_gpus.install(told, *how)
    names = [str(told.load_device), *(str(copy.load_device) for copy in told.get_additional_models_with_key(COPIES))]
    fewer = f" {gpus} were asked for." if gpus > len(names) else ""
    if not gpus and len(names) < devices:
        fewer += f" {devices} are here, over which {heads} heads share out worse; set gpus to take more."
    if 0 < heads < len(names):
        near = inner_of(len(names), heads)
        if near > 1:
            fewer += f" More than the model has heads: they share in {len(names) // near} groups of {near}."
        else:
            fewer += f" More than the model has heads: they share keys among all {len(names)}."
    return told, f"On {len(names)} GPUs: {', '.join(names)}. Each holds the whole model.{fewer}"


def best_of(devices: int, heads: int) -> int:
    """Chooses how many GPUs take part where nobody said: the most that trade heads among as many as any number can.

    devices: that are here.
    heads: of the model, 0 where unknown.
    """
    most = min(devices, heads or devices)
    return max(n for n in range(most, devices + 1) if inner_of(n, heads or devices) >= most)


def worth(model, info: Info) -> str:
    """Says whether several GPUs are worth it for a MODEL with copies on them; "" where that cannot be told.

    info: of the MODEL, with the grid of a latent.
    """
    devices = [model.load_device, *(copy.load_device for copy in model.get_additional_models_with_key(COPIES))]
    if len(devices) < 2 or info.share is None:
        return ""
    channels, blocks = info.heads * info.head_dim, len(info.blocks)
    operations = 4 * blocks * channels * info.tokens * (info.tokens + info.width * channels)
    near = inner_of(len(devices), sharing.fewest_heads(model) or len(devices))
    traded = estimate.bytes_traded(info.tokens, channels, blocks, near, groups=len(devices) // near)
    return estimate.sentence(operations, traded, devices, model.model.get_dtype_inference())
