"""Guidance that needs another prediction, as STG and PAG do: an extra pass of the model after CFG."""

from __future__ import annotations

from uuid import UUID, uuid5

import comfy.samplers
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP

from ...attention.core.error_handling import try_twice
from ...attention.core.identity import KeepsIdentity
from ...attention.core.reason import Reason
from ...attention.core.site import COVERS
from ...attention.families.spec import Family
from ...attention.routing.compiled_op import OPTIONS
from ...attention.routing.rules import Rule
from ...attention.routing.step_context import CONTEXT, stats_of
from . import hooks, model_family, model_rules, prompt_names
from .token_ranks import MACHINES
from .window_handler import HANDLER

PASSES = "video_attention.passes"
UNASKED = "the guider asked for no prompt that is positive by its name"


def reachable(model, role: str) -> tuple[Family, int]:
    """Finds the family of a MODEL and how many of its blocks make calls of that role.

    Raises ValueError with a sentence where there are none.
    """
    family = model_family.family_of(model)
    name = type(model.model.diffusion_model).__name__
    if family is None:
        raise ValueError(
            f"model: {name} is no family this pack knows, so that its blocks cannot be told. Bypass this node."
        )
    if family.unsupported:
        raise ValueError(f"model: {family.name} is not supported: {family.unsupported}. Bypass this node.")
    blocks = max(model_family.blocks_of(model, covered) for covered in COVERS.get(role, (role,)))
    if not blocks:
        raise ValueError(f"model: {family.name} has no {role}-attention to guide. Bypass this node.")
    return family, blocks


class ExtraPass(KeepsIdentity):
    """Predicts the positive prompt once more, by the model as rules weaken it.

    rules: all with one Perturbation.
    guide: (guided, strong, weak) -> guided, of tensors (B, ...).
    """

    def __init__(self, rules: tuple[Rule, ...], guide):
        self.rules, self.guide = rules, guide

    def guided(self, out: torch.Tensor, asked: Asked) -> torch.Tensor:
        """Guides `out`, what guidance made so far, by this pass; leaves it in a step that is not covered."""
        options = asked.model_options.get(OPTIONS, {})
        if not self._holds(options):
            return out
        found = asked.why
        if asked.strong is not None:
            found = try_twice(lambda: self._moved(out, asked, options), out.device, MACHINES not in options)
        if isinstance(found, torch.Tensor):
            return found
        stats = stats_of(options)
        if stats is not None:
            stats.leave(self.rules[0].perturbation.name, "step", found)
        return out

    def _moved(self, out: torch.Tensor, asked: Asked, options: dict) -> torch.Tensor:
        """Evaluates the model as it is weakened, and moves `out` away from what it gives."""
        context = options[CONTEXT].but(perturbation=self.rules[0].perturbation)
        weakened = {**asked.model_options, OPTIONS: {**options, CONTEXT: context}}
        cond = [self._apart(each) for each in asked.cond]
        (weak,) = comfy.samplers.calc_cond_batch(asked.model, [cond], asked.x, asked.timestep, weakened)
        shapes = _shapes(cond)
        streams = zip(*(_unpack(each, shapes) for each in (out, asked.strong, weak)), strict=True)
        made = [self._away(*stream) for stream in streams]
        return made[0] if shapes is None else comfy.utils.pack_latents(made)[0]

    def _away(self, out, strong, weak) -> torch.Tensor:
        # A guider that leaves a stream out for a step gives no prediction of it: nothing to move away from.
        return out if torch.equal(strong, weak) else self.guide(out, strong, weak)

    def _apart(self, cond: dict) -> dict:
        """Names the prompt apart, by one name for all steps: EasyCache would give the model's own prediction."""
        named = cond.get("uuid")
        return {**cond, "uuid": uuid5(named, f"{id(self)}")} if isinstance(named, UUID) else cond

    def _holds(self, options) -> bool:
        """Tells whether this step is covered, and nobody cleared the rules since."""
        if CONTEXT not in options or model_rules.ROUTERS not in options:
            return False
        context = options[CONTEXT]
        routers = [r for r in options[model_rules.ROUTERS].members if r not in context.off]
        pairs = ((rule, on) for router in routers for rule, on in zip(router.rules, context.active_of(router)))
        return any(on for rule, on in pairs if rule in self.rules)


class Asked(KeepsIdentity):
    """The model's own prediction of the positive prompt in one step, and with what it was asked for.

    model_options: the host's, of this step.
    strong: that prediction; None where there is none.
    why: there is none.
    It stands where the host looks for context windows, since every call of the model passes there whole: above
    windows and caches, with what the guider really gave, whatever it tells functions behind it.
    """

    def __init__(self, model_options: dict):
        self.model_options, self.handler = model_options, model_options.get(HANDLER)
        self.model = self.cond = self.x = self.timestep = self.strong = None
        self.why = Reason(UNASKED)

    def __getattr__(self, name):
        return getattr(self.handler, name)

    def should_use_context(self, *args) -> bool:
        """Lets the host come here with every call."""
        return True

    def execute(self, calc, model, conds, x_in, timestep, model_options):
        """Makes the host's call with its own handler in place, and keeps the first one of a positive prompt."""
        own = {key: value for key, value in model_options.items() if key != HANDLER}
        own |= {} if self.handler is None else {HANDLER: self.handler}
        args = (model, conds, x_in, timestep, own)
        windows = self.handler is not None and self.handler.should_use_context(*args)
        outs = self.handler.execute(calc, *args) if windows else calc(*args)
        if self.x is not None:
            return outs
        # Guiders change these options, and others predictions, in place.
        self.model_options = {**own, OPTIONS: {**own.get(OPTIONS, {})}}
        which = prompt_names.most_positive(map(prompt_names.name_of, conds))
        if which is not None:
            self.model, self.cond, self.x, self.timestep = model, conds[which], x_in, timestep
            # Without memory for it the step goes on without the pass, which says so.
            alone = MACHINES not in own.get(OPTIONS, {})
            strong = try_twice(outs[which].clone, outs[which].device, alone)
            self.strong, self.why = (None, strong) if isinstance(strong, Reason) else (strong, self.why)
        return outs


class Passes(KeepsIdentity):
    """Wraps PREDICT_NOISE: runs all extra passes of a model, one after the other, behind the guider's own work.

    passes: ExtraPasses, the first one first.
    """

    def __init__(self, *passes: ExtraPass):
        self.passes = passes

    def __call__(self, executor, x, timestep, model_options, seed=None):
        asked = Asked(model_options)
        prompt_names.name_prompts(getattr(executor.class_obj, "conds", {}))
        out = executor(x, timestep, {**model_options, HANDLER: asked}, seed)
        for extra in self.passes:
            out = extra.guided(out, asked)
        return out


def passes_inside(executor, *args, **kwargs):
    """Wraps OUTER_SAMPLE: lets other wrappers of a step, LazyCache's say, see the prediction with the extra passes."""
    hooks.move_innermost(executor.class_obj, WrappersMP.PREDICT_NOISE, PASSES)
    return executor(*args, **kwargs)


def install_pass(model, rules: tuple[Rule, ...], guide):
    """Adds rules and the extra pass that they are for to a clone of the MODEL `model`.

    guide: as ExtraPass has it.
    """
    patched = model_rules.add_rules(model, rules)
    passes = [each for found in patched.get_wrappers(WrappersMP.PREDICT_NOISE, PASSES) for each in found.passes]
    wrappers = {
        WrappersMP.OUTER_SAMPLE: passes_inside,
        WrappersMP.PREDICT_NOISE: Passes(*passes, ExtraPass(rules, guide)),
    }
    hooks.wrap(patched, PASSES, wrappers)
    return patched


def _shapes(cond):
    """Finds the streams' shapes where video and sound are packed into one tensor; None elsewhere."""
    for each in cond:
        packed = each.get("model_conds", {}).get("latent_shapes")
        if packed is not None and len(packed.cond) > 1:
            return packed.cond
    return None


def _unpack(latent: torch.Tensor, shapes):
    return [latent] if shapes is None else comfy.utils.unpack_latents(latent, shapes)
