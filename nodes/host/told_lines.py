"""Keeps what was told to nodes after a run in the server's history, where the page finds it after a reload."""

from __future__ import annotations

from comfy_execution.utils import get_executing_context
from server import PromptServer

# Of a prompt's extra data, which the history has; web/history.js reads it.
KEY = "video_attention"


def keep(node: str, text: str) -> None:
    """Keeps a text for a node with the prompt that runs; does nothing outside of one, as in a script.

    node: its id, as the page has it.
    """
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    queue = getattr(server, "prompt_queue", None)
    if context is None or queue is None:
        return
    # A prompt that runs: (number, id, nodes, extra data, ...). It goes to the history as it stands here.
    for prompt in list(queue.currently_running.values()):
        if len(prompt) > 3 and prompt[1] == context.prompt_id and isinstance(prompt[3], dict):
            prompt[3].setdefault(KEY, {})[node] = text
