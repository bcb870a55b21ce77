"""One sampling run as the host's SamplerCustomAdvanced makes it, cut into parts that can be put together."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_management
import comfy.nested_tensor
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise
from comfy_extras.nodes_lt import LTXVScheduler

from ..attention.sampling import schedule
from . import _sites

SCHEDULERS = (schedule.AUTO, schedule.LTXV, *comfy.samplers.SCHEDULER_NAMES)
# The defaults of the host's LTXVScheduler.
LTXV_SETTINGS = {"max_shift": 2.05, "base_shift": 0.95, "stretch": True, "terminal": 0.1}


class NotFinite(RuntimeError):
    """A step gave NaN or Inf; args[0] says which."""

    def __str__(self):
        return f"{self.args[0]}. Try another kernel, or its guard at `every call`, in Video Attention Backend."


@dataclass(frozen=True)
class Job:
    """What is sampled. latent: a LATENT whose samples fit the model; noise: as its samples; sigmas: (steps + 1,)."""

    model: object
    positive: list
    negative: list
    cfg: float
    sampler: object
    sigmas: torch.Tensor
    latent: dict
    noise: object
    seed: int

    @property
    def steps(self) -> int:
        return max(0, len(self.sigmas) - 1)


class Progress:
    """One progress bar with previews for all parts of a run. seen["x0"]: the last finite prediction of a step."""

    def __init__(self, model, total: int):
        self.total, self.seen = total, {}
        self._show = latent_preview.prepare_callback(model, total)

    def part(self, name: str = "", first: int = 0, size: int = 1, frame: int = 0):
        """The callback of a part that begins at `first` of the bar and moves it by `size` a step.

        frame: the latent frame that previews show. Raises NotFinite, and stops when the user interrupts.
        """

        def callback(step, x0, x, steps):
            comfy.model_management.throw_exception_if_processing_interrupted()
            if not all(bool(torch.isfinite(part).all()) for part in parts_of(x0)):
                raise NotFinite(f"NaN or Inf in step {step + 1} of {steps}{name}")
            self.seen["x0"] = x0
            shown = parts_of(x0)[0]
            self._show(first + (step + 1) * size - 1, shown[:, :, frame:] if frame else shown, x, self.total)

        return callback


def fitted(model, latent: dict) -> dict:
    """A copy of the LATENT `latent` with as many channels as the model's, as the host's samplers make it."""
    # ComfyUI before 0.24 has no ratio in time, neither in its latents nor in its function.
    ratios = {name: latent[name] for name in ("downscale_ratio_spacial", "downscale_ratio_temporal") if name in latent}
    return {**latent, "samples": comfy.sample.fix_empty_latent_channels(model, latent["samples"], **ratios)}


def noise_of(latent: dict, seed: int):
    """The noise that RandomNoise makes of `seed` for this latent."""
    return Noise_RandomNoise(seed).generate_noise(latent)


def sigmas_of(model, sampler: str, scheduler: str, steps: int, denoise: float, latent: dict) -> tuple:
    """Noise levels, (steps + 1,), and a line that says where they come from. sampler: its name."""
    family = _sites.family_of(model)
    name = schedule.usual(family and family.name) if scheduler == schedule.AUTO else scheduler
    if denoise <= 0.0:
        sigmas = torch.empty(0)
    elif name == schedule.LTXV:
        length = schedule.all_steps(steps, denoise)
        sigmas = LTXVScheduler.execute(length, latent=latent, **LTXV_SETTINGS).args[0][-(steps + 1) :]
    else:
        sigmas = comfy.samplers.KSampler(model, steps, model.load_device, sampler, name, denoise).sigmas
    shift = getattr(model.get_model_object("model_sampling"), "shift", None)
    why = f", usual for {family.name if family else 'unknown models'}" if scheduler == schedule.AUTO else ""
    own = "" if shift is None or name == schedule.LTXV else f", the model's shift {float(shift):g}"
    return sigmas, f"Scheduler: {name}{why}{own}; {_levels(sigmas)}."


def _levels(sigmas: torch.Tensor) -> str:
    return (
        f"{len(sigmas) - 1} steps from {float(sigmas[0]):.4g} to {float(sigmas[-1]):.4g}" if len(sigmas) else "0 steps"
    )


def run(job: Job, callback):
    """The samples that the job gives: a tensor, or a NestedTensor with sound. Raises what the callback raises."""
    guider = comfy.samplers.CFGGuider(job.model)
    guider.set_conds(job.positive, job.negative)
    guider.set_cfg(job.cfg)
    samples = guider.sample(
        job.noise, job.latent["samples"], job.sampler, job.sigmas, denoise_mask=job.latent.get("noise_mask"),
        callback=callback, disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=job.seed,
    )  # fmt: skip
    return samples.to(
        device=comfy.model_management.intermediate_device(), dtype=comfy.model_management.intermediate_dtype()
    )


def denoised(model, x0, samples):
    """The prediction `x0` of a callback in the latent's own scale; `samples`: what the run gave, for the shapes."""
    if len(parts_of(samples)) > 1 and not getattr(x0, "is_nested", False):
        x0 = comfy.nested_tensor.NestedTensor(
            comfy.utils.unpack_latents(x0, [part.shape for part in parts_of(samples)])
        )
    return model.model.process_latent_out(x0.to("cpu"))


def outputs(job: Job, samples, seen: dict) -> tuple[dict, dict]:
    """The LATENT `output` and the LATENT `denoised_output` of a run."""
    out = {k: v for k, v in job.latent.items() if not k.startswith("downscale_ratio_")}
    out["samples"] = samples
    return out, {**out, "samples": denoised(job.model, seen["x0"], samples)} if "x0" in seen else out


def parts_of(samples) -> list[torch.Tensor]:
    """The tensors of a latent: the video, then the sound if there is any."""
    return list(samples.unbind()) if getattr(samples, "is_nested", False) else [samples]


def whole(parts: list[torch.Tensor]):
    """The reverse of parts_of."""
    return comfy.nested_tensor.NestedTensor(parts) if len(parts) > 1 else parts[0]


def goes_on(sampler, samples):
    """A SAMPLER that does as `sampler` but begins with the latent `samples` of an earlier stage, noise and all.

    Everything else of the run stays that of a fresh one: what a mask keeps is the clean latent, and its noise the first
    stage's. Two KSamplerAdvanced in a row start the same way, but take the noisy latent for the clean one.
    """

    def function(model, x, sigmas, **options):
        base = model.inner_model.inner_model
        packed, _ = comfy.utils.pack_latents(parts_of(samples)) if len(parts_of(samples)) > 1 else (samples, None)
        start = base.process_latent_in(packed.to(device=x.device, dtype=torch.float32))
        start = base.model_sampling.noise_scaling(sigmas[0], torch.zeros_like(start), start)
        return sampler.sampler_function(model, start, sigmas, **options)

    return comfy.samplers.KSAMPLER(function, sampler.extra_options, sampler.inpaint_options)
