"""What a plan, a kernel or a pattern changes in the picture, beside what another exact kernel changes."""

import math
from dataclasses import replace

import comfy.model_management
import comfy.samplers
import torch
from comfy_api.latest import io, ui

from ..attention.backends import registry
from ..attention.core.peak_memory import as_mib
from ..attention.inspect.timeline import skipped
from ..attention.measure.compare import compare_clips
from ..attention.measure.frames import Unmeasurable
from ..attention.measure.verdict import judge
from ..attention.plans.draw_verify import draw_verified
from ..attention.plans.step_times import time_of
from ..attention.plans.verify import VerifiedSampling, to_text
from ..attention.routing.rules import Rule
from .host import forecast, model_rules, run_history
from .host.latent import parts_of
from .plan import CATEGORY
from .runs import sampling_job
from .runs.progress import Counted
from .runs.repeated_sampling import distance
from .widgets import compare_view, image_output, sampler_inputs, search_words
from .widgets.node import REPORT, Node
from .widgets.once_more import once_more

# Which output has the latent of the model as it is: a report of the other one would not be of its run.
PLANNED = 1
# Exact kernels, from other sums than most hosts' own to the slowest that always runs.
OTHERS = ("sdpa efficient", "sdpa flash", "flash attention 2", "sdpa cudnn", "sdpa math", "reference")
BARE = (
    "No rule of this pack is on the model: planned and exact are the same. Put a Backend, a Pattern or a plan of Video "
    "Attention before it."
)

PLAY = "Connect a VAE to see the exact clip and the planned one here, side by side and playing."


class VideoAttentionVerify(Node):
    """Samples once as planned and once exactly, and measures how far they are apart."""

    TEXT = REPORT
    VIEW = "compare"
    EXAMPLE = "Calibrate and share a plan"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionVerify",
            display_name="Video Attention Verify (Distance From Exact)",
            category=CATEGORY,
            description=(
                "Tells how far a plan, kernel or pattern takes a clip from exact attention: samples with one seed "
                "three times, exact, with what is on the model, and exact on another kernel, whose distance is the "
                "noise floor."
            ),
            search_aliases=search_words.of("VideoAttentionVerify"),
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="With the plan, backend or pattern to verify."),
                *sampler_inputs.prompts(),
                sampler_inputs.fixed_seed("Of the noise, for all three."),
                sampler_inputs.steps(),
                sampler_inputs.cfg(),
                *sampler_inputs.how(),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Decodes all three, for PSNR and SSIM of the frames.",
                ),
            ],
            outputs=[
                io.Latent.Output("exact", display_name="exact", tooltip="With the host's own attention."),
                io.Latent.Output("planned", display_name="planned", tooltip="With what is on the model."),
                io.Float.Output("error", tooltip="Relative L2 of the planned latent against the exact one."),
                io.Float.Output("floor", tooltip="The same of an exact sampling on another kernel."),
                io.Image.Output("picture", tooltip="Both errors as bars, with PSNR and SSIM where a VAE is connected."),
                io.String.Output("report", tooltip="The table shown on the node."),
            ],
        )

    @classmethod
    @once_more
    def execute(
        cls, model, positive, negative, latent, seed, steps, cfg, sampler_name, scheduler_name, vae=None
    ) -> io.NodeOutput:
        latent = sampling_job.fitted(model, latent)
        sigmas, line = sampling_job.sigmas_of(model, sampler_name, scheduler_name, steps, 1.0, latent)
        sampler, noise = comfy.samplers.sampler_object(sampler_name), sampling_job.noise_of(latent, seed)
        job = sampling_job.Job(model, positive, negative, cfg, sampler, sigmas, latent, noise, seed)
        others = [name for name in OTHERS if registry.why_not(name) is None]
        clock = _Clock(job.steps, 2 + len(others))
        exact, report = clock.run(replace(job, model=model_rules.clear(model)))
        truth = _row("exact", exact, exact, report)
        samples, rows, seen = _beside(exact, job, clock, others)
        clock.end()
        played: tuple = ()
        if vae is None:
            seen.append(PLAY)
        else:
            truth, rows, played = _with_frames(vae, exact, samples, truth, rows)
        budgets = [forecast.budget_of(model), *(rule.budget for rule in model_rules.rules_of(model))]
        budget = min(filter(None, budgets), default=0.0)
        text = "\n".join([to_text(rows, truth, line, budget), *seen])
        picture = image_output.to_image(draw_verified(rows, budget=budget))
        out = {k: v for k, v in latent.items() if not k.startswith("downscale_ratio_")}
        errors = [*(row.error for row in rows), math.nan][:2]
        return io.NodeOutput(
            {**out, "samples": exact}, {**out, "samples": samples[0]}, *errors, picture, text,
            ui={**ui.PreviewText(text).as_dict(), "compare": played},
        )  # fmt: skip


class _Clock:
    """Runs samplings with one progress bar, every attention call timed.

    steps: of one sampling.
    most: how many samplings may be needed.
    """

    def __init__(self, steps: int, most: int):
        self._bar = Counted("Sampling", max(1, steps), most * steps)

    def run(self, job) -> tuple:
        """Samples a job; gives its latent and its Report."""
        with run_history.aside() as runs:
            samples = sampling_job.run(replace(job, model=model_rules.timed(job.model)), self._on_step)
        return samples, runs.report

    def _on_step(self, step, x0, x, steps) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._bar.step()

    def end(self) -> None:
        """Fills the bar: some samplings may not have been needed."""
        self._bar.to(self._bar.total)


def _beside(exact, job, clock: _Clock, others: list[str]) -> tuple[list, list[VerifiedSampling], list[str]]:
    """Samples the model as it is and on another exact kernel: the first of `others` that differs from the host's.

    Returns the latents, what is known of each, and what else is to be said.
    """
    bare = not model_rules.rules_of(job.model) and not forecast.spans_of(job.model)
    samples, report = clock.run(job)
    if not bare:
        run_history.remember(parts_of(samples), report, output=PLANNED)
    reason = skipped(report.timeline)
    said = [BARE] if bare else []
    said += [f"Errors and seconds are not attention's alone: {reason}."] if reason else []
    planned = _row("planned", samples, exact, report)
    found, rows = [samples], [replace(planned, ran="nothing of this pack") if bare else planned]
    for name in others:
        samples, report = clock.run(replace(job, model=model_rules.add_rule(model_rules.clear(job.model), Rule(name))))
        row = _row(f"exact, {name}", samples, exact, report)
        # Without an error it was the host's own kernel, or none of the calls were for this one.
        if row.error and report.ruled:
            return [*found, samples], [*rows, row], said
    return found, rows, said


def _row(name: str, samples, exact, report) -> VerifiedSampling:
    took = time_of(report.timeline)
    peaks = {"run_peak": report.run_peak, "call_peak": report.call_peak}
    error = distance(samples, exact)
    return VerifiedSampling(name, error, _kernels(report), took.seconds, attention=took.attention, **peaks)


def _kernels(report) -> str:
    """Names the kernels that ran: `sage (self), host default (pytorch) (cross)`."""
    return ", ".join(f"{row.used} ({row.role})" for row in report.rows) or "nothing that was seen"


def _with_frames(
    vae, exact, samples: list, truth: VerifiedSampling, rows: list[VerifiedSampling]
) -> tuple[VerifiedSampling, list[VerifiedSampling], tuple]:
    """Adds what the decoded frames say to the exact sampling and to the rows, and what the page plays of them."""
    frames, found, played = _decoded(vae, exact), [], ()
    for index, (latent, row) in enumerate(zip(samples, rows)):
        others = _decoded(vae, latent)
        try:
            clip = compare_clips(frames, others)
        except Unmeasurable:
            found.append(row)
            continue
        said = {"unsteady": clip.unsteady.mean, "motion": clip.motion.mean, "frozen": clip.frozen}
        found.append(replace(row, psnr=clip.psnr.mean, ssim=clip.ssim.mean, **said, verdict=judge(clip)))
        truth = replace(truth, motion=clip.reference_motion, frozen=clip.reference_frozen)
        if index == 0:
            both = {"names": [truth.name, row.name], "seconds": [truth.seconds, row.seconds]}
            both |= {"peak_mib": [as_mib(one.run_peak) for one in (truth, row)]}
            both |= {"call_mib": [as_mib(one.call_peak) for one in (truth, row)]}
            played = compare_view.of([frames, others], clip, found[0].verdict, **both)
    return truth, found, played


def _decoded(vae, samples) -> torch.Tensor:
    """Decodes the video into (T, H, W, C), a batch's clips one after the other."""
    return vae.decode(parts_of(samples)[0]).flatten(0, -4)


NODES = (VideoAttentionVerify,)
