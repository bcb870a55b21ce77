"""Sockets and widgets that the sampling nodes share."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io

from ..runs import sampling_job
from .idle import idle, linked, own_levels

# Of a node with steps, how, denoise, own_sampler and own_sigmas. The method of steps counts for noise levels too.
IDLE = (
    own_levels("steps", "scheduler_name", "denoise"),
    idle("sampler_name", when=(linked("sigmas"), linked("sampler"))),
)


def prompts() -> list:
    """Makes the inputs of a sampler's prompts and latent."""
    return [
        io.Conditioning.Input("positive", tooltip="What the clip shall show."),
        io.Conditioning.Input("negative", tooltip="What it shall not show. Without effect where cfg is 1."),
        io.Latent.Input("latent", tooltip="The empty latent, or one to change; its noise mask counts, sound too."),
    ]


def seed() -> io.Int.Input:
    """Makes the widget of the noise's seed."""
    return io.Int.Input(
        "seed", default=0, min=0, max=2**64 - 1, control_after_generate=True, tooltip="Of the noise to begin with."
    )


def fixed_seed(tooltip: str) -> io.Int.Input:
    """Makes the widget of a measurement's seed, which stands still: each new one would be measured all over again."""
    return io.Int.Input("seed", default=0, min=0, max=2**63 - 1, control_after_generate="fixed", tooltip=tooltip)


def steps() -> io.Int.Input:
    """Makes the widget of the number of steps."""
    return io.Int.Input("steps", default=20, min=1, max=10000, tooltip="How many steps the sampling takes.")


def cfg(name: str = "cfg", default: float = 4.0, of: str = "") -> io.Float.Input:
    """Makes the widget of classifier-free guidance.

    of: what the tooltip says it is the guidance of; empty for the node's one model.
    """
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=100.0,
        step=0.1,
        tooltip=f"Classifier-free guidance{of}: 1 for distilled models and half the time, otherwise 3 to 7.",
    )


def how() -> list:
    """Makes the combos of a sampling's method and of its noise levels."""
    return [
        io.Combo.Input(
            "sampler_name", options=list(comfy.samplers.SAMPLER_NAMES), default="euler", tooltip="The method of steps."
        ),
        io.Combo.Input(
            "scheduler_name",
            options=list(sampling_job.SCHEDULERS),
            default=sampling_job.SCHEDULERS[0],
            tooltip="The noise levels of the steps. auto: the usual one of the model's family; the report says which. "
            "ltxv: LTXVScheduler with its own defaults.",
        ),
    ]


def denoise() -> io.Float.Input:
    """Makes the widget that says how much of the latent is made anew."""
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="Less than 1 keeps that much less of the noise and more of the latent.",
    )


def own_sigmas() -> io.Sigmas.Input:
    """Makes the optional input of noise levels from another node."""
    return io.Sigmas.Input(
        "sigmas", optional=True, tooltip="Noise levels to use instead of steps, scheduler_name and denoise."
    )


def own_sampler() -> io.Sampler.Input:
    """Makes the optional input of a sampler from another node."""
    return io.Sampler.Input("sampler", optional=True, tooltip="A sampler to use instead of sampler_name.")


def own_guider(name: str = "guider", of: str = "") -> io.Guider.Input:
    """Makes the optional input of a guider from another node.

    of: which part of the sampling it is for, a sentence; empty for all of it.
    """
    tooltip = "From CFGGuider, DualCFGGuider and others: its model, prompts and cfg take the place of this node's."
    return io.Guider.Input(name, optional=True, tooltip=f"{tooltip} {of}".strip())


def outputs() -> list:
    """Makes the outputs of a sampling's two latents."""
    return [
        io.Latent.Output("output", display_name="output", tooltip="What the sampling gave."),
        io.Latent.Output(
            "denoised_output",
            display_name="denoised_output",
            tooltip="The model's last prediction of the finished clip; the same unless noise is left over.",
        ),
    ]


def report() -> io.String.Output:
    """Makes the output of the text that is shown on the node."""
    return io.String.Output("report", tooltip="What the node chose and did, as shown on it.")
