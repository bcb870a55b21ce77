"""Two stages of one run: two experts on one schedule, or a second stage on a larger latent."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import comfy.sampler_helpers
import comfy.utils
import torch
from comfy_extras.nodes_hunyuan import HunyuanVideo15LatentUpscaleWithModel
from comfy_extras.nodes_lt_upsampler import LTXVLatentUpsampler

from ...attention.inspect.combined_report import combine
from ...attention.inspect.report import Report
from ...attention.inspect.report_text import ran_lines
from ...attention.sampling import time_left
from ..host import run_history
from ..host.carried_sampler import CarriedSampler
from ..host.latent import join_parts, parts_of
from . import sampling_job
from .progress import Progress
from .sampling_job import Job

NAMES = ("the first model", "the second model"), ("the first stage", "the second stage")
# Pixels in a latent pixel of HunyuanVideo 1.5, whose upscaling node counts in pixels.
HUNYUAN_PIXELS = 16


@dataclass(frozen=True)
class Upscaling:
    """How the video becomes larger between two stages.

    by: factor for width and height, without `large`.
    model: LATENT_UPSCALE_MODEL; None to interpolate.
    vae: VAE, which LTX's upscaling models need.
    large: LATENT of the second stage's size, whose kept parts replace those of the upscaled one.
    """

    by: float
    model: object = None
    vae: object = None
    large: dict | None = None

    def __str__(self):
        return "interpolated" if self.model is None else "by the upscaling model"


class Stages:
    """Runs two jobs in a row under one bar.

    high: the first Job.
    steps_low: steps of the second one.
    names: of both, as sentences say them.
    lines: a sentence or two about each stage that had steps.
    """

    def __init__(self, high: Job, steps_low: int, names: tuple[str, str]):
        self.progress, self.names, self.lines = Progress(high.model, high.steps + steps_low), names, []
        self._reports: list[Report] = []

    def run(self, job: Job, which: int, first: int = 0):
        """Samples one stage, and writes its line.

        which: 0 for the first stage, 1 for the second.
        first: steps of the bar before it.
        """
        begun = time.perf_counter()
        with run_history.own() as runs:
            samples = sampling_job.run(job, self.progress.part(f" of {self.names[which]}", first))
        self.lines.append(stage_line(self.names[which], job.steps, runs.report, time.perf_counter() - begun))
        self._reports += runs
        return samples

    @property
    def answer(self) -> list[str]:
        """Says in a line how much faster the stages were; nothing where none of their models has a rule of ours."""
        return answer_line(combine(self._reports))


def answer_line(report: Report | None) -> list[str]:
    """Says in a line how much faster a run was; nothing without a Report or where nothing is known."""
    return [report.answer.sentence] if report is not None and report.answer.sentence else []


def stage_line(name: str, steps: int, report: Report | None, seconds: float) -> str:
    """Says what a stage took, and what its own Report says of what ran.

    report: None without a node of ours on its model.
    seconds: of the whole stage.
    """
    ran = " ".join(("", *ran_lines(report))) if report is not None else ""
    name = name[:1].upper() + name[1:]
    return f"{name}: {steps} step{'' if steps == 1 else 's'} in {time_left.to_text(seconds)}.{ran}"


def switched(high: Job, low: Job) -> tuple:
    """Samples both jobs, `low` going on where `high` stopped; leaves out a stage without steps.

    Returns the samples and the Stages.
    """
    stages = Stages(high if high.steps else low, low.steps if high.steps else 0, NAMES[0])
    if not high.steps or not low.steps:
        return stages.run(low if low.steps else high, 1 if low.steps else 0), stages
    # Of their own: UniPC writes into the noise levels that it is given.
    high, low = (replace(job, sigmas=job.sigmas.clone()) for job in (high, low))
    with CarriedSampler(high.sampler, torch.cat([high.sigmas, low.sigmas[1:]]), high.steps) as carried:
        samples = stages.run(replace(high, sampler=carried.first), 0)
        if carried.due:
            carried.given = samples
            samples = stages.run(replace(low, sampler=carried.second), 1, high.steps)
        else:
            stages.lines.append("This method came to its end before the switch: the second model had nothing to do.")
    return samples, stages


def upscaled(high: Job, upscaling: Upscaling, second) -> tuple:
    """Samples both stages, the second one on the upscaled result of the first.

    second: has the number of its steps as `steps`, a Job with its prompts as `low`, and makes its job(high, larger
        LATENT).
    Returns the samples, the second Job and the Stages. Raises ValueError for what cannot become larger.
    """
    _check(high, (*high.prompts, *second.low.prompts))
    stages = Stages(high, second.steps, NAMES[1])
    samples = stages.run(high, 0)
    if high.steps and float(high.sigmas[-1]) > 0.0:
        # Noise is left over: the prediction is the clip.
        samples = sampling_job.denoised(high.model, stages.progress.seen["x0"], samples)
    low = second.job(high, enlarged(high.latent, samples, upscaling))
    stages.progress.total = high.steps + low.steps
    if not low.steps:
        return low.latent["samples"], low, stages
    return stages.run(low, 1, high.steps), low, stages


def _check(high: Job, prompts: tuple[dict, ...]) -> None:
    video = parts_of(high.latent["samples"])[0]
    if video.ndim != 5:
        raise ValueError(f"latent: this model's frames are no axis of it (it is {tuple(video.shape)}); not supported.")
    if any("keyframe_idxs" in options for options in prompts):
        raise ValueError(
            "positive: its guide frames (LTXVAddGuide) are of one size and cannot grow between stages. Give the start "
            "image in the latent instead, with LTXVImgToVideoInplace."
        )


def enlarged(latent: dict, samples, upscaling: Upscaling) -> dict:
    """Copies the LATENT `latent` with `samples` in the second stage's size; sound stays, and so does a mask."""
    video, *sound = parts_of(samples)
    size = tuple(round(side * upscaling.by) for side in video.shape[-2:])
    if upscaling.large is not None:
        size = parts_of(upscaling.large["samples"])[0].shape[-2:]
    large = _interpolate(video, size) if upscaling.model is None else _by_model(video, size, upscaling)
    latent = {**latent, "samples": join_parts([large, *sound])}
    return latent if upscaling.large is None else _keep(latent, upscaling.large)


def _interpolate(video: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return comfy.utils.common_upscale(video, size[1], size[0], "bislerp", "disabled")


def _by_model(video: torch.Tensor, size: tuple[int, int], upscaling: Upscaling) -> torch.Tensor:
    """Enlarges the video by ComfyUI's own node for this kind of upscaling model."""
    model, latent = upscaling.model, {"samples": video}
    if hasattr(model, "resample_latent"):
        height, width = (side * HUNYUAN_PIXELS for side in size)
        node = HunyuanVideo15LatentUpscaleWithModel
        return node.execute(model, latent, "bilinear", width, height, "disabled").args[0]["samples"]
    if upscaling.vae is None:
        raise ValueError("vae: connect the model's VAE, whose statistics this upscaling model needs.")
    made = LTXVLatentUpsampler.execute(latent, model, upscaling.vae).args[0]["samples"]
    if upscaling.large is not None and made.shape[-2:] != size:
        raise ValueError(
            f"second_latent: it is {size[0]} x {size[1]} in the latent, the upscaling model makes "
            f"{made.shape[-2]} x {made.shape[-1]}."
        )
    return made


def _keep(latent: dict, large: dict) -> dict:
    """Copies `latent` with the parts that the mask of the LATENT `large` keeps, and with that mask."""
    mask = large.get("noise_mask")
    if mask is None:
        return latent
    video, *sound = parts_of(latent["samples"])
    kept, mask = parts_of(large["samples"])[0], parts_of(mask)[0]
    if kept.shape != video.shape:
        raise ValueError(
            f"second_latent: it is {tuple(kept.shape)}, the first stage's latent has become {tuple(video.shape)}."
        )
    full = comfy.sampler_helpers.prepare_mask(mask, video.shape, "cpu")
    merged = torch.where(full > 0.0, video, kept.to(video))
    given = latent.get("noise_mask")
    masks = [mask, *_sound_masks(given, sound)]
    return {**latent, "samples": join_parts([merged, *sound]), "noise_mask": join_parts(masks)}


def _sound_masks(given, sound: list) -> list:
    """Gives the first stage's masks of the sound, or such that change it all."""
    known = parts_of(given)[1:] if given is not None else []
    return [known[i] if i < len(known) else torch.ones_like(part[:, :1]) for i, part in enumerate(sound)]
