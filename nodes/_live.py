"""Tells the front end after each step what a sampling run did so far: the Report node shows it."""

from __future__ import annotations

import time

from server import PromptServer

from ..attention.tally import Tally
from ..attention.timeline import live_text

# What web/report.js listens to.
EVENT = "video_attention.progress"
# Seconds between two messages at least; the last step is always told.
APART = 0.25


def teller(tally: Tally, callback):
    """A sampler's callback that marks the step in `tally`, tells it, and goes on with `callback`, which may be None."""
    last = 0.0

    def told(step, x0, x, total):
        nonlocal last
        tally.mark()
        if tally.marks and (time.perf_counter() - last >= APART or step + 1 >= total):
            last = time.perf_counter()
            _send(live_text(tally, total))
        return callback(step, x0, x, total) if callback is not None else None

    return told


def _send(text: str) -> None:
    """To the page that queued the run; to nobody without a server, as in a script."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and server.client_id is not None:
        server.send_sync(EVENT, {"node": server.last_node_id, "text": text}, server.client_id)
