"""Sockets and widgets that the sampling nodes share."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io

from ..runs import sampling_job


def prompts() -> list:
    return [
        io.Conditioning.Input("positive", tooltip="What the clip shall show."),
        io.Conditioning.Input("negative", tooltip="What it shall not show. Without effect where cfg is 1."),
        io.Latent.Input("latent", tooltip="The empty latent, or one to change; its noise mask counts, sound too."),
    ]


def seed() -> io.Int.Input:
    return io.Int.Input(
        "seed", default=0, min=0, max=2**64 - 1, control_after_generate=True, tooltip="Of the noise to begin with."
    )


def fixed_seed(tooltip: str) -> io.Int.Input:
    """The seed of a measurement, which stands still: another one would be measured all over again at each run."""
    return io.Int.Input("seed", default=0, min=0, max=2**63 - 1, control_after_generate="fixed", tooltip=tooltip)


def steps() -> io.Int.Input:
    return io.Int.Input("steps", default=20, min=1, max=10000, tooltip="How many steps the sampling takes.")


def cfg(name: str = "cfg", default: float = 4.0, of: str = "") -> io.Float.Input:
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=100.0,
        step=0.1,
        tooltip=f"Classifier-free guidance{of}: 1 for distilled models and half the time, otherwise 3 to 7.",
    )


def how() -> list:
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
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        tooltip="Less than 1 keeps that much less of the noise and more of the latent.",
    )


def own_sigmas() -> io.Sigmas.Input:
    return io.Sigmas.Input(
        "sigmas", optional=True, tooltip="Noise levels to use instead of steps, scheduler_name and denoise."
    )


def own_sampler() -> io.Sampler.Input:
    return io.Sampler.Input("sampler", optional=True, tooltip="A sampler to use instead of sampler_name.")


def outputs() -> list:
    return [
        io.Latent.Output("output", display_name="output", tooltip="What the sampling gave."),
        io.Latent.Output(
            "denoised_output",
            display_name="denoised_output",
            tooltip="The model's last prediction of the finished clip; the same unless noise is left over.",
        ),
    ]


def report() -> io.String.Output:
    return io.String.Output("report", tooltip="What the node chose and did, as shown on it.")
