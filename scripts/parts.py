"""What the workflows of several models share: loaders with their downloads, prompts, the dial, the result, the note."""

from __future__ import annotations

import layout
from graph import Graph, Node, Socket

BYPASS = 4  # LiteGraph's node mode
HUB = "https://huggingface.co"
MODELS, PROMPT, ATTENTION, SAMPLE, RESULT = layout.NAMES
OFF = "To see it without: select **Faster (one dial)** and press Ctrl+B."


def model(url: str, directory: str) -> dict:
    """An entry for ComfyUI's dialog about missing models: it offers the download."""
    return {"name": url.rsplit("/", 1)[1], "url": url, "directory": directory}


def loaded(graph: Graph, entry: dict, name: str = "unet_name", kind: str = "UNETLoader", **more) -> Node:
    """A loader of one file, with its download."""
    return graph.add(kind, MODELS, {name: entry["name"], **more}, models=[entry])


def lora(graph: Graph, source: Socket, entry: dict, strength: float = 1.0, **more) -> Node:
    """A LoRA on a model."""
    few = {"model": source, "lora_name": entry["name"], "strength_model": strength}
    return graph.add("LoraLoaderModelOnly", MODELS, few, models=[entry], **more)


def prompts(graph: Graph, clip: Node, positive: str, negative: str) -> tuple[Node, Node]:
    ask = {"clip": clip["CLIP"], "text": positive}
    avoid = {"clip": clip["CLIP"], "text": negative}
    return (
        graph.add("CLIPTextEncode", PROMPT, ask, title="Prompt", color=layout.GREEN),
        graph.add("CLIPTextEncode", PROMPT, avoid, title="Negative prompt", color=layout.RED),
    )


def start_image(graph: Graph, **more) -> Node:
    return graph.add("LoadImage", PROMPT, {"image": "example.png"}, title="Start image", **more)


def faster(graph: Graph, source: Socket, latent: Socket | None = None, values: dict | None = None, **looks) -> Node:
    """The one dial."""
    given = {"model": source} | ({"latent": latent} if latent else {})
    return graph.add("VideoAttentionBoost", ATTENTION, given | (values or {}), **looks)


def report(graph: Graph, samples: Socket, step: int = RESULT, **looks) -> Node:
    return graph.add("VideoAttentionReport", step, {"latent": samples}, **looks)


def save(graph: Graph, images: Socket, fps, name: str, beside: bool = True, **more) -> None:
    """A clip, large, made beside what decodes it; more: its sound."""
    clip = graph.add("CreateVideo", RESULT, {"images": images, "fps": fps, **more}, beside=beside)
    graph.add("SaveVideo", RESULT, {"video": clip["VIDEO"], "filename_prefix": f"video/{name}"}, title="The result")


def note(graph: Graph, title: str, what: str, change: tuple[str, ...], more: str = OFF) -> None:
    """The note at the left: what it does, what to change first, the files with their folders and links."""
    entries = {entry["name"]: entry for node in graph.nodes for entry in node.models}
    text = [f"## {title}", what, "**Change first**\n\n" + "\n".join(f"- {line}" for line in change)]
    if entries:
        files = "\n".join(f"- {e['directory']}: [{name}]({e['url']})" for name, e in entries.items())
        text.append(f"**Files**, in folders of *models*\n\n{files}")
    graph.note("\n\n".join([*text, *([more] if more else [])]))
