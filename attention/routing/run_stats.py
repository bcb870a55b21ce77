"""What happened during one sampling run: one decision for each site and geometry, counted while it runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from ..core.geometry import Geometry
from ..core.head_chunks import HeadChunks
from ..core.identity import KeepsIdentity
from ..core.reason import Reason
from ..core.site import AttentionSite
from ..core.timing import elapsed, joined
from ..core.tokens import Grid, VideoSpan
from .step_context import StepContext

TAKEN = "taken"
# Where the video is in a call that was never looked at.
NOT_ASKED = Reason()


class Known:
    """What one run has learned of its kernels. A Decision's is its RunStats's.

    proven: (kernel, geometry) that left its inputs as they were and gave an output of its own. short: those that
    memory was missing for once. lets_go: whether a kernel may let go of q, k and v before it answers: None: no,
    since nobody could make the evaluation again should it fail then; False: no more, since one did. notes: the
    RunStats's.
    """

    __slots__ = ("lets_go", "notes", "proven", "short")

    def __init__(self):
        self.proven: set[tuple] = set()
        self.short: set[tuple] = set()
        self.lets_go: bool | None = None
        self.notes: list[str] = []


class Decision:
    """One decision of the router and how often it was carried out.

    video_span: where in the call the video's tokens are, or why that cannot be told.
    kernel: what runs, None for the host's own attention. wanted: the backend the user's rule names, None without a
    rule. used: what runs. reason: why `used` is not `wanted`. passed_over: backends `auto` would have preferred.
    choice: what `auto` measured, None when it did not. unshaped: the pattern or guidance that the user's rule names and
    why the call stays as it is. dense: the same of a pattern alone. strength: what is done to the call
    whatever runs it.
    run: of the router, all that it does to each such call, put together once: an AttentionCall -> what the host gets.
    below: how many of `calls` went through another pack's override to a router of ours below it, whose Decision counts
    them. guard: whether the next call is looked at, as the first always is. lost: the override below us that raised,
    and what it said; without: calls that the host's own attention made in its place. whole: of a call with some of its
    module's heads that is not the first, the Decision that counts them all as one.
    """

    __slots__ = (
        "below",
        "geometry",
        "calls",
        "choice",
        "dense",
        "fell_back",
        "guard",
        "kernel",
        "known",
        "lost",
        "passed_over",
        "video_span",
        "reason",
        "rule",
        "run",
        "site",
        "spans",
        "strength",
        "unshaped",
        "used",
        "wanted",
        "whole",
        "without",
    )

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
        self.below = self.without = 0
        self.whole: Decision | None = None
        self.lost: tuple[str, str] | None = None
        self.fell_back = 0
        self.guard = False
        self.known = Known()
        self.spans: list = []
        self.unshaped: tuple[str, str] | None = None
        self.dense: str | None = None
        self.strength = None
        self.run: Callable | None = None

    @property
    def answered(self) -> int:
        """Calls that were answered here. With timing on, each leaves one span."""
        return self.calls - self.below

    def add_span(self, span) -> None:
        """A call was timed."""
        if self.whole is not None and self.whole.spans:
            self.whole.spans[-1] = joined(self.whole.spans[-1], span)
        else:
            self.spans.append(span)

    def seconds(self) -> float:
        """Time spent in this record's calls, as far as it was measured."""
        return sum(elapsed(span) for span in self.spans)


class Taken:
    """Calls that ran past our rules. who: by name. how: one of taken.HOWS. steps: from 1. records: by AttentionSite."""

    def __init__(self, who: str, how: str):
        self.who, self.how = who, how
        self.steps: set[int] = set()
        self.decisions: dict[AttentionSite, Decision] = {}


class RunStats(KeepsIdentity):
    """The decisions of one run. Keys carry the device, so no two GPU threads ever write one decision.

    grids: of the video's tokens, in the order in which they were met. windows: first and last frame of each context
    window. patterned: the rules with a pattern that are on the model. choosing: seconds that `auto` spent on timing
    candidates in this run. context: what is published when nothing more is
    known than who counts. begun: when the first model evaluation began. evaluations: how many began. marks: for each
    finished step the time and the calls of every decision until then. spent: calls that guidance added, by name and
    unit. left: what guidance had to leave as it is, by name, unit and why.
    taken: what ran past our rules, by who and how; its Decisions are among `decisions`, under keys that begin with
    TAKEN.
    at_start: what was in the host's override slot when the run began. compiled: whether torch.compile has the model.
    told: whether the log knows of `taken`. calls: of the model. chunks: of calls with some of a module's heads.
    """

    def __init__(self, model: str = "", grid: Grid | None = None, steps: int = 0):
        self.model, self.steps = model, steps
        self.grids: dict[Grid, None] = {} if grid is None else {grid: None}
        self.windows: dict[tuple[int, int], None] = {}
        self.patterned: tuple = ()
        self.decisions: dict[tuple, Decision] = {}
        self.chunks, self._first = HeadChunks(), {}
        self.known = Known()
        self.notes = self.known.notes
        self.choosing = 0.0
        self.context = StepContext(self)
        self.begun: float | None = None
        self.evaluations = 0
        self.marks: list[tuple[float, dict[tuple, int]]] = []
        self.spent: Counter = Counter()
        self.left: Counter = Counter()
        self.taken: dict[tuple[str, str], Taken] = {}
        self.at_start = None
        self.compiled = self.told = False
        self.calls = 0

    def take(self, who: str, how: str, site: AttentionSite | None = None) -> None:
        """Attention of this step ran past our rules. site: of the call; None where single calls cannot be told."""
        taken = self.taken.setdefault((who, how), Taken(who, how))
        taken.steps.add(len(self.marks) + 1)
        if site is not None:
            decision = taken.decisions.get(site)
            if decision is None:
                decision = taken.decisions[site] = self.decisions[TAKEN, site, who, how] = Decision(
                    site, None, None, None, who
                )
            decision.calls += 1

    def saw(self, grid: Grid | None, window: tuple[int, int] | None = None) -> None:
        """A model call's grid, and which frames it was about where the host cuts the clip into windows."""
        if grid is not None:
            self.grids.setdefault(grid)
        if window is not None:
            self.windows.setdefault(window)

    def join(self, where: tuple, chunk: int, decision: Decision) -> None:
        """A call with some of its module's heads, from `chunk` on: all of them count as one, where the first is.

        where: the router that was asked, and the AttentionSite.
        """
        if chunk:
            decision.whole = self._first.get(where)
        else:
            self._first[where] = decision

    def whole(self) -> tuple[tuple[tuple, Decision], ...]:
        """(key, Decision) of all that is counted: not of calls that belong to another Decision's."""
        return tuple((key, decision) for key, decision in tuple(self.decisions.items()) if decision.whole is None)

    def spend(self, what: str, unit: str) -> None:
        """A guidance made one call more than the model alone. unit: in the singular."""
        self.spent[what, unit] += 1

    def leave(self, what: str, unit: str, why: str) -> None:
        """A guidance could not be in one place where its rule wants it. unit: in the singular."""
        self.left[what, unit, why] += 1

    def costs(self) -> tuple[str, ...]:
        """Sentences for each guidance: what it took, and where it could not be."""
        spent = (f"{what}: {_count(number, unit)} more." for (what, unit), number in self.spent.items())
        left = (
            f"{what} left {_count(n, unit)} as {'it was' if n == 1 else 'they were'}: {why}."
            for (what, unit, why), n in self.left.items()
        )
        return (*spent, *left)

    def begin(self) -> None:
        """A model evaluation begins."""
        self.evaluations += 1
        if self.begun is None:
            self.begun = time.perf_counter()

    def mark(self) -> None:
        """A step is over. Without any evaluation before it, nothing is known of it."""
        if self.begun is not None:
            counts = {key: decision.answered for key, decision in self.whole()}
            self.marks.append((time.perf_counter(), counts))


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"
