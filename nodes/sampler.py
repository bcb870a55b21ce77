"""Sample a video with one model."""

import time

import comfy.samplers
from comfy_api.latest import io, ui

from . import _runs, _sampler_inputs, _sampling, _stages
from ._progress import Progress
from ._sampling import Job


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
        return _sampled(job, line)


class VideoAttentionSamplerAdvanced(io.ComfyNode):
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
            search_aliases=["samplercustomadvanced", "custom sampler", "guider", "noise", "sigmas"],
            inputs=[
                io.Noise.Input("noise", tooltip="RandomNoise, or DisableNoise to go on with a noisy latent."),
                io.Guider.Input("guider", tooltip="The model with its prompts: CFGGuider, BasicGuider and others."),
                io.Sampler.Input("sampler", tooltip="The method of steps, from KSamplerSelect for example."),
                io.Sigmas.Input("sigmas", tooltip="The noise levels of the steps."),
                io.Latent.Input(
                    "latent", tooltip="The empty latent, or one to change; its noise mask counts, sound too."
                ),
            ],
            outputs=[*_sampler_inputs.outputs(), _sampler_inputs.report()],
        )

    @classmethod
    def execute(cls, noise, guider, sampler, sigmas, latent) -> io.NodeOutput:
        model = guider.model_patcher
        latent = _sampling.fitted(model, latent)
        drawn = noise.generate_noise(latent)
        _sampling.check_noise(drawn, latent)
        job = Job(model, [], [], 0.0, sampler, sigmas, latent, drawn, noise.seed, guider)
        return _sampled(job, f"Noise levels: {_sampling.levels(sigmas)}.")


def _sampled(job: Job, line: str) -> io.NodeOutput:
    """The outputs of one run, and a report that begins with `line`."""
    begun, progress = time.perf_counter(), Progress(job.model, job.steps)
    with _runs.own() as runs:
        samples = _sampling.run(job, progress.part())
    text = f"{line}\n{_stages.stage_line('sampling', job.steps, runs.report, time.perf_counter() - begun)}"
    return io.NodeOutput(*_sampling.outputs(job, samples, progress.seen), text, ui=ui.PreviewText(text))


NODES = (VideoAttentionSampler, VideoAttentionSamplerAdvanced)
