"""Prompts in ComfyUI's own executor, in this process: its cache, its expansion of nodes, its contexts, no server.

The stand-ins play nodes of other packs as their code was read to behave: a sampler that makes a run for each window
(ComfyUI-LTXVideo's LTXVLoopingSampler), one that cuts its steps into runs (LTXVNormalizingSampler), a node that expands
into others, and a loop by expansion whose copies are shown on the user's own nodes.
"""

from __future__ import annotations

import uuid
from types import SimpleNamespace

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
    """Expands into a Backend on its model, as a subgraph of another pack does."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "expand", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def expand(self, model):
        from comfy_execution.graph_utils import GraphBuilder

        graph = GraphBuilder()
        made = graph.node("VideoAttentionBackend", **{**backend()["inputs"], "model": model})
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


KINDS = (Model, Latent, Sampler, Trim, Mask, Switch, Group, Maker, Taker, Loop)
NODES = {f"StandIn{kind.__name__}": kind for kind in KINDS}


class Queue:
    """Runs prompts one after the other. sent: what the page was told. lines: (text, node) of lines on nodes."""

    def __init__(self, pack, model, monkeypatch, **cache):
        # ComfyUI's file of this name; the suite has none.
        import execution
        from comfy_execution import progress

        import nodes

        monkeypatch.setattr(Model, "model", model)
        ours = {node.GET_SCHEMA().node_id: node for topic in pack.nodes.TOPICS for node in topic.NODES}
        for name, kind in {**ours, **NODES}.items():
            monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, kind)
        for name, kind in ours.items():
            monkeypatch.setitem(nodes.NODE_DISPLAY_NAME_MAPPINGS, name, kind.GET_SCHEMA().display_name)
        self.sent, self.lines = [], []
        pack.nodes.host.run_history._RUNS.clear()
        page = {"client_id": "page", "last_node_id": None, "sockets_metadata": {}}
        self._server = SimpleNamespace(
            **page, send_sync=self._send, send_progress_text=lambda text, node, _: self.lines.append((text, node))
        )
        monkeypatch.setattr(pack.nodes.host.live_report.PromptServer, "instance", self._server, raising=False)
        monkeypatch.setattr(pack.nodes.host.live_report, "APART", 0.0)
        monkeypatch.setattr(progress, "global_progress_registry", None)
        self._executor = _executor(self._server, **cache)
        self._server.queue_updated = lambda: None
        self._server.prompt_queue = execution.PromptQueue(self._server)

    def _send(self, event, data, sid=None):
        self.sent.append((event, data))

    def run(self, prompt: dict, ends: tuple[str, ...] = ("VideoAttentionReport",)) -> dict:
        """Node -> what it showed. ends: the classes of the nodes that the prompt is run for."""
        error = self.error(prompt, ends)
        assert not error, error["exception_message"] + "".join(error["traceback"])
        return self._executor.history_result["outputs"]

    def error(self, prompt: dict, ends: tuple[str, ...] = ("VideoAttentionReport",)) -> dict | None:
        """What the page is told of an error in a prompt; None without one."""
        self.sent.clear()
        self.lines.clear()
        outputs = [key for key, node in prompt.items() if node["class_type"] in ends]
        number = uuid.uuid4().hex
        self._server.prompt_queue.put((0, number, prompt, {"client_id": "page"}, outputs))
        item, running = self._server.prompt_queue.get()
        self._executor.execute(*item[2:3], number, *item[3:5])
        self._server.prompt_queue.task_done(running, self._executor.history_result, status=None)
        # What the page asks for after a reload.
        (self.history,) = self._server.prompt_queue.get_history(prompt_id=number).values()
        return next((data for event, data in self._executor.status_messages if event == "execution_error"), None)

    def report(self, prompt: dict, node: str = "report") -> str:
        return self.run(prompt)[node]["text"][0]

    def last(self) -> dict[str, str]:
        """Node -> what it was told of a finished run."""
        told = [data for event, data in self.sent if event == "video_attention.progress" and data.get("told")]
        return {node: data["text"] for data in told for node in data["reports"]}

    def told(self) -> list[tuple]:
        """(node, Reports) of each step, repeats left out."""
        told = [data for event, data in self.sent if event == "video_attention.progress"]
        steps = [data for data in told if data["text"].startswith("Step ")]
        return list(dict.fromkeys((data["node"], tuple(data["reports"])) for data in steps))


def _executor(server, kind="CLASSIC", **arguments):
    # ComfyUI's file of this name; the suite has none.
    import execution

    sizes = {"lru": 0, "ram": 0.0, "ram_inactive": 0.0, **arguments}
    return execution.PromptExecutor(server, cache_type=execution.CacheType[kind], cache_args=sizes)


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def backend(model: str = "model", name: str = "sdpa", **widgets) -> dict:
    values = {
        "role": "all", "blocks": "", "start_percent": 0.0, "end_percent": 1.0, "on_unsupported": "fall back",
        "guard": "first call", "timing": False, "auto_choice": "table order", "max_error": 0.02,
    }  # fmt: skip
    return node("VideoAttentionBackend", model=[model, 0], backend=name, **{**values, **widgets})


def sampler(model: str, latent: str = "latent", seed=1, windows=1, parts=1, kind="StandInSampler", **more) -> dict:
    links = {"model": [model, 0], "positive": ["prompt", 0], "negative": ["prompt", 1], "latent": [latent, 0]}
    return node(kind, **links, seed=seed, windows=windows, parts=parts, **more)


def prompt(frames=2, count=1, **nodes) -> dict:
    """A prompt with a model, a Backend on it, words and a latent, and these nodes."""
    words = node("VideoAttentionDemoPrompt", colour="red", shape="disc", direction="right")
    start = {"model": node("StandInModel", number=0), "backend": backend(), "prompt": words}
    return {**start, "latent": node("StandInLatent", frames=frames, count=count), **nodes}


def report(latent: str = "sampler") -> dict:
    return node("VideoAttentionReport", latent=[latent, 0])
