"""Sample a video with one model, or with two experts."""

from dataclasses import replace

import comfy.samplers
import torch
from comfy_api.latest import io, ui

from ..attention.sampling import schedule
from . import _sampler_inputs, _sampling
from ._sampling import Job, Progress

BOUNDARY, STEP = "sigma boundary", "step"


class VideoAttentionSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionSampler",
            display_name="Video Attention Sampler",
            category="video attention/sample",
            description=(
                "Samples a video, with its sound if the latent has any. auto takes the model family's usual scheduler "
                "and says which. Stops at the first step that gives NaN instead of rendering black frames."
            ),
            search_aliases=["ksampler", "sample video", "video sampler", "denoise video"],
            inputs=[
                io.Model.Input("model", tooltip="The model, with all its patches."),
                *_sampler_inputs.prompts(),
                _sampler_inputs.seed(),
                _sampler_inputs.steps(),
                _sampler_inputs.cfg(),
                *_sampler_inputs.how(),
                _sampler_inputs.denoise(),
                _sampler_inputs.own_sampler(),
                _sampler_inputs.own_sigmas(),
            ],
            outputs=[*_sampler_inputs.outputs(), _sampler_inputs.report()],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent, seed, steps, cfg, sampler_name, scheduler_name, denoise,
        sampler=None, sigmas=None,
    ) -> io.NodeOutput:  # fmt: skip
        latent = _sampling.fitted(model, latent)
        sampler = sampler or comfy.samplers.sampler_object(sampler_name)
        line = "Noise levels: your own."
        if sigmas is None:
            sigmas, line = _sampling.sigmas_of(model, sampler_name, scheduler_name, steps, denoise, latent)
        noise = _sampling.noise_of(latent, seed)
        job = Job(model, positive, negative, cfg, sampler, sigmas, latent, noise, seed)
        progress = Progress(model, job.steps)
        samples = _sampling.run(job, progress.part())
        return io.NodeOutput(*_sampling.outputs(job, samples, progress.seen), line, ui=ui.PreviewText(line))


class VideoAttentionTwoStageSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionTwoStageSampler",
            display_name="Video Attention Two-Stage Sampler",
            category="video attention/sample",
            description=(
                "Samples with two models one after the other, as Wan 2.2's high-noise and low-noise experts: one seed, "
                "one progress bar, the change at a noise level or at a step. Each model keeps its own patches."
            ),
            search_aliases=["wan 2.2", "moe sampler", "high noise low noise", "two experts", "ksampler advanced"],
            inputs=[
                io.Model.Input("model_high", tooltip="The model of the first, noisy steps. Its schedule is used."),
                io.Model.Input(
                    "model_low", optional=True, tooltip="The model of the other steps. Without one, the first does all."
                ),
                *_sampler_inputs.prompts(),
                _sampler_inputs.seed(),
                _sampler_inputs.steps(),
                _sampler_inputs.cfg("cfg_high", 3.5, " of the first model"),
                _sampler_inputs.cfg("cfg_low", 3.5, " of the second model"),
                *_sampler_inputs.how(),
                *_switch(),
                _sampler_inputs.own_sigmas(),
            ],
            outputs=[
                *_sampler_inputs.outputs(),
                io.Int.Output("switch_step", tooltip="How many steps the first model made."),
                _sampler_inputs.report(),
            ],
        )

    @classmethod
    def execute(
        cls, model_high, positive, negative, latent, seed, steps, cfg_high, cfg_low, sampler_name, scheduler_name,
        switch_at, boundary, switch_step, model_low=None, sigmas=None,
    ) -> io.NodeOutput:  # fmt: skip
        model_low = model_high if model_low is None else model_low
        latent = _sampling.fitted(model_high, latent)
        line = "Noise levels: your own."
        if sigmas is None:
            sigmas, line = _sampling.sigmas_of(model_high, sampler_name, scheduler_name, steps, 1.0, latent)
        count = max(0, len(sigmas) - 1)
        at = schedule.switch_step(sigmas, boundary) if switch_at == BOUNDARY else min(switch_step, count)
        sampler, noise = comfy.samplers.sampler_object(sampler_name), _sampling.noise_of(latent, seed)
        high = Job(model_high, positive, negative, cfg_high, sampler, sigmas[: at + 1], latent, noise, seed)
        low = replace(high, model=model_low, cfg=cfg_low, sigmas=sigmas[at:])
        samples, seen = _two_stages(high, low)
        text = "\n".join(filter(None, (line, _stages_line(sigmas, at), _shifts_line(model_high, model_low))))
        job = low if low.steps else high
        return io.NodeOutput(*_sampling.outputs(job, samples, seen), at, text, ui=ui.PreviewText(text))


def _switch() -> list:
    return [
        io.Combo.Input(
            "switch_at",
            options=[BOUNDARY, STEP],
            default=BOUNDARY,
            tooltip="Whether boundary or switch_step says when the second model takes over.",
        ),
        io.Float.Input(
            "boundary",
            default=0.875,
            min=0.0,
            max=1000.0,
            step=0.001,
            tooltip="The first model makes the steps that begin at or above this noise level (sigma). Wan 2.2: 0.875 "
            "for text to video, 0.9 for image to video.",
        ),
        io.Int.Input(
            "switch_step", default=10, min=0, max=10000, tooltip="The first model makes this many steps."
        ),
    ]  # fmt: skip


def _two_stages(high: Job, low: Job) -> tuple:
    """Samples of both jobs in a row, and what Progress saw. A stage without steps is left out."""
    progress = Progress(high.model if high.steps else low.model, high.steps + low.steps)
    samples = None
    if high.steps or not low.steps:
        samples = _sampling.run(high, progress.part(" of the first model"))
    if low.steps:
        sampler = low.sampler if samples is None else _sampling.goes_on(low.sampler, samples)
        samples = _sampling.run(replace(low, sampler=sampler), progress.part(" of the second model", high.steps))
    return samples, progress.seen


def _stages_line(sigmas: torch.Tensor, at: int) -> str:
    count = max(0, len(sigmas) - 1)
    if 0 < at < count:
        before, after = (f"{float(sigma):.4g}" for sigma in sigmas[at - 1 : at + 1])
        return (
            f"Switch after step {at} of {count}: the first model's last step begins at {before}, the second at {after}."
        )
    return f"No switch: the {'second' if at == 0 else 'first'} model makes all {count} steps."


def _shifts_line(high, low) -> str:
    """A sentence when the second model's own schedule would be another one."""
    shifts = [getattr(model.get_model_object("model_sampling"), "shift", None) for model in (high, low)]
    if shifts[0] == shifts[1]:
        return ""
    return f"The models' shifts differ ({shifts[0]} and {shifts[1]}); the first one's schedule is used for both."


NODES = (VideoAttentionSampler, VideoAttentionTwoStageSampler)
