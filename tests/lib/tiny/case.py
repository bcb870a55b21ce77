"""Tiny random models in ComfyUI's own classes, and what their attention calls must look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from attention.core.tensor_layout import first_query_of

SLOT = "optimized_attention_override"


@dataclass(frozen=True, eq=False)
class Case:
    """One model and one input.

    variant: a Variant.name of the families' table. name: what is special about this input, "" for the plain one.
    build: makes the MODEL. latent: makes the latent (a NestedTensor with audio). conditioning: makes the dictionary
    that goes with the prompt's embedding, after `text`, the shape (1, tokens, channels) of that embedding.
    calls: role -> attention calls in one model evaluation, all of them.
    grid: (T, Y, X) that every self-attention call must be placed in. before, after: the spans around it, as
    ((kind, length), ...). guests: what stands behind these in some calls. ahead: frames of the latent in front that are
    no frames of the clip. unplaced: instead of the grid, a part of the reason why self-attention cannot be placed.
    """

    variant: str
    build: Callable[[], object]
    latent: Callable[[], object]
    text: tuple[int, int, int]
    calls: dict[str, int]
    grid: tuple[int, int, int] | None = None
    before: tuple[tuple[str, int], ...] = ()
    after: tuple[tuple[str, int], ...] = ()
    guests: tuple[tuple[str, int], ...] = ()
    ahead: int = 0
    unplaced: str | None = None
    name: str = ""
    conditioning: Callable[[], dict] = dict
    options: dict = field(default_factory=dict)  # more keyword arguments of sample()

    def __str__(self):
        return f"{self.variant} {self.name}".strip()


def build(host_class, config: dict):
    """The MODEL of a class in comfy.supported_models, with random weights. config: its unet_config.

    host_class: its name, or a class of that kind.
    """
    import comfy.model_patcher
    import comfy.supported_models

    kind = getattr(comfy.supported_models, host_class) if isinstance(host_class, str) else host_class
    described = kind(dict(config))
    described.set_inference_dtype(torch.float32, None)
    model = described.get_model({}, "", device="cpu")
    fill(model.diffusion_model)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def fill(module: torch.nn.Module, seed: int = 0) -> None:
    """Small finite random weights, norms near one: most host classes leave theirs uninitialised."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            value = torch.randn(weight.shape, generator=random) * 0.05
            near_one = "norm" in name and name.endswith("weight") and weight.ndim == 1
            weight.copy_((value + near_one).to(weight.dtype))
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point() and 0 not in buffer.stride():
                value = torch.randn(buffer.shape, generator=random) * 0.05
                buffer.copy_(torch.ones_like(buffer) if "std" in name else value)


def prompt(case: Case, seed: int) -> list:
    """CONDITIONING of random numbers."""
    random = torch.Generator().manual_seed(seed)
    return [[torch.randn(case.text, generator=random), case.conditioning()]]


def sample(model, case: Case, **more):
    """What KSampler gives for the case: one step of cfg 1 unless the case or the caller says otherwise."""
    import comfy.sample

    settings = {"steps": 1, "cfg": 1.0, "seed": 1, **case.options, **more}
    latent = case.latent()
    noise = comfy.sample.prepare_noise(latent, settings["seed"])
    return comfy.sample.sample(
        model, noise, settings.pop("steps"), settings.pop("cfg"), "euler", "simple", prompt(case, 1), prompt(case, 2),
        latent, disable_pbar=True, **settings,
    )  # fmt: skip


@dataclass
class Seen:
    """One attention call as an override sees it. q_len, kv_len: tokens; options: the host's transformer_options; begin:
    of its queries, as tensor_layout.first_query_of has it."""

    q_len: int
    kv_len: int
    options: dict
    begin: tuple[int, int] | None = None


def with_sites(pack, model):
    """A clone of a MODEL whose attention calls tell where they come from, and nothing else is changed."""
    told = model.clone()
    pack.nodes.host.site_hooks.attach(told)
    return told


def watch(model) -> tuple[object, list[Seen]]:
    """A clone whose attention calls are written down and passed on."""
    watched, seen = model.clone(), []
    options = watched.model_options["transformer_options"]
    previous = options.get(SLOT)

    def look(func, q, k, *args, **kwargs):
        begin = first_query_of(q, k, kwargs.get("skip_reshape", False))
        seen.append(Seen(q.shape[-2], k.shape[-2], kwargs["transformer_options"], begin))
        return previous(func, q, k, *args, **kwargs) if previous else func(q, k, *args, **kwargs)

    options[SLOT] = look
    return watched, seen


def parts(latent) -> list[torch.Tensor]:
    """The tensors of a latent, one for each of video and audio."""
    return list(latent.unbind()) if getattr(latent, "is_nested", False) else [latent]
