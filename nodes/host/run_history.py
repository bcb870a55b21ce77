"""The reports of the last sampling runs: which node made them in which prompt, and by what latent they are known."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from comfy_execution.utils import get_executing_context

from ...attention.core.error_handling import try_twice
from ...attention.core.reason import Reason
from ...attention.inspect.combined_report import combine
from ...attention.inspect.report import Report
from ...attention.measure.latent_fingerprint import SAME, LatentFingerprint
from . import workflow_graph
from .latent import parts_of
from .workflow_graph import Owner

# How many executions of nodes are remembered, and how many runs of them: a long clip may take a run for each window.
# The last one of each node goes before earlier ones: a stage whose result ComfyUI keeps stands before many seeds of the
# next one.
EXECUTIONS, MOST = 32, 1024


@dataclass(frozen=True, eq=False)
class Run:
    """One sampling run.

    report: what it did.
    parts: the LatentFingerprint of each part of its latent.
    prompt: the id of the prompt.
    owners: the node that made it, then the nodes that this one was expanded from; none outside of a prompt.
    display: the node on which the page shows it.
    index: which of a list's entries the node worked on.
    output: the output that has its latent; None for all.
    group: runs that belong to one execution share it.
    """

    report: Report
    parts: tuple[LatentFingerprint, ...]
    prompt: str | None = None
    owners: tuple[Owner, ...] = ()
    display: str | None = None
    index: int | None = None
    output: int | None = None
    group: object = field(default_factory=object)

    @property
    def node(self) -> str | None:
        """Gives the id of the node that made it; None outside of a prompt."""
        return self.owners[0].node if self.owners else None

    def apart(self, samples) -> float:
        """Measures the relative L2 between its latent and `samples`; of video and sound the part that has the shape."""
        first = parts_of(samples)[0]
        return min((part.apart(first) for part in self.parts), default=float("inf"))


class Gathered(list):
    """The reports of the runs that end while it is open.

    private: nobody else learns of them.
    """

    def __init__(self, private: bool):
        super().__init__()
        self.private = private

    @property
    def report(self) -> Report | None:
        """Sums all of them up; None without any."""
        return combine(self)


_RUNS: list[Run] = []
_LOCK = threading.Lock()
# Of this thread alone: a run that ends in another one belongs to somebody else.
_OPEN: ContextVar[tuple[Gathered, ...]] = ContextVar("video attention: runs to gather", default=())


def remember(parts: list, report: Report, output: int | None = None) -> None:
    """Keeps a report for a latent, and for the node that runs.

    parts: the latent's tensors, video and sound; none of a run that was stopped.
    report: of the run.
    output: the node's output that has this latent; None for all of them.
    """
    opened = _OPEN.get()
    for gathered in reversed(opened):
        gathered.append(report)
        if gathered.private:
            return
    prints, context = (), get_executing_context()
    if parts:
        # Without memory for it the run is found by its node alone.
        found = try_twice(lambda: tuple(map(LatentFingerprint, parts)), parts[0].device)
        prints = () if isinstance(found, Reason) else found
    more = {"output": output, **({"group": opened[0]} if opened else {})}
    if context is not None:
        owners, display = workflow_graph.owners(context.prompt_id, context.node_id)
        more |= {"prompt": context.prompt_id, "owners": owners, "display": display, "index": context.list_index}
    with _LOCK:
        _RUNS.append(Run(report, prints, **more))
        _forget()


def _forget() -> None:
    """Keeps MOST runs, of EXECUTIONS executions: the last one of each node, then the newest others."""
    executions: dict[tuple, list[Run]] = {}
    for run in reversed(_RUNS):
        executions.setdefault(_execution(run), []).append(run)
    if len(executions) <= EXECUTIONS and len(_RUNS) <= MOST:
        return
    last: dict = {}
    for key, runs in executions.items():
        last.setdefault(runs[0].display, key)
    ranked = dict.fromkeys((*last.values(), *executions))
    runs = [run for key in list(ranked)[:EXECUTIONS] for run in executions[key]]
    kept = set(map(id, runs[:MOST]))
    _RUNS[:] = [run for run in _RUNS if id(run) in kept]


def _execution(run: Run) -> tuple:
    return (run.prompt, run.node) if run.owners else (id(run.group),)


def known() -> tuple[Run, ...]:
    """Lists all runs that are remembered, oldest first."""
    with _LOCK:
        return tuple(_RUNS)


@contextmanager
def _gather(private: bool):
    gathered = Gathered(private)
    token = _OPEN.set((*_OPEN.get(), gathered))
    try:
        yield gathered
    finally:
        _OPEN.reset(token)


def aside():
    """Opens a context whose runs its Gathered alone knows: a measurement must not push out what a user looks at."""
    return _gather(True)


def is_aside() -> bool:
    """Tells whether what runs now is a measurement that its Gathered alone knows of."""
    return any(gathered.private for gathered in _OPEN.get())


def own():
    """Opens a context whose Gathered has the runs that end in it; everybody else learns of them as ever."""
    return _gather(False)


def find(samples) -> Report | None:
    """Finds what is known of the run that gave a latent, by the latent alone; None when no patched model gave it.

    For scripts, which have no prompt to follow. Of several the nearest, of equals the newest; with all runs of the same
    execution.
    """
    runs = known()
    # Newest first, and min keeps the first of equals. One seed on two exact kernels differs by 1e-6: nearest wins.
    apart = [(run.apart(samples), run) for run in reversed(runs)]
    error, found = min(apart, key=lambda pair: pair[0], default=(SAME, None))
    if found is None or not error < SAME:
        return None
    return combine([run.report for run in runs if _execution(run) == _execution(found) and run.index == found.index])


def of_node(prompt: str | None, graph, node: str, output: int) -> list[Run]:
    """Finds the runs that an output of a node comes from, oldest first, those of nodes expanded from it too.

    prompt: id of the prompt.
    graph: its Graph.
    node: id of the node.
    output: number of the output.
    Where the node did not run in this prompt, those of the last prompt in which a node with the same inputs did:
    ComfyUI kept its result.
    """
    runs = [run for run in known() if run.output in (None, output)]
    found = [run for each in (node, *graph.inside(node)) for run in _of_one(runs, prompt, graph, each)]
    if not found:
        found = _last(runs, lambda run: graph.signature(node) in [owner.signature for owner in run.owners])
    # The first turn of a loop is the user's own nodes, later ones are copies that the page shows on them.
    shown = {(run.prompt, run.display) for run in found if node not in (run.node, run.display)}
    own = {id(run) for run in found} | {id(run) for run in runs if (run.prompt, run.node) in shown}
    return [run for run in runs if id(run) in own]


def _of_one(runs: list[Run], prompt: str | None, graph, node: str) -> list[Run]:
    here = [run for run in runs if run.prompt == prompt and run.node == node]
    signature = graph.signature(node)
    return here or _last(runs, lambda run: run.owners and run.owners[0].signature == signature)


def _last(runs: list[Run], suits) -> list[Run]:
    """Picks those of the runs that suit which are of one prompt and one node with the newest of them."""
    suiting = [run for run in runs if run.prompt is not None and suits(run)]
    if not suiting:
        return []
    return [run for run in suiting if (run.prompt, run.owners[-1]) == (suiting[-1].prompt, suiting[-1].owners[-1])]


def gave(runs: list[Run], samples) -> bool:
    """Tells whether one of the runs gave this very latent."""
    return min(run.apart(samples) for run in runs) < SAME


def of_entry(runs: list[Run], samples) -> list[Run]:
    """Picks, of a node that worked through a list, those of the entry that gave `samples`; all if none can be told."""
    if len({run.index for run in runs}) < 2:
        return runs
    nearest = min(runs, key=lambda run: run.apart(samples))
    return runs if nearest.apart(samples) >= SAME else [run for run in runs if run.index == nearest.index]
