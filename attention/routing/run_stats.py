"""What happened during one sampling run: one decision for each site and geometry, counted while it runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from ..core.chunks import Chunks
from ..core.geometry import Geometry
from ..core.head_chunks import HeadChunks
from ..core.identity import KeepsIdentity
from ..core.peak_memory import RunPeak
from ..core.reason import Reason
from ..core.site import AttentionSite
from ..core.timing import elapsed, joined
from ..core.tokens import Grid, VideoSpan
from ..forecast.record import ForecastRecord
from .kernel_history import KernelHistory
from .rules import Asker
from .step_context import StepContext
from .step_edges import Mark, StepEdges

BYPASSED = "bypassed"
# Where the video is in a call that was never looked at.
NOT_ASKED = Reason()


class Decision:
    """Holds what the router decided for one site and geometry, and counts how often it was carried out.

    site: of the calls.
    geometry: of the calls; None where their tensors cannot be read.
    rule: that won, None where none is about a kernel.
    asker: of that rule, as the run's prompt has it; None where nobody asks.
    video_span: where in the call the video's tokens are, or why that cannot be told.
    wanted: the backend or pattern that the rule names, None without a rule.
    used: what runs, by name.
    reason: why that is not `wanted`.
    kernel: what runs, None for what would run without us.
    run: all that the router does to each such call, put together once: an AttentionCall -> what the host gets.
    passed_over: backends that `auto` would have preferred, and why not.
    choice: what `auto` measured, None when it did not.
    unshaped: the pattern or guidance that the user's rule names and why the call stays as it is.
    dense: why a pattern alone was left out.
    strength: what is done to the call whatever runs it.
    guard: whether the next call is looked at, as the first always is.
    calls: how many there were.
    fell_back: how many of them ran without the kernel that the rule wants.
    below: how many went through another pack's override to a router of ours below it, whose Decision counts them.
    chunks: how its calls are cut, None where they are whole.
    cut: why they are.
    whole: how many calls were not, before those that are.
    lost: the override below us that raised, and what it said.
    without: calls that the host's own attention made in its place.
    counted_in: of a call with some of its module's heads that is not the first, the Decision that counts them all as
        one.
    spans: stopwatches of the calls that were timed, see timing.elapsed.
    reuse: tells which of the calls are given a kept output; None: none is.
    """

    __slots__ = (
        "asker", "below", "calls", "choice", "chunks", "counted_in", "cut", "dense", "fell_back", "geometry", "guard",
        "history", "kernel", "lost", "passed_over", "reason", "reuse", "rule", "run", "site", "spans", "strength",
        "unshaped", "used", "video_span", "wanted", "whole", "without",
    )  # fmt: skip

    def __init__(
        self,
        site: AttentionSite,
        geometry: Geometry | None,
        rule,
        wanted: str | None,
        used: str,
        video_span: VideoSpan | Reason = NOT_ASKED,
    ):
        self.site, self.geometry, self.rule, self.video_span = site, geometry, rule, video_span
        self.wanted, self.used, self.kernel = wanted, used, None
        self.reason: str | None = None
        self.passed_over: dict[str, str] = {}
        self.choice = None
        self.calls = 0
        self.below = self.without = self.whole = 0
        self.chunks: Chunks | None = None
        self.cut: str | None = None
        self.counted_in: Decision | None = None
        self.lost: tuple[str, str] | None = None
        self.fell_back = 0
        self.guard = False
        self.history = KernelHistory()
        self.spans: list = []
        self.unshaped: tuple[str, str] | None = None
        self.dense: str | None = None
        self.strength = None
        self.run: Callable | None = None
        self.reuse = None
        self.asker = None

    @property
    def answered(self) -> int:
        """Count the calls that were answered here. With timing on, each leaves one span."""
        return self.calls - self.below

    def add_span(self, span) -> None:
        """Note the stopwatch of a call."""
        if self.counted_in is not None and self.counted_in.spans:
            self.counted_in.spans[-1] = joined(self.counted_in.spans[-1], span)
        else:
            self.spans.append(span)

    @property
    def chunked(self) -> int:
        """Count the calls that were in chunks."""
        others = self.fell_back if self.kernel is not None else 0
        return 0 if self.chunks is None else max(0, self.calls - self.whole - others)

    def reasons(self):
        """Yield ((what was wanted, why it did not run), calls)."""
        if self.fell_back:
            yield (self.wanted, self.reason), self.fell_back
        if self.unshaped:
            yield self.unshaped, self.calls
        if self.lost:
            yield self.lost, self.without

    def seconds(self) -> float:
        """Sum up the seconds spent in the calls, as far as they were measured."""
        return sum(elapsed(span) for span in self.spans)


class Bypass:
    """Counts calls that ran past our rules.

    who: attended instead, by name.
    how: one of bypasses.HOWS.
    steps: in which that was seen, from 1.
    decisions: a Decision for each AttentionSite, where single calls can be told.
    """

    def __init__(self, who: str, how: str):
        self.who, self.how = who, how
        self.steps: set[int] = set()
        self.decisions: dict[AttentionSite, Decision] = {}


class RunStats(KeepsIdentity):
    """Counts what happened in one run. Keys of decisions carry the device, so no two GPU threads ever write one.

    model: the class of the model.
    steps: how many the sampler was asked for.
    grids: of the video's tokens, in the order in which they were met.
    windows: first and last frame of each context window.
    rules: of the model when the run began.
    patterned: those of them with a pattern.
    decisions: by the router's key, or under a key that begins with BYPASSED.
    chunks: counts the heads of calls with some of a module's.
    history: of kernels.
    notes: sentences for the report.
    choosing: seconds that `auto` spent on timing candidates in this run.
    context: what is published when nothing more is known than who counts.
    begun: when the first model evaluation began.
    evaluations: how many began.
    edges: tell where the sampler's steps end.
    marks: for each step the time at its end, and the calls of every decision until then.
    spent: calls that guidance added, by name and unit.
    left: what guidance had to leave as it is, by name, unit and why.
    bypasses: what ran past our rules, by who and how.
    warned: whether the log knows of them.
    at_start: what was in the host's override slot when the run began.
    compiled: whether torch.compile has the model.
    calls: of the model.
    forecast: what became of each evaluation where some may be forecast, else of none.
    memory: the RunPeak, None where nothing is measured.
    gpus: a parallel.record.RanksRecord where the model has copies on several GPUs, else None.
    reuse: the ReuseRun, which keeps attention outputs; None where no rule asks for that.
    find_asker: an Asker, or None -> the same as the run's prompt has it: a rule may be older than the prompt.
    halos: how calls run that fetch keys from other GPUs by what their queries may see, None for those that do not.
    kept: of calls over several GPUs the SharedReuse, None for those of which nothing is kept.
    rings: how calls get the keys of other groups of GPUs, where there are more GPUs than heads.
    """

    def __init__(self, model: str = "", grid: Grid | None = None, steps: int = 0):
        self.model, self.steps = model, steps
        self.grids: dict[Grid, None] = {} if grid is None else {grid: None}
        self.windows: dict[tuple[int, int], None] = {}
        self.rules: tuple = ()
        self.patterned: tuple = ()
        self.decisions: dict[tuple, Decision] = {}
        self.chunks, self._first = HeadChunks(), {}
        self.history = KernelHistory()
        self.notes = self.history.notes
        self.choosing = 0.0
        self.context = StepContext(self)
        self.begun: float | None = None
        self.evaluations = 0
        self.edges = StepEdges(self._look)
        self.marks = self.edges.marks
        self.spent: Counter = Counter()
        self.left: Counter = Counter()
        self.bypasses: dict[tuple[str, str], Bypass] = {}
        self.at_start = None
        self.compiled = self.warned = False
        self.calls = 0
        self.forecast = ForecastRecord()
        self.memory: RunPeak | None = None
        self.gpus = None
        self.reuse = None
        self.find_asker: Callable[[Asker | None], Asker | None] = lambda asker: asker
        self.halos: dict[tuple, object] = {}
        self.kept: dict[tuple, object] = {}
        self.rings: dict[tuple, object] = {}

    def add_bypass(self, who: str, how: str, site: AttentionSite | None = None) -> None:
        """Note that attention of this step ran past our rules.

        who: as of a Bypass.
        how: as of a Bypass.
        site: of the call; None where single calls cannot be told.
        """
        bypass = self.bypasses.setdefault((who, how), Bypass(who, how))
        bypass.steps.add(len(self.marks) + 1)
        if site is not None:
            decision = bypass.decisions.get(site)
            if decision is None:
                decision = bypass.decisions[site] = self.decisions[BYPASSED, site, who, how] = Decision(
                    site, None, None, None, who
                )
            decision.calls += 1

    def saw(self, grid: Grid | None, window: tuple[int, int] | None = None) -> None:
        """Note a model call's grid, and which frames it was about where the host cuts the clip into windows."""
        if grid is not None:
            self.grids.setdefault(grid)
        if window is not None:
            self.windows.setdefault(window)

    def join(self, where: tuple, first_head: int, decision: Decision) -> None:
        """Count a call with some of its module's heads with the others, where the first is.

        where: the router that was asked, and the AttentionSite.
        first_head: number of the call's first head.
        """
        found = self._first.get(where)
        # One of several GPUs has some of the heads, the first not among them.
        if found is None or first_head <= found[0]:
            self._first[where] = first_head, decision
        else:
            decision.counted_in = found[1]

    def counted(self) -> tuple[tuple[tuple, Decision], ...]:
        """List (key, Decision) of all that is counted: not of calls that belong to another Decision's."""
        return tuple((key, decision) for key, decision in tuple(self.decisions.items()) if decision.counted_in is None)

    def spend(self, what: str, unit: str) -> None:
        """Note that a guidance made one call more than the model alone.

        unit: in the singular.
        """
        self.spent[what, unit] += 1

    def leave(self, what: str, unit: str, why: str) -> None:
        """Note that a guidance could not be in one place where its rule wants it.

        unit: in the singular.
        """
        self.left[what, unit, why] += 1

    def costs(self) -> tuple[str, ...]:
        """Say in sentences what was forecast or kept, and for each guidance what it took, and where it could not be."""
        spent = (f"{what}: {_count(number, unit)} more." for (what, unit), number in self.spent.items())
        left = (
            f"{what} left {_count(n, unit)} as {'it was' if n == 1 else 'they were'}: {why}."
            for (what, unit, why), n in self.left.items()
        )
        gpus = () if self.gpus is None else self.gpus.sentences()
        reused = () if self.reuse is None else self.reuse.sentences()
        return (*gpus, *self.forecast.sentences(), *reused, *spent, *left)

    def begin(self) -> None:
        """Note that a model evaluation begins."""
        self.evaluations += 1
        if self.begun is None:
            self.begun = time.perf_counter()
            if self.memory is not None:
                self.memory.begin()
        self.edges.begin()

    def mark(self) -> None:
        """Note a sampler's callback. Without any evaluation before it, nothing is known of its step."""
        if self.begun is not None:
            self.edges.call_back()
            self.forecast.mark()

    def _look(self) -> Mark:
        return time.perf_counter(), {key: decision.answered for key, decision in self.counted()}


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"
