"""A tiny model with the sampling nodes and the host's own around it; models that fail; what the page was told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import case as tiny_case
from tiny import ltx2, ltxv, wan
from widget_defaults import defaults

STEPS = 4


def first(cases, name):
    return next(case for case in cases if case.name == name)


def start_kept():
    """Video and sound, the first frame and the first audio tokens kept."""
    from comfy.nested_tensor import NestedTensor

    video, audio = torch.ones(1, 1, 3, 4, 5), torch.ones(1, 1, 9, 1)
    video[:, :, 0], audio[:, :, :2] = 0.0, 0.0
    return NestedTensor([video, audio])


CASES = (
    first(ltxv.CASES, ""),
    replace(first(ltxv.CASES, "image to video"), options={"noise_mask": ltxv.first_frame(3)}),
    replace(first(ltxv.CASES, "a batch of 2, both prompts at once"), options={}),
    first(ltxv.CASES, "guides"),
    first(ltx2.CASES, ""),
    first(ltx2.CASES, "one frame, batch of 2"),
    replace(first(ltx2.CASES, ""), name="sound and video in part kept", options={"noise_mask": start_kept}),
    wan.TEXT_ONLY[0],
    first(wan.CASES, "start image"),
    replace(wan.WITH_IMAGE[0], name="start image beside the noise"),
)


def latent_of(case, filled=False) -> dict:
    """The LATENT of a case; filled: random where it is empty."""
    latent = {"samples": case.latent()}
    if filled:
        for part in tiny_case.parts(latent["samples"]):
            part.copy_(torch.randn(part.shape, generator=torch.Generator().manual_seed(5)))
    mask = case.options.get("noise_mask")
    return {**latent, "noise_mask": mask() if callable(mask) else mask} if mask is not None else latent


def same(out, truth) -> bool:
    """Bit for bit, and finite."""
    pairs = zip(tiny_case.parts(out["samples"]), tiny_case.parts(truth["samples"]), strict=True)
    return all(torch.equal(a, b) and bool(a.isfinite().all()) for a, b in pairs)


class Studio:
    """A tiny model of a case, and the nodes with their widgets as they come unless given."""

    def __init__(self, pack, case):
        self.pack, self.case, self.model = pack, case, case.build()
        self.positive, self.negative = tiny_case.prompt(case, 1), tiny_case.prompt(case, 2)

    def values(self, node, latent, **widgets) -> dict:
        common = {"positive": self.positive, "negative": self.negative, "latent": latent, "steps": STEPS, "seed": 7}
        return {**defaults(node), **common, "scheduler_name": "simple", **widgets}

    def sample(self, latent=None, model=None, **widgets):
        node = self.pack.nodes.sampler.VideoAttentionSampler
        latent = latent or latent_of(self.case)
        return node.execute(model or self.model, **self.values(node, latent, **widgets)).args

    def two(self, latent=None, high=None, low=None, **widgets):
        node = self.pack.nodes.two_stage_sampler.VideoAttentionTwoStageSampler
        plain = {"switch_at": "step", "switch_step": 2, "between": {"between": "nothing"}}
        values = self.values(node, latent or latent_of(self.case), **plain)
        return node.execute(model_high=high or self.model, model_low=low, **{**values, **widgets}).args

    def custom(self, latent, **more):
        """SamplerCustomAdvanced with its usual neighbours."""
        from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced

        return SamplerCustomAdvanced.execute(*self.neighbours(**more), latent).args

    def sockets(self, latent, **more):
        node = self.pack.nodes.sampler.VideoAttentionSamplerAdvanced
        return node.execute(*self.neighbours(**more), latent).args

    def neighbours(self, noise=7, sampler="euler", cfg=4.0, sigmas=None, model=None, guider=None):
        """NOISE, GUIDER, SAMPLER, SIGMAS. noise None: DisableNoise."""
        import comfy.samplers
        from comfy_extras import nodes_custom_sampler as host

        model = model or self.model
        guider = guider or host.CFGGuider.execute(model, self.positive, self.negative, cfg).args[0]
        made = host.Noise_EmptyNoise() if noise is None else host.Noise_RandomNoise(noise)
        if sigmas is None:
            sigmas = host.BasicScheduler.execute(model, "simple", STEPS, 1.0).args[0]
        return made, guider, comfy.samplers.sampler_object(sampler), sigmas

    def advanced(self, latent, begin, end, noise, model=None, cfg=3.5, sampler="euler", **widgets):
        from nodes import KSamplerAdvanced

        return KSamplerAdvanced().sample(
            model or self.model, "enable" if noise else "disable", 7, STEPS, cfg, sampler, "simple", self.positive,
            self.negative, latent, begin, end, "enable" if end < STEPS else "disable",
        )[0]  # fmt: skip


@pytest.fixture
def flawed(comfy_host):
    """Makes a clone of a model whose evaluation number `at` does `act` to the prediction, or raises."""
    from comfy.patcher_extension import WrappersMP

    def make(model, at, act):
        seen = iter(range(10000))

        def wrapper(executor, *args):
            out = executor(*args)
            return act(out) if next(seen) == at else out

        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "flaw", wrapper)
        return clone

    return make


def nan(out):
    return out * float("nan")


def interrupt(out):
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()
    return out


@pytest.fixture
def bar(comfy_host, monkeypatch):
    """What the progress bar of the page was told: (value, total, preview)."""
    import comfy.utils

    told = []
    hook = lambda value, total, preview, node_id=None: told.append((value, total, preview))  # noqa: E731
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    # Quick steps are not all shown otherwise.
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0.0)
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_PERCENT", 0.0)
    return told


@pytest.fixture
def previews(comfy_host, monkeypatch):
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod, args

    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    return latent_preview


def short_of_memory(model, frames, seen=None):
    """A clone that has no memory for more than `frames` latent frames; how many it was given goes to `seen`."""
    from comfy.patcher_extension import WrappersMP

    def wrapper(executor, x, *args, **kwargs):
        length = (x[0] if isinstance(x, list) else x).shape[2]
        if seen is not None:
            seen.append(length)
        if length > frames:
            raise torch.cuda.OutOfMemoryError("simulated")
        return executor(x, *args, **kwargs)

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "short", wrapper)
    return clone
