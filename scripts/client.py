"""Talks to a running ComfyUI: turns a saved workflow into a prompt, queues it, follows it, collects its outputs."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
DYNAMIC = "COMFY_DYNAMICCOMBO"
SEEDS = ("seed", "noise_seed")  # the front end adds its control to these, asked for or not
BYPASSED, MUTED = 4, 2
# What nodes call the files that they saved.
SAVED = ("images", "video", "gifs", "audio", "latents")


class RunFailed(Exception):
    """ComfyUI refused or failed a prompt; the message is its own."""


def to_prompt(workflow: dict, object_info: dict) -> dict:
    """A workflow as the front end saves it -> the prompt that /prompt takes. Subgraphs are not followed."""
    links = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    nodes = {str(node["id"]): node for node in workflow["nodes"] if node["type"] in object_info}
    prompt = {}
    for key, node in nodes.items():
        if node.get("mode", 0) in (BYPASSED, MUTED):
            continue
        inputs = _widget_values(node, object_info[node["type"]])
        for slot in node.get("inputs", ()):
            if slot.get("link") is not None:
                source = _through_bypassed(links[slot["link"]], nodes, links)
                if source is not None:
                    inputs[slot["name"]] = list(source)
        prompt[key] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def is_widget(kind) -> bool:
    """Whether the front end draws a widget for an input of this type, as /object_info tells it."""
    return isinstance(kind, list) or kind.split(",")[0] in WIDGETS or kind.startswith(DYNAMIC)


def walk_widgets(inputs: dict, take: Callable, prefix: str = "") -> Iterator[tuple]:
    """(name, type, options, value) of each widget, as the front end orders them.

    inputs: of a node in /object_info. take(name, type, options) gives a widget's value: what a dynamic combo holds
    decides which widgets follow it.
    """
    for name, (kind, *more) in (inputs.get("required", {}) | inputs.get("optional", {})).items():
        if not is_widget(kind):
            continue
        options = more[0] if more else {}
        value = take(prefix + name, kind, options)
        yield prefix + name, kind, options, value
        if not isinstance(kind, list) and kind.startswith(DYNAMIC):
            for option in options["options"]:
                if option["key"] == value:
                    yield from walk_widgets(option["inputs"], take, f"{prefix}{name}.")


def first_value(kind, options: dict):
    """What a widget holds on a new node."""
    choices = kind if isinstance(kind, list) else options.get("options", ())
    first = next(iter(choices), "")
    empty = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False}
    plain = "" if isinstance(kind, list) else empty.get(kind.split(",")[0], "")
    return options.get("default", first["key"] if isinstance(first, dict) else first or plain)


def beside(name: str, options: dict) -> list:
    """What the front end saves right behind a widget's value: "randomize" and the like, the kind of an upload."""
    reseeds = options.get("control_after_generate", name in SEEDS)
    return ["fixed"] * bool(reseeds) + ["image"] * bool(options.get("image_upload"))


def _widget_values(node: dict, info: dict) -> dict:
    values = list(node.get("widgets_values") or ())

    def take(name, kind, options):
        value = values.pop(0) if values else first_value(kind, options)
        del values[: len(beside(name, options))]
        return value

    return {name: value for name, _, _, value in walk_widgets(info["input"], take) if value is not None}


def _through_bypassed(source: tuple, nodes: dict, links: dict) -> tuple | None:
    node = nodes[source[0]]
    if node.get("mode", 0) != BYPASSED:
        return source
    kind = node["outputs"][source[1]]["type"]
    slot = next((s for s in node["inputs"] if s["type"] == kind and s.get("link") is not None), None)
    return slot and _through_bypassed(links[slot["link"]], nodes, links)


class Client:
    """One client of the server at `address`."""

    def __init__(self, address: str):
        self.address, self.id = address, uuid.uuid4().hex

    def object_info(self) -> dict:
        return asyncio.run(self._get("/object_info"))

    def stats(self) -> dict:
        """What the server runs on."""
        return asyncio.run(self._get("/system_stats"))

    def run(
        self,
        prompt: dict,
        on_step: Callable[[int, int], None] = lambda value, total: None,
        seconds: float | None = None,
    ) -> dict:
        """Queues `prompt`, waits, and returns node id -> its outputs. RunFailed with ComfyUI's message.

        seconds: to wait at most; RunFailed then too.
        """
        try:
            return asyncio.run(asyncio.wait_for(self._run(prompt, on_step), seconds))
        except asyncio.TimeoutError:
            raise RunFailed(f"not done within {seconds:.0f} s") from None

    async def _get(self, path: str):
        async with aiohttp.ClientSession() as session, session.get(self.address + path) as answer:
            return await answer.json()

    async def _run(self, prompt: dict, on_step) -> dict:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.address}/ws?clientId={self.id}", max_msg_size=0) as socket,
        ):
            body = {"prompt": prompt, "client_id": self.id}
            async with session.post(f"{self.address}/prompt", json=body) as answer:
                queued = await answer.json()
            # With errors at some nodes ComfyUI still runs what does not need them.
            if "prompt_id" not in queued or queued.get("node_errors"):
                raise RunFailed(refusal(queued))
            await self._follow(socket, queued["prompt_id"], on_step)
        history = await self._get(f"/history/{queued['prompt_id']}")
        return history[queued["prompt_id"]]["outputs"]

    async def _follow(self, socket, prompt_id: str, on_step) -> None:
        async for message in socket:
            if message.type != aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            data = event["data"]
            if data.get("prompt_id") != prompt_id:
                continue
            if event["type"] == "progress":
                on_step(data["value"], data["max"])
            if event["type"] == "execution_error":
                raise RunFailed(f"{data['node_type']}: {data['exception_message'].strip()}")
            if event["type"] == "execution_interrupted":
                raise RunFailed("interrupted")
            # Not execution_success: that one comes before the outputs are in the history.
            if event["type"] == "executing" and data.get("node") is None:
                return
        raise RunFailed("ComfyUI closed the connection; its log tells why.")


def refusal(answer: dict) -> str:
    """ComfyUI's reasons for refusing a prompt, each once."""
    details = [e["details"] for node in answer.get("node_errors", {}).values() for e in node["errors"]]
    return "; ".join(dict.fromkeys(details)) or answer.get("error", {}).get("message", str(answer))


def files(outputs: dict, folder: Path) -> list[Path]:
    """Every file that a finished prompt saved."""
    saved = [item for node in outputs.values() for key in SAVED for item in node.get(key, ())]
    return [folder / item["type"] / item["subfolder"] / item["filename"] for item in saved]
