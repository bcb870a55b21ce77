"""Guidance at the host: an extra pass after CFG, and hooks on a model that live as long as one sampling run."""

from __future__ import annotations

from uuid import UUID, uuid5

import comfy.samplers
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP

from ..attention.family import Family
from ..attention.moment import MOMENT
from ..attention.opaque import OPTIONS
from ..attention.rules import Rule
from ..attention.site import COVERS
from . import _host, _sites

HOOKS = "_video_attention_guidance"


def reachable(model, role: str) -> tuple[Family, int]:
    """The family of a MODEL and how many of its blocks make calls of that role. ValueError with a sentence if none."""
    family = _sites.family_of(model)
    name = type(model.model.diffusion_model).__name__
    if family is None:
        raise ValueError(
            f"model: {name} is no family this pack knows, so that its blocks cannot be told. Bypass this node."
        )
    if family.unsupported:
        raise ValueError(f"model: {family.name} is not supported: {family.unsupported}. Bypass this node.")
    blocks = max(_sites.blocks_of(model, covered) for covered in COVERS.get(role, (role,)))
    if not blocks:
        raise ValueError(f"model: {family.name} has no {role}-attention to guide. Bypass this node.")
    return family, blocks


class ExtraPass:
    """A sampler_post_cfg_function: one more prediction of the positive prompt, by the model as rules weaken it.

    rules: all with one Perturbation. guide: (guided, strong, weak) -> guided, of tensors (B, ...).
    """

    def __init__(self, rules: tuple[Rule, ...], guide):
        self.rules, self.guide = rules, guide

    def __call__(self, args):
        model_options, extra = args["model_options"], self.rules[0].extra
        options = model_options.get(OPTIONS, {})
        if not self._holds(options):
            return args["denoised"]
        moment = options[MOMENT].but(extra=extra)
        weakened = {**model_options, OPTIONS: {**options, MOMENT: moment}}
        cond = [self._apart(each) for each in args["cond"]]
        (weak,) = comfy.samplers.calc_cond_batch(args["model"], [cond], args["input"], args["sigma"], weakened)
        shapes = _shapes(args["cond"])
        streams = (_unpack(args[name], shapes) for name in ("denoised", "cond_denoised"))
        guided = [self.guide(*stream) for stream in zip(*streams, _unpack(weak, shapes), strict=True)]
        return guided[0] if shapes is None else comfy.utils.pack_latents(guided)[0]

    def _apart(self, cond: dict) -> dict:
        """The prompt under a name of its own, one for all steps: EasyCache would give the model's own prediction."""
        named = cond.get("uuid")
        return {**cond, "uuid": uuid5(named, f"{id(self)}")} if isinstance(named, UUID) else cond

    def _holds(self, options) -> bool:
        """Whether this step is covered, and nobody cleared the rules since."""
        if MOMENT not in options or _host.ROUTERS not in options:
            return False
        moment = options[MOMENT]
        routers = [r for r in options[_host.ROUTERS].members if r not in moment.off]
        pairs = ((rule, on) for router in routers for rule, on in zip(router.rules, moment.active_of(router)))
        return any(on for rule, on in pairs if rule in self.rules)


def install_pass(model, rules: tuple[Rule, ...], guide):
    """A clone of `model` with these rules and the pass that they are for."""
    patched = _host.install_all(model, rules)
    patched.set_model_sampler_post_cfg_function(ExtraPass(rules, guide))
    return patched


def _shapes(cond):
    """The streams' shapes where video and audio are packed into one tensor, else None."""
    for each in cond:
        packed = each.get("model_conds", {}).get("latent_shapes")
        if packed is not None and len(packed.cond) > 1:
            return packed.cond
    return None


def _unpack(latent: torch.Tensor, shapes):
    return [latent] if shapes is None else comfy.utils.unpack_latents(latent, shapes)


def detach(patcher, key: str) -> None:
    """Undoes the install of that key."""
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.PREDICT_NOISE):
        patcher.remove_wrappers_with_key(kind, key)
    _sites.not_in_runs(patcher, key)


def keep(model: torch.nn.Module, key: str, *handles) -> None:
    """Remembers what to remove, instead of what a run left that was never cleaned up."""
    kept = vars(model).setdefault(HOOKS, {})
    for stale in kept.pop(key, ()):
        stale.remove()
    kept[key] = handles


def unhook(patcher) -> None:
    """ON_CLEANUP, after errors and interrupts too; also twice."""
    for handles in vars(patcher.model.diffusion_model).pop(HOOKS, {}).values():
        for handle in handles:
            handle.remove()
