"""See what ran."""

import json
from collections import Counter
from dataclasses import replace

import torch
from comfy_api.latest import io, ui
from comfy_execution.utils import get_executing_context

from ..attention.inspect.combined_report import combine
from ..attention.inspect.draw_report import draw_report
from ..attention.inspect.report import Report
from ..attention.inspect.report_text import stages_of, to_text
from .host import askers, run_history, sampler_clock, workflow_graph
from .widgets import as_nodes, image_output, search_words
from .widgets.node import REPORT, Node

UNKNOWN = (
    "This latent did not come straight from a sampler whose model went through Video Attention Backend. "
    "Connect a sampler's output here and put Video Attention Backend before the sampler."
)


class VideoAttentionReport(Node):
    """Says which kernel ran for a latent, and why."""

    TEXT = REPORT
    VIEW = "report"
    EXAMPLE = "Video attention demo"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionReport",
            display_name="Video Attention Report (What Ran, Why Slow)",
            category="video attention/inspect",
            description=(
                "Shows whether your attention kernel really ran, and why not: how often, for which role and blocks, "
                "step by step, with every reason for a fallback. While the sampler runs, too."
            ),
            search_aliases=search_words.of("VideoAttentionReport"),
            is_output_node=True,
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
            inputs=[io.Latent.Input("latent", tooltip="The output of a sampler. It is passed through unchanged.")],
            outputs=[
                io.Latent.Output("latent", tooltip="The same latent."),
                io.String.Output("report", tooltip="The table shown on the node."),
                io.Image.Output(
                    "picture",
                    tooltip="One picture: a bar for each role and kernel, the steps, and the reasons for fallbacks.",
                ),
                io.String.Output("json", tooltip="The same as JSON, for scripts; empty without a report."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_) -> str:
        """Asked before anything of a prompt runs: samplers that nothing of this pack counts are timed by the host."""
        sampler_clock.start()
        return ""

    @classmethod
    def execute(cls, latent) -> io.NodeOutput:
        context, hidden = get_executing_context(), cls.hidden
        if context is None or hidden is None or hidden.dynprompt is None:
            report, why = run_history.find(latent["samples"]), UNKNOWN
        else:
            graph = workflow_graph.behind(context.prompt_id, hidden.dynprompt)
            report, why = _of_prompt(context.prompt_id, graph, hidden.unique_id, latent["samples"])
        if report is None:
            return io.NodeOutput(latent, why, torch.ones(1, 64, 64, 3), "", ui=ui.PreviewText(why))
        text, data = to_text(report), {**report.as_dict(), "as_nodes": as_nodes.of_all(report.made, report.forecast)}
        picture = image_output.to_image(draw_report(report))
        # Scripts read the history of a run, where outputs are not kept, only what nodes show.
        shown = {**ui.PreviewText(text).as_dict(), "report": (data,)}
        return io.NodeOutput(latent, text, picture, json.dumps(data), ui=shown)


def _of_prompt(prompt: str, graph: workflow_graph.Graph, reader: str, samples) -> tuple[Report | None, str]:
    """Sums up the runs of the samplers that this latent comes from, those of samplers before these too, one after the
    other; without any says why there is no report."""

    def find(node: str, output: int) -> list:
        return run_history.of_node(prompt, graph, node, output)

    trail = workflow_graph.follow(graph, reader, find)
    # Behind a switch: the one that gave this very latent.
    exact = [pair for pair in trail.found if run_history.gave(pair[1], samples)]
    found = exact if len(exact) == 1 else sorted(trail.found, key=lambda pair: graph.depth(pair[0]))
    earlier = workflow_graph.before(graph, [node for node, _ in found], find)
    missed = [*earlier.uncounted, *trail.uncounted]
    called = _names(graph, [*(node for node, _ in (*earlier.found, *trail.found)), *missed])
    uncounted = [_not_counted(prompt, graph, node, called[node]) for node in missed]
    if not found:
        return None, "\n".join(uncounted) or UNKNOWN
    last = [(node, run_history.of_entry(runs, samples)) for node, runs in found]
    each = [(called[node], _of_sampler(graph, node, runs)) for node, runs in (*_like(earlier.found, last), *last)]
    report, whose = combine([one for _, one in each]), []
    stages = stages_of(each) if len(each) > len(last) else ()
    if not stages and (trail.between or len(found) > 1):
        whose = [f"Of {' and '.join(name for name, _ in each)}."]
    return replace(report, notes=(*report.notes, *whose, *uncounted), stages=stages), ""


def _like(earlier: list, last: list) -> list:
    """Picks the runs of earlier samplers: of one that worked through a list those of the entry that the last ones have.

    earlier: (node, runs) each; the first turn of a loop is among the loop's, too.
    last: likewise.
    """
    there = [run for _, runs in last for run in runs]
    indices, found = {run.index for run in there}, []
    for node, runs in earlier:
        others = [run for run in runs if run not in there]
        found.append((node, [run for run in others if run.index in indices] or others))
    return [(node, runs) for node, runs in found if runs]


def _of_sampler(graph: workflow_graph.Graph, node: str, runs: list) -> Report:
    """Sums up the runs of one sampler. ComfyUI may have kept them of a prompt in which the nodes had other ids."""
    find = askers.finder_before(graph, node)
    return combine([run.report.with_askers(find) for run in runs])


def _names(graph: workflow_graph.Graph, nodes: list[str]) -> dict[str, str]:
    """Names nodes by their classes, with ids where the prompt has several of a class.

    ComfyUI shows a kept report again when its nodes have other ids.
    """
    classes = {node: graph.node(node)["class_type"] for node in graph.all()}
    kinds = Counter(classes.values())
    return {node: classes[node] if kinds[classes[node]] == 1 else graph.title(node) for node in nodes}


def _not_counted(prompt: str, graph: workflow_graph.Graph, node: str, name: str) -> str:
    """Says why no run of a sampler is known, and how long it took with what is there.

    name: of the sampler.
    """
    if graph.is_counted(node):
        return (
            f"{name}: not counted. The nodes before its model put nothing on it (an empty plan, a node "
            "switched off), it samples in a way of its own that passes by what they put there, another node took that "
            "off, or ComfyUI kept its result from an earlier prompt that is no longer remembered."
        )
    took = sampler_clock.words_of(prompt, node)
    baseline = f"Without Video Attention: {took}. " if took else ""
    return (
        f"{baseline}{name}: not counted. No Video Attention node is before its model, or it is bypassed: "
        "ComfyUI's own attention ran. Put Video Attention Backend before this "
        "sampler to compare: with `auto` it says how much faster that is, with `host default` and timing on what "
        "attention alone takes."
    )


NODES = (VideoAttentionReport,)
