"""One sampling run as the host's SamplerCustomAdvanced makes it, cut into parts that can be put together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import comfy.model_management
import comfy.nested_tensor
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise
from comfy_extras.nodes_lt import LTXVScheduler

from ...attention.sampling import schedule
from ..host import guiders, model_family
from ..host.latent import parts_of

SCHEDULERS = (schedule.AUTO, schedule.LTXV, *comfy.samplers.SCHEDULER_NAMES)
# Between the seeds of two samplings of one run. Not a multiple of 2**32: torch's CPU generator takes the low 32 bits.
APART = 10**9
# The defaults of the host's LTXVScheduler.
LTXV_SETTINGS = {"max_shift": 2.05, "base_shift": 0.95, "stretch": True, "terminal": 0.1}


@dataclass(frozen=True)
class Job:
    """What is sampled, and how.

    model: MODEL.
    positive: CONDITIONING.
    negative: CONDITIONING.
    cfg: scale of classifier-free guidance; 1 is none.
    sampler: SAMPLER.
    sigmas: (steps + 1,) noise levels.
    latent: LATENT whose samples fit the model.
    noise: as its samples.
    seed: what samplers draw from.
    guider: GUIDER of another node, which stands for the prompts and cfg; None for the host's CFGGuider.
    Raises ValueError for a cfg that is not finite.
    """

    model: object
    positive: list
    negative: list
    cfg: float
    sampler: object
    sigmas: torch.Tensor
    latent: dict
    noise: object
    seed: int
    guider: object = None

    def __post_init__(self):
        # A widget cannot hold one, a file can.
        if not math.isfinite(self.cfg):
            raise ValueError(f"cfg: {self.cfg} is no strength; 1 is none, 3 to 7 is usual.")

    @property
    def steps(self) -> int:
        """Counts the steps."""
        return max(0, len(self.sigmas) - 1)

    @property
    def prompts(self) -> list[dict]:
        """Lists the options of all prompts, the guider's where there is one."""
        if self.guider is not None:
            return guiders.options_of(self.guider)
        return [options for _, options in (*self.positive, *self.negative)]

    def with_options(self, change: Callable[[dict], dict]) -> Job:
        """Gives the same with other options of each prompt."""
        if self.guider is not None:
            return replace(self, guider=guiders.with_options(self.guider, change))
        positive, negative = ([[text, change(options)] for text, options in p] for p in (self.positive, self.negative))
        return replace(self, positive=positive, negative=negative)


def guided(guider, name: str, without: str) -> tuple:
    """Gives the MODEL of a GUIDER, and a line that says what has no effect beside it.

    name: of the input that it came in by.
    without: the node's other inputs that say the same, in words.
    Raises ValueError with a sentence for what is no GUIDER.
    """
    guiders.check(guider, name)
    kind = type(guider).__name__.removeprefix("Guider_")
    return guiders.model_of(
        guider
    ), f"{name.capitalize()}: {kind}, by its own model, prompts and cfg. Without effect: {without}."


def fitted(model, latent: dict) -> dict:
    """Copies the LATENT `latent` with as many channels as the model's, as the host's samplers make it."""
    # ComfyUI before 0.24 has no ratio in time, neither in its latents nor in its function.
    ratios = {name: latent[name] for name in ("downscale_ratio_spacial", "downscale_ratio_temporal") if name in latent}
    return {**latent, "samples": comfy.sample.fix_empty_latent_channels(model, latent["samples"], **ratios)}


def noise_of(latent: dict, seed: int):
    """Draws the noise that RandomNoise makes of `seed` for this latent."""
    return Noise_RandomNoise(seed).generate_noise(latent)


def fresh(seed: int) -> int:
    """Gives a seed for a second sampling of one run, whose noise must not be the first one's once more."""
    return (seed + APART) % 2**64


def check_noise(noise, latent: dict) -> None:
    """Raises ValueError with a sentence for noise of another kind or size than the samples of the LATENT `latent`."""
    made, wanted = ([tuple(part.shape) for part in parts_of(each)] for each in (noise, latent["samples"]))
    if len(made) != len(wanted) or any(map(_apart, made, wanted)):
        both = ", which draws noise for the sound too" if len(wanted) > 1 else ""
        raise ValueError(
            f"noise: it gives {_kinds(made)}, the latent is {_kinds(wanted)}. Connect RandomNoise{both}, or a latent "
            "of the noise's size."
        )


def _apart(made: tuple, wanted: tuple) -> bool:
    return len(made) != len(wanted) or any(a not in (1, b) for a, b in zip(made, wanted))


def _kinds(shapes: list[tuple]) -> str:
    """Writes shapes as `video 1 x 128 x 3 x 4 x 5 and sound 1 x 8 x 9 x 16`."""
    sizes = (" x ".join(map(str, shape)) for shape in shapes)
    return " and ".join(f"{name} {size}" for name, size in zip(("video", "sound"), sizes))


def sigmas_of(model, sampler: str, scheduler: str, steps: int, denoise: float, latent: dict) -> tuple:
    """Makes noise levels, (steps + 1,), and a line that says where they come from.

    sampler: name of the method.
    scheduler: one of SCHEDULERS.
    denoise: 0 to 1, as KSampler has it.
    latent: LATENT, whose size LTXVScheduler goes by.
    """
    row = model_family.row_of(model)
    name = row.scheduler if scheduler == schedule.AUTO else scheduler
    if denoise <= 0.0:
        sigmas = torch.empty(0)
    elif name == schedule.LTXV:
        length = schedule.full_length(steps, denoise)
        # The host's stretch divides by how far the last level is from 1: not at all when it is the first one too.
        settings = LTXV_SETTINGS | {"stretch": length > 1}
        sigmas = LTXVScheduler.execute(length, latent=latent, **settings).args[0][-(steps + 1) :]
    else:
        sigmas = comfy.samplers.KSampler(model, steps, model.load_device, sampler, name, denoise).sigmas
    why = f", usual for {row.name or 'unknown models'}" if scheduler == schedule.AUTO else ""
    return sigmas, f"Scheduler: {name}{why}{_shift(model, name, latent)}; {levels(sigmas)}."


def _shift(model, scheduler: str, latent: dict | None) -> str:
    """Says where the noise levels are shifted to, and who chose it. Empty for models without a shift."""
    if scheduler == schedule.LTXV:
        # Without a latent LTXVScheduler takes 4096 tokens.
        tokens = 4096 if latent is None else math.prod(parts_of(latent["samples"])[0].shape[2:])
        shift = schedule.ltxv_shift(tokens, LTXV_SETTINGS["base_shift"], LTXV_SETTINGS["max_shift"])
        return f", shift {shift:.3g} for {tokens} tokens"
    shift = getattr(model.get_model_object("model_sampling"), "shift", None)
    if shift is None:
        return ""
    whose = "set on this model" if "model_sampling" in model.object_patches else "the model's own"
    return f", shift {float(shift):g}, {whose}"


def levels(sigmas: torch.Tensor) -> str:
    """Says how many noise levels there are, from where to where."""
    return (
        f"{len(sigmas) - 1} steps from {float(sigmas[0]):.4g} to {float(sigmas[-1]):.4g}" if len(sigmas) else "0 steps"
    )


def run(job: Job, callback):
    """Samples a job: gives a tensor, or a NestedTensor with sound. Raises what the callback raises.

    callback: as the host's samplers call it, (step, x0, x, steps).
    """
    guider = job.guider
    if guider is None:
        guider = comfy.samplers.CFGGuider(job.model)
        guider.set_conds(job.positive, job.negative)
        guider.set_cfg(job.cfg)
    elif guider.model_patcher is not job.model:
        guider = guiders.on_model(guider, job.model)
    samples = guider.sample(
        job.noise, job.latent["samples"], job.sampler, job.sigmas, denoise_mask=job.latent.get("noise_mask"),
        callback=callback, disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=job.seed,
    )  # fmt: skip
    return samples.to(
        device=comfy.model_management.intermediate_device(), dtype=comfy.model_management.intermediate_dtype()
    )


def denoised(model, x0, samples):
    """Puts the prediction `x0` of a callback into the latent's own scale.

    samples: what the run gave, for the shapes of video and sound.
    """
    if len(parts_of(samples)) > 1 and not getattr(x0, "is_nested", False):
        x0 = comfy.nested_tensor.NestedTensor(
            comfy.utils.unpack_latents(x0, [part.shape for part in parts_of(samples)])
        )
    return model.model.process_latent_out(x0.to("cpu"))


def outputs(job: Job, samples, seen: dict) -> tuple[dict, dict]:
    """Makes the LATENT `output` and the LATENT `denoised_output` of a run.

    seen: as of Progress.seen.
    """
    out = {k: v for k, v in job.latent.items() if not k.startswith("downscale_ratio_")}
    out["samples"] = samples
    return out, {**out, "samples": denoised(job.model, seen["x0"], samples)} if "x0" in seen else out
