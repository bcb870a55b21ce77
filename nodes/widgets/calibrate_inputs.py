"""Sockets and widgets of Calibrate."""

from __future__ import annotations

from comfy_api.latest import io

from ..runs.calibration import EACH, ONE
from ..runs.plans import BOTH, KINDS
from . import rule_inputs, sampler_inputs

# Relative L2 of the final latent. Another exact kernel alone gives about 1e-3 in 16 bit.
BUDGETS = {"lossless": 0.01, "quality": 0.03, "fast": 0.1}
CUSTOM = "custom"


def inputs() -> list:
    """Makes all inputs of Calibrate."""
    return [
        io.Model.Input("model", tooltip="As you would sample it, before Video Attention Backend or Pattern."),
        *sampler_inputs.prompts(),
        *_wanted(),
        *_thorough(),
        sampler_inputs.fixed_seed("The first of them."),
        io.Int.Input(
            "steps",
            default=8,
            min=1,
            max=1000,
            tooltip="Steps of each sampling. Eight are enough for kernels and patterns; to forecast steps or keep "
            "outputs, as many as you render with.",
        ),
        sampler_inputs.cfg(),
        *sampler_inputs.how(),
        io.Conditioning.Input(
            "more_prompts",
            optional=True,
            tooltip="More positive prompts, put together with Conditioning (Combine): each further seed samples the "
            "next one, so that the error is predicted from several prompts.",
        ),
        rule_inputs.memory_budget(),
    ]


def _wanted() -> list:
    """Makes the widgets that say what may be chosen, and how much error it may make."""
    return [
        io.Combo.Input(
            "candidates",
            options=list(KINDS),
            default=BOTH,
            tooltip="What is tried: the installed kernels, some sparse patterns, both, steps that are forecast instead "
            "of computed, or everything. Forecast steps save the most with 20 steps or more.",
        ),
        io.Combo.Input(
            "budget",
            options=[*BUDGETS, CUSTOM],
            default="quality",
            tooltip="Largest relative L2 error of the final latent: lossless 0.01, quality 0.03, fast 0.1.",
        ),
        io.Float.Input(
            "custom_budget", default=0.03, min=0.0, max=1.0, step=0.001, tooltip="The budget when it is custom."
        ),
    ]


def _thorough() -> list:
    """Makes the widgets that say how much is measured."""
    return [
        io.Int.Input("block_groups", default=3, min=1, max=32, tooltip="Blocks are decided about in so many groups."),
        io.Int.Input("step_ranges", default=2, min=1, max=8, tooltip="The sampling is cut into so many parts."),
        io.Combo.Input(
            "end_error",
            options=[EACH, ONE],
            default=EACH,
            tooltip="How the error of the final latent is found: by a sampling for every choice worth it, or by one "
            "for each part of the model, the other choices in proportion to their error in a block.",
        ),
        io.Int.Input(
            "seeds",
            default=2,
            min=1,
            max=16,
            tooltip="The plan is sampled with so many seeds and must keep the budget over all of them. More seeds "
            "tell better what other prompts will give: four or more where steps are forecast or outputs are kept, "
            "whose errors differ most.",
        ),
    ]
