"""What the sampling took that a clip comes from: followed from the pictures up to the sampler."""

from __future__ import annotations

from dataclasses import dataclass

from comfy_execution.utils import get_executing_context

from ...attention.core.peak_memory import in_mib
from ...attention.inspect.combined_report import combine
from . import run_history, workflow_graph

# What carries a clip from its sampler to a node that looks at it.
CARRIERS = {"IMAGE", "LATENT", "VIDEO", *workflow_graph.ANY}


@dataclass(frozen=True)
class Cost:
    """What a clip's sampling took, each None where that is not known.

    seconds: of all steps.
    run: bytes at the peak of the run, beside what was taken before.
    call: bytes of the attention call that took the most, beside its q, k and v.
    """

    seconds: float | None = None
    run: int | None = None
    call: int | None = None


def cost_of(hidden, name: str) -> Cost:
    """Sums up what the samplers took that are nearest above an input of the node that runs.

    hidden: of the node, with dynprompt and unique_id.
    name: of the input.
    Nothing is known where no node of this pack counted the run, or there is no prompt, as in a script.
    """
    context = get_executing_context()
    if context is None or hidden is None or hidden.dynprompt is None:
        return Cost()
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
            return Cost()
        else:
            waiting += [above[1:] for above in graph.links(link[0]) if graph.kind(link[0], *above) in CARRIERS]
    report = combine(reports)
    if report is None:
        return Cost()
    return Cost(sum(step.seconds for step in report.timeline) or None, report.run_peak, report.call_peak)


def to_table(costs: dict[str, Cost]) -> str:
    """Writes a Markdown table of what is known of clips, by their names; empty where nothing is."""
    shown = {
        "seconds": [None if cost.seconds is None else f"{cost.seconds:.2f}" for cost in costs.values()],
        "peak of the run, MiB": [None if cost.run is None else in_mib(cost.run) for cost in costs.values()],
        "peak of a call, MiB": [None if cost.call is None else in_mib(cost.call) for cost in costs.values()],
    }
    known = {name: cells for name, cells in shown.items() if any(cells)}
    if not known:
        return ""
    lines = [f"| clip | {' | '.join(known)} |", f"| --- |{' --- |' * len(known)}"]
    lines += [
        f"| {' | '.join((name, *(cell or '-' for cell in row)))} |" for name, row in zip(costs, zip(*known.values()))
    ]
    return "\n".join(lines)
