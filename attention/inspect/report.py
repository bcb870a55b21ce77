"""What ran, where, how often, how long, and the reason for every fallback."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..backends.registry import HOST
from ..core.reason import Reason
from ..core.tokens import SIDES, Grid
from ..routing.rules import format_blocks
from ..routing.run_stats import Decision, RunStats
from .pattern_coverage import PatternCoverage, coverage_of
from .timeline import StepStats, pace, step_stats_of

# How many grids the first line names, and how many backends the line of those that `auto` passed over.
GRIDS, PASSED_OVER = 3, 3


@dataclass
class ReportRow:
    """All calls of one role that ran on one kernel.

    seconds: 0 unless timing was on.
    blocks: that had such calls.
    tokens: their (queries, keys).
    by_block: block -> (calls, seconds).
    """

    role: str
    used: str
    calls: int = 0
    seconds: float = 0.0
    blocks: set[int] = field(default_factory=set)
    tokens: set[tuple[int, int]] = field(default_factory=set)
    by_block: dict[int, tuple[int, float]] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """Plain data, for JSON."""
        head, seconds = {"role": self.role, "used": self.used, "calls": self.calls}, round(self.seconds, 6)
        return {**head, "seconds": seconds, "blocks": format_blocks(self.blocks)}


@dataclass(frozen=True)
class Report:
    """A finished or running RunStats, summed up; combined_report.py sums several of these up again.

    grids: of the video's tokens, as met.
    steps: as the sampler told them, or as asked for where it told none.
    rows: most calls first.
    fallbacks: (role, wanted, reason) -> calls.
    passed_over: (backend, reason) -> calls that `auto` would have given to that backend.
    notes: sentences.
    told: note -> in how many of the runs it holds.
    ruled: calls that ran on the backend that was chosen for them.
    measured: what `auto` timed, a line for each geometry.
    choosing: the seconds that took.
    unplaced: (role, reason) -> calls whose video tokens could not be placed on the grid.
    timeline: the steps one by one.
    windows: context windows, 0 without any.
    evaluations: of the model, two for a step of some samplers.
    coverage: what patterns did, None without one.
    missing: why no call was seen.
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
    coverage: PatternCoverage | None = None
    missing: str = ""
    told: Counter = field(default_factory=Counter)

    @property
    def grid(self) -> Grid | None:
        """Return the first of the grids."""
        return self.grids[0] if self.grids else None

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
            "model": self.model,
            "grid": list(self.grid) if self.grid else None,
            "grids": [list(grid) for grid in self.grids],
            "windows": self.windows,
            "runs": self.runs,
            "steps": self.steps,
            "evaluations": self.evaluations,
            "calls": self.calls,
            "calls_on_chosen_backend": self.ruled,
            "seconds": round(self.seconds, 6),
            "rows": [row.as_dict() for row in self.rows],
            "fallbacks": [
                {"role": role, "wanted": wanted, "reason": reason, "calls": calls}
                for (role, wanted, reason), calls in self.fallbacks.most_common()
            ],
            "passed_over": [
                {"backend": name, "reason": reason, "calls": calls}
                for (name, reason), calls in self.passed_over.most_common()
            ],
            "unplaced": [
                {"role": role, "reason": reason, "calls": calls}
                for (role, reason), calls in self.unplaced.most_common()
            ],
            "shaping": self.coverage.as_dict() if self.coverage else None,
            "measured": list(self.measured),
            "choosing_seconds": round(self.choosing, 6),
            "timeline": [one.as_dict() for one in self.timeline],
            "notes": list(notes_of(self)),
        }


def summarise(stats: RunStats) -> Report:
    """Sum up a RunStats. Waits for the GPU when calls were timed."""
    rows: dict[tuple[str, str], ReportRow] = {}
    fallbacks, passed_over, unplaced = Counter(), Counter(), Counter()
    ruled, decisions = 0, [decision for _, decision in stats.counted()]
    for decision in decisions:
        if decision.answered:
            key = decision.site.role, decision.used
            _add(rows.setdefault(key, ReportRow(*key)), decision)
        for why, calls in _reasons(decision):
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
    )


def _reasons(decision: Decision):
    """Return ((what was wanted, why it did not run), calls) of one decision."""
    if decision.fell_back:
        yield (decision.wanted, decision.reason), decision.fell_back
    if decision.unshaped:
        yield decision.unshaped, decision.calls
    if decision.lost:
        yield decision.lost, decision.without


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
    if decision.site.block is not None:
        row.blocks.add(decision.site.block)
        calls, before = row.by_block.get(decision.site.block, (0, 0.0))
        row.by_block[decision.site.block] = (calls + decision.answered, before + seconds)
    if decision.geometry is not None:
        row.tokens.add((decision.geometry.q_len, decision.geometry.kv_len))


def to_text(report: Report) -> str:
    """Write a report down so that it fits a node."""
    lines = [headline(report)]
    if report.rows:
        lines += ["", *_table(report)]
    if report.timeline:
        lines += ["", pace(report.timeline)]
    if report.fallbacks:
        lines += ["", "Fell back:", *fallback_lines(report)]
    if report.measured:
        lines += [
            "",
            f"Measured by auto ({report.choosing:.2f} s in this run):",
            *(f"  {line}" for line in report.measured),
        ]
    if report.passed_over:
        lines += ["", passed_over_line(report)]
    if report.unplaced:
        lines += ["", "Not on the video's grid:"]
        lines += [f"  {calls} calls, {role}: {why}" for (role, why), calls in report.unplaced.most_common()]
    notes = [note for note in notes_of(report) if report.calls or note != report.missing]
    if notes:
        lines += ["", *notes]
    return "\n".join(lines)


def notes_of(report: Report) -> tuple[str, ...]:
    """Complete the notes: one that counts something alike in several runs says in how many of them."""

    def told(note: str) -> str:
        runs = report.told[note]
        if runs < 2 or note == report.missing or not any(letter.isdigit() for letter in note):
            return note
        return f"{note} In {'each' if runs == report.runs else runs} of {report.runs} runs."

    return tuple(map(told, report.notes))


def headline(report: Report) -> str:
    """Say whether it is active, and how much of the run went through it; then whether a pattern left calls."""
    where = report.model or "model"
    if not report.calls:
        return " ".join(filter(None, (f"{where}: no attention call was seen.", report.missing)))
    ran = f"{report.ruled} of {report.calls} attention calls ran on the chosen backend"
    runs = f", {report.runs} runs" if report.runs > 1 else ""
    first = f"{where}{_grids(report)}{runs}, {_steps(report)}: {ran}."
    return " ".join(filter(None, (first, report.coverage.sentence() if report.coverage else "")))


def _grids(report: Report) -> str:
    """Write `, 2 windows of 4 x 8 x 16 tokens (time x height x width)`; empty where no grid is known."""
    if not report.grids:
        return ""
    sizes = [" x ".join(map(str, grid)) for grid in report.grids]
    shown = [*sizes[:GRIDS], *([f"{len(sizes) - GRIDS} more"] if len(sizes) > GRIDS else [])]
    windows = f"{report.windows} windows of " if report.windows > 1 else ""
    return f", {windows}{' and '.join(shown)} tokens (time x height x width)"


def _steps(report: Report) -> str:
    """Write `20 steps`, and how often the model was evaluated where a step takes more than one evaluation, or less."""
    more = f" ({report.evaluations} model evaluations)" if report.evaluations not in (0, report.steps) else ""
    return f"{report.steps} steps{more}"


def _table(report: Report) -> list[str]:
    timed = report.seconds > 0
    cells = [["role", "ran on", "calls", "blocks", "tokens", *(["time"] if timed else [])]]
    for row in report.rows:
        tokens = ", ".join(f"{q}x{k}" for q, k in sorted(row.tokens)[:3]) + (", ..." if len(row.tokens) > 3 else "")
        share = [f"{row.seconds:.2f} s, {row.seconds / report.seconds:.0%}"] if timed else []
        cells.append([row.role, row.used, str(row.calls), format_blocks(row.blocks) or "unknown", tokens, *share])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells]


def fallback_lines(report: Report) -> list[str]:
    """Write one line for each role, backend and reason, most calls first."""
    return [
        f"  {calls} calls, {role}-attention, {wanted}: {reason}"
        for (role, wanted, reason), calls in report.fallbacks.most_common()
    ]


def passed_over_line(report: Report) -> str:
    """Say in one line which backends `auto` could not take; most are just not installed, JSON has the reasons."""
    names = list(dict.fromkeys(name for name, _ in report.passed_over))
    more = f" and {len(names) - PASSED_OVER} more" if len(names) > PASSED_OVER else ""
    return f"Not open to auto: {', '.join(names[:PASSED_OVER])}{more}; the JSON output says why."
