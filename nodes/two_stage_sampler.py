"""Sample a video in two stages: two experts, or a second stage on a larger latent."""

from dataclasses import replace

import comfy.samplers
from comfy_api.latest import io, ui

from ..attention.sampling import schedule
from .host.latent import parts_of
from .runs import sampling_job, two_stages
from .runs.sampling_job import Job
from .runs.two_stages import Upscaling
from .widgets import sampler_inputs, search_words
from .widgets.idle import idle, linked, none_of, one_of, own_levels
from .widgets.node import REPORT, Node

BOUNDARY, STEP = "sigma boundary", "step"
NOTHING, INTERPOLATE, MODEL = "nothing", "interpolate", "upscale model"


_IDLE = (
    own_levels("steps"),
    # Both stages take the scheduler.
    idle("scheduler_name", when=(linked("sigmas"), one_of("between", NOTHING))),
    idle("scheduler_name", when=(linked("sigmas"), linked("second_sigmas"))),
    idle("switch_at", "boundary", "switch_step", when=(none_of("between", NOTHING),)),
    idle("switch_step", when=(one_of("switch_at", BOUNDARY),)),
    idle("boundary", when=(one_of("switch_at", STEP),)),
    idle("between.second_steps", "between.second_denoise", when=(linked("second_sigmas"),)),
    idle("between.upscale_by", when=(linked("second_latent"),)),
    idle("cfg_high", "cfg_low", when=(linked("guider"),)),
    idle("cfg_low", when=(linked("guider_low"),)),
)


class VideoAttentionTwoStageSampler(Node):
    """Samples a clip with two models on one schedule, or at two sizes."""

    TEXT = REPORT
    SAMPLES = True
    IDLE = _IDLE

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionTwoStageSampler",
            display_name="Video Attention Two-Stage Sampler (MoE, Upscale)",
            category="video attention/sample",
            description=(
                "Samples with two models one after the other, as Wan 2.2's high-noise and low-noise experts, or with "
                "one model on a small and then on an upscaled latent, as LTX-2.3: one seed, one progress bar. Each "
                "model keeps its own patches."
            ),
            search_aliases=search_words.of("VideoAttentionTwoStageSampler"),
            inputs=[
                io.Model.Input("model_high", tooltip="The model of the first, noisy steps. Its schedule is used."),
                io.Model.Input(
                    "model_low", optional=True, tooltip="The model of the other steps. Without one, the first does all."
                ),
                *sampler_inputs.prompts(),
                sampler_inputs.seed(),
                sampler_inputs.steps(),
                sampler_inputs.cfg("cfg_high", 3.5, " of the first model"),
                sampler_inputs.cfg("cfg_low", 3.5, " of the second model"),
                *sampler_inputs.how(),
                *_switch(),
                _between(),
                sampler_inputs.own_sigmas(),
                *_second_stage(),
                sampler_inputs.own_guider(of="For both stages, or for the first beside guider_low."),
                sampler_inputs.own_guider("guider_low", "For the second stage."),
            ],
            outputs=[
                *sampler_inputs.outputs(),
                io.Int.Output("switch_step", tooltip="How many steps the first model made."),
                sampler_inputs.report(),
            ],
        )

    @classmethod
    def execute(
        cls, model_high, positive, negative, latent, seed, steps, cfg_high, cfg_low, sampler_name, scheduler_name,
        switch_at, boundary, switch_step, between=None, model_low=None, sigmas=None, upscale_model=None, vae=None,
        second_latent=None, second_sigmas=None, guider=None, guider_low=None,
    ) -> io.NodeOutput:  # fmt: skip
        model_high, model_low, lines = _models(model_high, model_low, guider, guider_low)
        latent = sampling_job.fitted(model_high, latent)
        line = "Noise levels: your own."
        if sigmas is None:
            sigmas, line = sampling_job.sigmas_of(model_high, sampler_name, scheduler_name, steps, 1.0, latent)
        sampler, noise = comfy.samplers.sampler_object(sampler_name), sampling_job.noise_of(latent, seed)
        high = Job(model_high, positive, negative, cfg_high, sampler, sigmas, latent, noise, seed, guider)
        low, lines = replace(high, model=model_low, cfg=cfg_low, guider=guider_low or guider), [*lines, line]
        # A prompt of a script may leave a dynamic combo out, and ComfyUI lets it.
        if between is None or between["between"] == NOTHING:
            at = schedule.switch_step(sigmas, boundary) if switch_at == BOUNDARY else min(switch_step, high.steps)
            return _experts(replace(high, sigmas=sigmas[: at + 1]), replace(low, sigmas=sigmas[at:]), lines)
        if between["between"] == MODEL and upscale_model is None:
            raise ValueError("upscale_model: connect Load Latent Upscale Model, or let between be `interpolate`.")
        by = between.get("upscale_by", 2.0)
        upscaling = Upscaling(by, upscale_model if between["between"] == MODEL else None, vae, second_latent)
        wanted = (sampler_name, scheduler_name, between["second_steps"], between["second_denoise"])
        return _larger(high, upscaling, _Second(low, wanted, second_sigmas), lines)


def _models(model_high, model_low, guider, guider_low) -> tuple:
    """Gives the models of both stages, and lines that say what has no effect beside a guider.

    Raises ValueError with a sentence for what is no GUIDER.
    """
    lines = []
    if guider is not None:
        without = "model_high and cfg_high" if guider_low else "model_high, positive, negative, cfg_high and cfg_low"
        model_high, line = sampling_job.guided(guider, "guider", without)
        lines.append(line)
    if guider_low is not None:
        without = "model_low, positive, negative and cfg_low" if guider else "model_low and cfg_low"
        model_low, line = sampling_job.guided(guider_low, "guider_low", without)
        lines.append(line)
    return model_high, model_high if model_low is None else model_low, lines


class _Second:
    """Makes the Job of a second stage of the latent that the first one leaves.

    low: a Job with its model, prompts and cfg.
    wanted: the arguments of sigmas_of between model and latent.
    sigmas: noise levels of another node; None for such as wanted says.
    line: a sentence about the noise levels, once there are any.
    """

    def __init__(self, low: Job, wanted: tuple, sigmas):
        self.low, self.wanted, self.sigmas, self.line = low, wanted, sigmas, ""
        self.steps = wanted[2] if sigmas is None else max(0, len(sigmas) - 1)

    def job(self, high: Job, latent: dict) -> Job:
        """Makes the Job.

        high: the first stage's Job.
        latent: LATENT in the second stage's size.
        """
        sigmas, line = self.sigmas, "Noise levels: your own."
        if sigmas is None:
            sigmas, line = sampling_job.sigmas_of(self.low.model, *self.wanted, latent)
        # With the first stage's seed its noise would come back: all of it where the sizes are equal.
        seed = sampling_job.fresh(high.seed)
        self.line = f"Second stage: {line[:1].lower()}{line[1:]} Its noise is of seed {seed}."
        noise = sampling_job.noise_of(latent, seed)
        return replace(self.low, sampler=high.sampler, sigmas=sigmas, latent=latent, noise=noise, seed=seed)


def _between() -> io.DynamicCombo.Input:
    steps = [
        io.Int.Input(
            "second_steps", default=8, min=1, max=10000, tooltip="Steps of the second stage, without second_sigmas."
        ),
        io.Float.Input(
            "second_denoise",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="How much of the noise comes back before the second stage, without second_sigmas.",
        ),
    ]
    by = io.Float.Input(
        "upscale_by", default=2.0, min=1.0, max=8.0, step=0.05, tooltip="Of width and height, without second_latent."
    )
    return io.DynamicCombo.Input(
        "between",
        options=[
            io.DynamicCombo.Option(NOTHING, []),
            io.DynamicCombo.Option(INTERPOLATE, [by, *steps]),
            io.DynamicCombo.Option(MODEL, steps),
        ],
        tooltip="What happens to the latent between the stages. nothing: the second model goes on where the first "
        "stopped. Otherwise the first stage makes all its steps, its latent grows, and a second stage refines it.",
    )


def _second_stage() -> list:
    return [
        io.LatentUpscaleModel.Input(
            "upscale_model", optional=True, tooltip="From Load Latent Upscale Model, for `upscale model`."
        ),
        io.Vae.Input("vae", optional=True, tooltip="The model's VAE, which LTX's upscaling models need."),
        io.Latent.Input(
            "second_latent",
            optional=True,
            tooltip="A latent of the second stage's size: what its noise mask keeps, a start image for example, "
            "replaces the upscaled part.",
        ),
        io.Sigmas.Input(
            "second_sigmas", optional=True, tooltip="Noise levels of the second stage: the first says how much of "
            "the noise comes back.",
        ),
    ]  # fmt: skip


def _experts(high: Job, low: Job, lines: list[str]) -> io.NodeOutput:
    samples, stages = two_stages.switched(high, low)
    return _output(low if low.steps else high, samples, stages, high.steps, [
        *lines, _stages_line(high, low), _shifts_line(high.model, low.model), *stages.lines,
    ])  # fmt: skip


def _larger(high: Job, upscaling: Upscaling, second: _Second, lines: list[str]) -> io.NodeOutput:
    samples, low, stages = two_stages.upscaled(high, upscaling, second)
    sizes = [" x ".join(map(str, parts_of(job.latent["samples"])[0].shape[-2:])) for job in (high, low)]
    grown = f"From {sizes[0]} to {sizes[1]} in the latent, {upscaling}."
    return _output(low, samples, stages, high.steps, [*lines, grown, second.line, *stages.lines])


def _output(job: Job, samples, stages, switch_step: int, lines: list[str]) -> io.NodeOutput:
    text = "\n".join(filter(None, [*stages.answer, *lines]))
    outputs = sampling_job.outputs(job, samples, stages.progress.seen)
    return io.NodeOutput(*outputs, switch_step, text, ui=ui.PreviewText(text))


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


def _stages_line(high: Job, low: Job) -> str:
    count = high.steps + low.steps
    if high.steps and low.steps:
        before, after = (f"{float(sigma):.4g}" for sigma in high.sigmas[-2:])
        return (
            f"Switch after step {high.steps} of {count}: the first model's last step begins at {before}, the second "
            f"at {after}."
        )
    return f"No switch: the {'first' if high.steps else 'second'} model makes all {count} steps."


def _shifts_line(high, low) -> str:
    """Says that the second model's own schedule would be another one; empty where it is the same."""
    shifts = [getattr(model.get_model_object("model_sampling"), "shift", None) for model in (high, low)]
    if shifts[0] == shifts[1]:
        return ""
    return f"The models' shifts differ ({shifts[0]} and {shifts[1]}); the first one's schedule is used for both."


NODES = (VideoAttentionTwoStageSampler,)
