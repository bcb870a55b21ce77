"""Sample a video with one model."""

import time

import comfy.samplers
from comfy_api.latest import io, ui

from .host import run_history
from .runs import sampling_job, two_stages
from .runs.progress import Progress
from .runs.sampling_job import Job
from .widgets import sampler_inputs, search_words
from .widgets.node import REPORT, Node


class VideoAttentionSampler(Node):
    """Samples a clip by widgets."""

    TEXT = REPORT
    SAMPLES = True
    EXAMPLE = "Compare attention, A against B"
    IDLE = sampler_inputs.IDLE

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
            search_aliases=search_words.of("VideoAttentionSampler"),
            inputs=[
                io.Model.Input("model", tooltip="The model, with all its patches."),
                *sampler_inputs.prompts(),
                sampler_inputs.seed(),
                sampler_inputs.steps(),
                sampler_inputs.cfg(),
                *sampler_inputs.how(),
                sampler_inputs.denoise(),
                sampler_inputs.own_sampler(),
                sampler_inputs.own_sigmas(),
            ],
            outputs=[*sampler_inputs.outputs(), sampler_inputs.report()],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent, seed, steps, cfg, sampler_name, scheduler_name, denoise,
        sampler=None, sigmas=None,
    ) -> io.NodeOutput:  # fmt: skip
        latent = sampling_job.fitted(model, latent)
        sampler = sampler or comfy.samplers.sampler_object(sampler_name)
        line = "Noise levels: your own."
        if sigmas is None:
            sigmas, line = sampling_job.sigmas_of(model, sampler_name, scheduler_name, steps, denoise, latent)
        noise = sampling_job.noise_of(latent, seed)
        job = Job(model, positive, negative, cfg, sampler, sigmas, latent, noise, seed)
        return _sampled(job, line)


class VideoAttentionSamplerAdvanced(Node):
    """Samples a clip by a guider, a sampler and noise levels of other nodes."""

    TEXT = REPORT
    SAMPLES = True

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionSamplerAdvanced",
            display_name="Video Attention Sampler (Advanced)",
            category="video attention/sample",
            description=(
                "Samples with sockets in place of widgets, as ComfyUI's SamplerCustomAdvanced, with a moving preview, "
                "the seconds left, an end at the first step that gives NaN, and a report."
            ),
            search_aliases=search_words.of("VideoAttentionSamplerAdvanced"),
            inputs=[
                io.Noise.Input("noise", tooltip="RandomNoise, or DisableNoise to go on with a noisy latent."),
                io.Guider.Input("guider", tooltip="The model with its prompts: CFGGuider, BasicGuider and others."),
                io.Sampler.Input("sampler", tooltip="The method of steps, from KSamplerSelect for example."),
                io.Sigmas.Input("sigmas", tooltip="The noise levels of the steps."),
                io.Latent.Input(
                    "latent", tooltip="The empty latent, or one to change; its noise mask counts, sound too."
                ),
            ],
            outputs=[*sampler_inputs.outputs(), sampler_inputs.report()],
        )

    @classmethod
    def execute(cls, noise, guider, sampler, sigmas, latent) -> io.NodeOutput:
        model = guider.model_patcher
        latent = sampling_job.fitted(model, latent)
        drawn = noise.generate_noise(latent)
        sampling_job.check_noise(drawn, latent)
        job = Job(model, [], [], 0.0, sampler, sigmas, latent, drawn, noise.seed, guider)
        return _sampled(job, f"Noise levels: {sampling_job.levels(sigmas)}.")


def _sampled(job: Job, line: str) -> io.NodeOutput:
    """Makes the outputs of one run, and a report that begins with `line`."""
    begun, progress = time.perf_counter(), Progress(job.model, job.steps)
    with run_history.own() as runs:
        samples = sampling_job.run(job, progress.part())
    took = two_stages.stage_line("sampling", job.steps, runs.report, time.perf_counter() - begun)
    text = "\n".join((*two_stages.answer_line(runs.report), line, took))
    return io.NodeOutput(*sampling_job.outputs(job, samples, progress.seen), text, ui=ui.PreviewText(text))


NODES = (VideoAttentionSampler, VideoAttentionSamplerAdvanced)
