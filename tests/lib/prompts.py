"""Prompts in ComfyUI's own executor, in this process: its cache, its expansion of nodes, its contexts, no server."""

from __future__ import annotations

import re
import uuid
from types import SimpleNamespace

from prompt_nodes import NODES, Maker, Model

# Attention calls of the tiny model in each step: two blocks of self- and cross-attention.
CALLS = 4


class Queue:
    """Runs prompts one after the other. sent: what the page was told. lines: (text, node) of lines on nodes."""

    def __init__(self, pack, model, monkeypatch, **cache):
        # ComfyUI's file of this name; the suite has none.
        import execution
        from comfy_execution import progress

        import nodes

        monkeypatch.setattr(Model, "model", model)
        monkeypatch.setattr(Maker, "widgets", backend()["inputs"])
        ours = {node.GET_SCHEMA().node_id: node for topic in pack.nodes.TOPICS for node in topic.NODES}
        for name, kind in {**ours, **NODES}.items():
            monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, kind)
        for name, kind in ours.items():
            monkeypatch.setitem(nodes.NODE_DISPLAY_NAME_MAPPINGS, name, kind.GET_SCHEMA().display_name)
        self.sent, self.lines = [], []
        pack.nodes.host.run_history._RUNS.clear()
        page = {"client_id": "page", "last_node_id": None, "sockets_metadata": {}}
        self._server = SimpleNamespace(
            **page,
            send_sync=self._send,
            send_progress_text=lambda text, node_id, sid=None: self.lines.append((text, node_id)),
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


def counted(text: str) -> tuple[int, int]:
    """Adds up what all rules did: (calls that ran as asked, calls that could)."""
    found = re.findall(r"(\d+) of (\d+) attention calls", text)
    return tuple(sum(map(int, numbers)) for numbers in zip(*found, strict=True))


def runs(text: str) -> int:
    """How many runs a report is of."""
    return int((re.search(r", (\d+) runs,", text) or (0, 1))[1])
