"""How long the sampling took that a clip comes from: followed from the pictures up to the sampler."""

from __future__ import annotations

from comfy_execution.utils import get_executing_context

from ...attention.inspect.combined_report import combine
from . import run_history, workflow_graph

# What carries a clip from its sampler to a node that looks at it.
CARRIERS = {"IMAGE", "LATENT", "VIDEO", *workflow_graph.ANY}


def seconds_of(hidden, name: str) -> float | None:
    """Sums up the seconds of all steps of the samplers nearest above an input of the node that runs.

    hidden: of the node, with dynprompt and unique_id.
    name: of the input.
    None where that is not known: no node of this pack counted the run, or there is no prompt, as in a script.
    """
    context = get_executing_context()
    if context is None or hidden is None or hidden.dynprompt is None:
        return None
    graph = workflow_graph.behind(context.prompt_id, hidden.dynprompt)
    waiting = [link[1:] for link in graph.links(hidden.unique_id) if link[0] == name]
    reports, seen = [], set()
    while waiting:
        link = waiting.pop()
        if link in seen or graph.node(link[0]) is None:
            continue
        seen.add(link)
        if found := run_history.of_node(context.prompt_id, graph, *link):
            reports += [run.report for run in found]
        elif graph.samples(link[0]):
            return None
        else:
            waiting += [above[1:] for above in graph.links(link[0]) if graph.kind(link[0], *above) in CARRIERS]
    report = combine(reports)
    total = sum(step.seconds for step in report.timeline) if report is not None else 0.0
    return total or None
