"""What ran, where, how often, how long, and the reason for every fallback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..backends.registry import HOST
from ..core.peak_memory import as_mib, in_mib
from ..core.reason import Reason
from ..core.tokens import SIDES, Grid
from ..routing.rules import Asker, format_blocks
from ..routing.run_stats import Decision, RunStats
from .answer import Answer, Gain, answer_of, gains_of, hints_of
from .pattern_coverage import PatternCoverage, coverage_of
from .rule_coverage import RuleCoverage, coverage_of_rules, sentences
from .timeline import StepStats, as_data, step_stats_of
from .untimed import untimed_of


@dataclass
class ReportRow:
    """All calls of one role that ran on one kernel.

    seconds: 0 unless timing was on.
    blocks: that had such calls.
    tokens: their (queries, keys).
    by_block: block -> (calls, seconds).
    peak: bytes that one of them took at most beside its q, k and v, the output included; None: not measured.
    """

    role: str
    used: str
    calls: int = 0
    seconds: float = 0.0
    blocks: set[int] = field(default_factory=set)
    tokens: set[tuple[int, int]] = field(default_factory=set)
    by_block: dict[int, tuple[int, float]] = field(default_factory=dict)
    peak: int | None = None

    def as_dict(self) -> dict:
        """Plain data, for JSON."""
        head, seconds = {"role": self.role, "used": self.used, "calls": self.calls}, round(self.seconds, 6)
        return {**head, "seconds": seconds, "peak_mib": as_mib(self.peak), "blocks": format_blocks(self.blocks)}

    def add_peak(self, peak: int | None) -> None:
        """Note what another call took."""
        self.peak = peak if self.peak is None else max(self.peak, peak or 0)


@dataclass(frozen=True)
class Report:
    """A finished or running RunStats, summed up; combined_report.py sums several of these up again.

    grids: of the video's tokens, as met.
    steps: as the sampler told them, or as asked for where it told none.
    rows: most calls first.
    fallbacks: (role, wanted, reason) -> calls.
    passed_over: (backend, reason) -> calls that `auto` would have given to that backend.
    notes: sentences.
    stages: what each of several samplers did that worked on one latent, one after the other; empty for one.
    told: note -> in how many of the runs it holds.
    ruled: calls that ran on the backend that was chosen for them.
    measured: what `auto` timed, a line for each geometry.
    choosing: the seconds that took.
    unplaced: (role, reason) -> calls whose video tokens could not be placed on the grid.
    timeline: the steps one by one.
    windows: context windows, 0 without any.
    evaluations: of the model, two for a step of some samplers.
    forecasts: how many of them were forecast.
    coverage: what patterns did, None without one.
    missing: why no call was seen.
    rules: what each rule did.
    gains: what was measured beside the host's own attention, by role.
    hints: (library that may be faster, how to get it) -> calls.
    untimed: the nodes whose `timing` is off.
    made: the rules of the models.
    forecast: the ForecastSettings of the first of them that has some; None: none.
    chunked: (role, what ran, how it was cut and why) -> calls.
    memory: bytes (allocated before the run, the most on top of them in it); None: not measured.
    """

    model: str
    grids: tuple[Grid, ...]
    steps: int
    rows: tuple[ReportRow, ...]
    fallbacks: Counter
    passed_over: Counter
    notes: tuple[str, ...]
    ruled: int
    measured: tuple[str, ...] = ()
    choosing: float = 0.0
    unplaced: Counter = field(default_factory=Counter)
    timeline: tuple[StepStats, ...] = ()
    runs: int = 1
    windows: int = 0
    evaluations: int = 0
    forecasts: int = 0
    coverage: PatternCoverage | None = None
    missing: str = ""
    told: Counter = field(default_factory=Counter)
    rules: tuple[RuleCoverage, ...] = ()
    gains: tuple[Gain, ...] = ()
    hints: Counter = field(default_factory=Counter)
    untimed: tuple[Asker, ...] = ()
    made: tuple = ()
    forecast: object | None = None
    chunked: Counter = field(default_factory=Counter)
    memory: tuple[int, int] | None = None
    stages: tuple[str, ...] = ()

    def with_askers(self, find: Callable[[Asker | None], Asker | None]) -> Report:
        """Return the same as another prompt has the nodes that it speaks of.

        find: as of RunStats.find_asker.
        """
        rules = tuple(replace(rule, asker=find(rule.asker)) for rule in self.rules)
        return replace(self, rules=rules, untimed=tuple(map(find, self.untimed)))

    @property
    def answer(self) -> Answer:
        """Say how much faster the run was."""
        return answer_of(self)

    @property
    def grid(self) -> Grid | None:
        """Return the first of the grids."""
        return self.grids[0] if self.grids else None

    @property
    def run_peak(self) -> int | None:
        """Return the bytes at the peak of the run, beside what was there before; None where nobody counted."""
        return None if self.memory is None else self.memory[1]

    @property
    def call_peak(self) -> int | None:
        """Return the bytes of the call that took most beside its q, k and v; None where none was measured."""
        return max((row.peak for row in self.rows if row.peak is not None), default=None)

    @property
    def memory_line(self) -> str:
        """Say how much memory the run took; empty where nobody counted."""
        if self.memory is None:
            return ""
        before, most = self.memory
        return f"Memory: {in_mib(most)} MiB at the peak of the run, beside {in_mib(before)} MiB that were taken before."

    @property
    def calls(self) -> int:
        """Count the calls of all rows."""
        return sum(row.calls for row in self.rows)

    @property
    def seconds(self) -> float:
        """Sum up the seconds of all rows, 0 without timing."""
        return sum(row.seconds for row in self.rows)

    def as_dict(self) -> dict:
        """Plain data, for JSON."""
        return {
            "answer": self.answer.as_dict(),
            "rules": [rule.as_dict() for rule in self.rules],
            "rule_lines": sentences(self.rules),
            "model": self.model,
            "grid": list(self.grid) if self.grid else None,
            "grids": [list(grid) for grid in self.grids],
            "windows": self.windows,
            "runs": self.runs,
            "steps": self.steps,
            "evaluations": self.evaluations,
            "evaluations_forecast": self.forecasts,
            "calls": self.calls,
            "calls_on_chosen_backend": self.ruled,
            "seconds": round(self.seconds, 6),
            "rows": [row.as_dict() for row in self.rows],
            "peak_mib": as_mib(self.run_peak),
            "memory_line": self.memory_line,
            "fallbacks": _listed(self.fallbacks, "role", "wanted", "reason"),
            "in_chunks": _listed(self.chunked, "role", "used", "how"),
            "passed_over": _listed(self.passed_over, "backend", "reason"),
            "unplaced": _listed(self.unplaced, "role", "reason"),
            "shaping": self.coverage.as_dict() if self.coverage else None,
            "measured": list(self.measured),
            "choosing_seconds": round(self.choosing, 6),
            **as_data(self.timeline),
            "notes": list(notes_of(self)),
            "stages": list(self.stages),
        }


def _listed(counts: Counter, *names: str) -> list[dict]:
    """List what was counted as tables, most calls first."""
    return [{**dict(zip(names, what)), "calls": calls} for what, calls in counts.most_common()]


def summarise(stats: RunStats) -> Report:
    """Sum up a RunStats. Waits for the GPU when calls were timed."""
    rows: dict[tuple[str, str], ReportRow] = {}
    fallbacks, passed_over, unplaced = Counter(), Counter(), Counter()
    ruled, decisions = 0, [decision for _, decision in stats.counted()]
    for decision in decisions:
        if decision.answered:
            key = decision.site.role, decision.used
            _add(rows.setdefault(key, ReportRow(*key)), decision)
        for why, calls in decision.reasons():
            fallbacks[(decision.site.role, *why)] += calls
        if decision.wanted not in (None, HOST):
            ruled += decision.calls - decision.fell_back
        for name, reason in decision.passed_over.items():
            passed_over[name, reason] += decision.calls
        site, why = decision.site, decision.video_span
        if site.family and site.role in SIDES and why and isinstance(why, Reason):
            unplaced[site.role, why] += decision.answered
    timeline = step_stats_of(stats)
    notes = tuple(dict.fromkeys((*stats.costs(), *stats.notes)))
    return Report(
        model=stats.model,
        grids=tuple(stats.grids),
        windows=len(stats.windows),
        steps=len(timeline) or stats.steps,
        evaluations=stats.evaluations,
        rows=tuple(sorted(rows.values(), key=lambda row: (-row.calls, row.role, row.used))),
        fallbacks=fallbacks,
        passed_over=passed_over,
        notes=notes,
        ruled=ruled,
        measured=tuple(dict.fromkeys(_trials(decision) for decision in decisions if decision.choice is not None)),
        choosing=stats.choosing,
        unplaced=unplaced,
        timeline=timeline,
        coverage=coverage_of(stats),
        missing=stats.notes[0] if stats.notes and not stats.decisions else "",
        told=Counter(notes),
        **_answering(stats),
    )


def _answering(stats: RunStats) -> dict:
    """Find what the first lines say: how much faster, what each rule did, how much was forecast."""
    rules, gains = coverage_of_rules(stats), gains_of(stats)
    more = {
        "hints": hints_of(stats),
        "untimed": untimed_of(stats),
        "made": stats.rules,
        "forecast": stats.forecast.settings,
        "forecasts": stats.forecast.forecast,
        "chunked": _chunked(stats),
        "memory": None if stats.memory is None else stats.memory.found,
    }
    return {"rules": rules, "gains": gains, **more}


def _chunked(stats: RunStats) -> Counter:
    """Count the calls in chunks, by role, what ran and how."""
    found = Counter()
    for _, decision in stats.counted():
        if decision.chunked:
            how = f"{decision.chunks.text}: {decision.cut}"
            found[decision.site.role, decision.used, how] += decision.chunked
    return found


def _trials(decision: Decision) -> str:
    """Write `self 512x512: sdpa 8.1 ms error 3e-07, host 9.0 ms -> sdpa`, fastest first, those that are out last."""
    ordered = sorted(decision.choice.trials, key=lambda t: (t.reason is not None, t.seconds))
    parts = [
        f"{t.name} {t.reason}"
        if t.reason
        else f"{t.name} {t.seconds * 1e3:.2f} ms" + (f" error {t.error:.1g}" if t.error else "")
        for t in ordered
    ]
    lengths = f"{decision.geometry.q_len}x{decision.geometry.kv_len}"
    return f"{decision.site.role} {lengths}: {', '.join(parts)} -> {decision.choice.winner}"


def _add(row: ReportRow, decision: Decision) -> None:
    seconds = decision.seconds()
    row.calls += decision.answered
    row.seconds += seconds
    row.add_peak(decision.history.peaks.get((decision.used, decision.geometry)))
    if decision.site.block is not None:
        row.blocks.add(decision.site.block)
        calls, before = row.by_block.get(decision.site.block, (0, 0.0))
        row.by_block[decision.site.block] = (calls + decision.answered, before + seconds)
    if decision.geometry is not None:
        row.tokens.add((decision.geometry.q_len, decision.geometry.kv_len))


def notes_of(report: Report) -> tuple[str, ...]:
    """Complete the notes: one that counts something alike in several runs says in how many of them."""

    def told(note: str) -> str:
        runs = report.told[note]
        if runs < 2 or note == report.missing or not any(letter.isdigit() for letter in note):
            return note
        return f"{note} In {'each' if runs == report.runs else runs} of {report.runs} runs."

    return tuple(map(told, report.notes))
