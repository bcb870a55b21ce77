"""Tells the front end after each step what a sampling run did so far: the Report node shows it."""

from __future__ import annotations

import time

from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...attention.inspect.report import Report
from ...attention.inspect.report_text import to_text
from ...attention.inspect.rule_coverage import sentences
from ...attention.inspect.timeline import live_text
from ...attention.routing.rules import Asker
from ...attention.routing.run_stats import RunStats
from . import told_lines, workflow_graph

# What web/box.js listens to.
EVENT = "video_attention.progress"
# Seconds between two messages at least; the last step is always told.
APART = 0.25


def teller(stats: RunStats, callback):
    """Makes a sampler's callback that marks each step in `stats` and tells it to the page.

    callback: called after that; may be None.
    """
    last, where = 0.0, _where()

    def told(step, x0, x, total):
        nonlocal last
        stats.mark()
        if stats.marks and (time.perf_counter() - last >= APART or step + 1 >= total):
            last = time.perf_counter()
            _send(live_text(stats, total), *where)
        return callback(step, x0, x, total) if callback is not None else None

    return told


def finished(report: Report, stats: RunStats) -> None:
    """Tells the page what a run came to: whole on the Reports that speak of it, in a line on the nodes of its rules.

    stats: of the run.
    """
    node, reports = _where()
    _send(to_text(report), node, reports)
    for asker in dict.fromkeys(stats.find_asker(rule.asker) for rule in stats.rules if rule.asker is not None):
        line = " ".join(line_of(report, asker))
        _send(line, node, list(asker.nodes), told=True)
        for each in asker.nodes:
            told_lines.keep(each, line)


def line_of(report: Report, asker: Asker) -> tuple[str, ...]:
    """Says how much faster a run was, and what the rules of one node did in it."""
    own = [rule for rule in report.rules if rule.node == asker.node]
    return (report.answer.sentence, *sentences(own))


def stopped(stats: RunStats, how: str) -> None:
    """Tells the Reports that speak of a run that it came to no end.

    how: "cancelled", say.
    """
    done, (node, reports) = len(stats.marks), _where()
    when = f"after step {done} of {max(done, stats.steps)}" if done else "before the end of its first step"
    _send(f"{how[:1].upper()}{how[1:]} {when}.", node, reports)


def _where() -> tuple[str | None, list[str]]:
    """Finds the node that runs, and the Report nodes that speak of it; None and none outside of a prompt."""
    context = get_executing_context()
    if context is None:
        return None, []
    return context.node_id, workflow_graph.readers(context.prompt_id, context.node_id)


def _send(text: str, node: str | None, reports: list[str], told: bool = False) -> None:
    """Sends a text to the page that queued the run; to nobody without a server, as in a script.

    told: whether it is what a run came to, which stays until the next one.
    """
    server = getattr(PromptServer, "instance", None)
    if server is not None and server.client_id is not None:
        sent = {"node": server.last_node_id if node is None else node, "reports": reports, "text": text}
        server.send_sync(EVENT, {**sent, "told": True} if told else sent, server.client_id)
