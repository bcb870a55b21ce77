"""Nodes of other packs in a prompt, stand-ins that behave as their code was read to behave.

A sampler that makes a run for each window (ComfyUI-LTXVideo's LTXVLoopingSampler), one that cuts its steps into runs
(LTXVNormalizingSampler), nodes that expand into others, a loop by expansion whose copies are shown on the user's own
nodes, an attention on top of ours.
"""

from __future__ import annotations

import torch


class Model:
    """Loads the tests' tiny model; `number` makes it another node for the cache."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "load", ("MODEL",)
    model = None

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {"default": 0})}}

    def load(self, number):
        return (self.model,)


class Latent:
    """An empty latent, `count` of them as a list."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_IS_LIST = "stand-in", "make", ("LATENT",), (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"frames": ("INT", {"default": 2}), "count": ("INT", {"default": 1})}}

    def make(self, frames, count):
        return ([{"samples": torch.full((1, 128, frames, 3, 4), float(i))} for i in range(count)],)


class Sampler:
    """A sampler of another pack. windows: a run for each, over a part of the clip; parts: for parts of the steps."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "sample", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        links = {"model": ("MODEL",), "positive": ("CONDITIONING",), "negative": ("CONDITIONING",)}
        numbers = ("seed", "windows", "parts")
        return {"required": {**links, "latent": ("LATENT",), **{n: ("INT", {"default": 1}) for n in numbers}}}

    def sample(self, model, positive, negative, latent, seed, windows, parts):
        import comfy.sample
        import comfy.samplers

        sampler, made = comfy.samplers.sampler_object("euler"), []
        sigmas = torch.linspace(1.0, 0.0, 2 * parts + 1)
        for window in latent["samples"].chunk(windows, dim=2):
            out = window
            for part in range(parts):
                levels = sigmas[2 * part : 2 * part + 3]
                noise = comfy.sample.prepare_noise(out, seed) if part == 0 else torch.zeros_like(out)
                out = comfy.sample.sample_custom(
                    model, noise, 1.0, sampler, levels, positive, negative, out, disable_pbar=True, seed=seed
                )
            made.append(out)
        return ({**latent, "samples": torch.cat(made, dim=2)},)


class Trim:
    """As ComfyUI's TrimVideoLatent: the first frame is cut off."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "trim", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",)}, "optional": {"other": ("LATENT",)}}

    def trim(self, samples, other=None):
        return ({**samples, "samples": samples["samples"][:, :, 1:]},)


class Decode:
    """As ComfyUI's VAEDecode: a clip of a latent, here grey whatever it is."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "decode", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",)}, "optional": {"vae": ("VAE",)}}

    def decode(self, samples, vae=None):
        return (torch.full((2, 64, 80, 3), 0.5),)


class Mask:
    """All of the picture."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "make", ("MASK",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        return (torch.ones(1, 3, 4),)


class Switch:
    """A lazy switch of any type: what is not chosen does not run."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "choose", ("*",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"first": ("*", {"lazy": True}), "second": ("*", {"lazy": True}), "which": ("INT", {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, **kwargs):
        return True

    def check_lazy_status(self, which, first=None, second=None):
        return [] if (first, second)[which] is not None else [("first", "second")[which]]

    def choose(self, which, first=None, second=None):
        return ((first, second)[which],)


class Group:
    """Expands into a sampler for each turn, each going on from the one before."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "expand", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        given = Sampler.INPUT_TYPES()["required"]
        return {"required": {**given, "turns": ("INT", {})}}

    def expand(self, latent, turns, **given):
        from comfy_execution.graph_utils import GraphBuilder

        graph = GraphBuilder()
        for turn in range(turns):
            latent = graph.node("StandInSampler", **{**given, "seed": given["seed"] + turn, "latent": latent}).out(0)
        return {"result": (latent,), "expand": graph.finalize()}


class Maker:
    """Expands into a Backend with these `widgets` on its model, as a subgraph of another pack does."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "expand", ("MODEL",)
    widgets = None

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def expand(self, model):
        from comfy_execution.graph_utils import GraphBuilder

        graph = GraphBuilder()
        made = graph.node("VideoAttentionBackend", **{**self.widgets, "model": model})
        return {"result": (made.out(0),), "expand": graph.finalize()}


class Taker:
    """A pack that puts an attention of its own on top, which passes nothing on."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "take", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def take(self, model):
        taken = model.clone()
        options = taken.model_options["transformer_options"]
        options["optimized_attention_override"] = lambda attention, *args, **kwargs: attention(*args, **kwargs)
        return (taken,)


class Loop:
    """The end of a loop: the first turn is the node `body` itself, each further one a copy that the page shows on it.

    report: a Report in the loop, which is copied too.
    """

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "expand", ("*",)

    @classmethod
    def INPUT_TYPES(cls):
        words = {"body": ("STRING", {}), "report": ("STRING", {"default": ""})}
        return {"required": {"value": ("*",), "turns": ("INT", {}), **words}, "hidden": {"dynprompt": "DYNPROMPT"}}

    @classmethod
    def VALIDATE_INPUTS(cls, **kwargs):
        return True

    def expand(self, value, turns, body, report, dynprompt):
        from comfy_execution.graph_utils import GraphBuilder

        graph = GraphBuilder()
        for turn in range(1, turns):
            kind, inputs = (dynprompt.get_node(body)[key] for key in ("class_type", "inputs"))
            node = graph.node(kind, **{**inputs, "seed": inputs["seed"] + turn, "latent": value})
            node.set_override_display_id(body)
            value = node.out(0)
            if report:
                graph.node("VideoAttentionReport", latent=value).set_override_display_id(report)
        return {"result": (value,), "expand": graph.finalize()}


KINDS = (Model, Latent, Sampler, Trim, Decode, Mask, Switch, Group, Maker, Taker, Loop)
NODES = {f"StandIn{kind.__name__}": kind for kind in KINDS}
