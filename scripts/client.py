"""Talks to a running ComfyUI: turns a saved workflow into a prompt, queues it, follows it, collects its outputs."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path

import aiohttp

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
BYPASSED, MUTED = 4, 2


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
                inputs[slot["name"]] = list(source)
        prompt[key] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _widget_values(node: dict, info: dict) -> dict:
    values, order = list(node.get("widgets_values") or ()), info["input_order"]
    inputs = {}
    for name in [*order.get("required", ()), *order.get("optional", ())]:
        kind, *options = (info["input"].get("required", {}) | info["input"].get("optional", {}))[name]
        widget = isinstance(kind, list) or kind in WIDGETS or kind.startswith("COMFY_DYNAMICCOMBO")
        if not widget or not values:
            continue
        inputs[name] = values.pop(0)
        # The front end saves "randomize" and the like right behind the seed.
        if options and options[0].get("control_after_generate") and values:
            values.pop(0)
    return inputs


def _through_bypassed(source: tuple, nodes: dict, links: dict) -> tuple:
    node = nodes[source[0]]
    if node.get("mode", 0) != BYPASSED:
        return source
    kind = node["outputs"][source[1]]["type"]
    slot = next(s for s in node["inputs"] if s["type"] == kind and s.get("link") is not None)
    return _through_bypassed(links[slot["link"]], nodes, links)


class Client:
    """One client of the server at `address`."""

    def __init__(self, address: str):
        self.address, self.id = address, uuid.uuid4().hex

    def object_info(self) -> dict:
        return asyncio.run(self._get("/object_info"))

    def run(self, prompt: dict, on_step: Callable[[int, int], None] = lambda value, total: None) -> dict:
        """Queues `prompt`, waits, and returns node id -> its outputs. RunFailed with ComfyUI's message."""
        return asyncio.run(self._run(prompt, on_step))

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
            if "prompt_id" not in queued:
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
    saved = [item for node in outputs.values() for key in ("images", "video", "gifs") for item in node.get(key, ())]
    return [folder / item["type"] / item["subfolder"] / item["filename"] for item in saved]
