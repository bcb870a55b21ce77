"""What is measured, in which order, and how long each part may take: data and arithmetic, no torch.

A phase has a share of the time. What one leaves over the next ones have; a task that would not end within its phase is
late and skipped, and taken up again at the end where time is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

# Grids (T, Y, X) by their tokens: LTX 768x512x121, 1216x704x121, 1920x1088x121, Wan 1280x720x81, and MiniMax-H3's 768p
# of 5 seconds, rounded to a grid.
GRIDS = {6144: (16, 16, 24), 13376: (16, 22, 38), 32640: (16, 34, 60), 75600: (21, 45, 80), 38016: (33, 24, 48)}
# What stands for each of them in a dry run: more than one block of queries, a ragged end.
DRY_GRID = (2, 7, 10)
HEADS = 24
# Guesses for the plan alone: 10^12 operations a second of a kernel that is no better than others, seconds to compile
# one kernel, and seconds that a process takes until its first call.
RATE, COMPILE, START = 250.0, 6.0, 12.0


@dataclass(frozen=True)
class Task:
    """One thing to measure, in one piece.

    name: unlike any other's.
    module: of benchmarks/gpu, whose `run(context, **arguments)` does it.
    arguments: of `run`, plain data.
    seconds: how long it should take, guessed.
    """

    name: str
    module: str
    arguments: dict = field(default_factory=dict)
    seconds: float = 10.0


@dataclass(frozen=True)
class Phase:
    """Some tasks and their share of the time.

    letter: as the page names it.
    title: of its table.
    share: of all the time.
    tasks: the most valuable first.
    """

    letter: str
    title: str
    share: float
    tasks: tuple[Task, ...]


def work(tokens: int, head_dim: int, calls: float, compiled: int, heads: int = HEADS) -> float:
    """Guess the seconds of so many dense calls, and of so many kernels that are compiled before."""
    return 2.0 + compiled * COMPILE + calls * 4 * tokens**2 * heads * head_dim / RATE / 1e12


def dense_task(tokens: int, dim: int, compiled: int) -> Task:
    # About ten kernels, each once for its error, once for its memory and in five rounds.
    return Task(
        f"dense {tokens} x {dim}", "dense", {"tokens": tokens, "head_dim": dim}, work(tokens, dim, 70, compiled)
    )


# Patterns by the names of benchmarks/patterns.py, those that people use most first.
FIXED = (
    "neighbourhood, 9 frames, 50 %",
    "radial, keep 40 %",
    "sliding tile, 12 frames, 50 %",
    "temporal window, 5 frames",
    "spatial and temporal, averaged",
    "spatial",
    "temporal",
    "spatial or temporal",
    "radial and neighbourhood",
)


def sparse_tasks() -> tuple[Task, ...]:
    chosen = [
        Task(f"chosen blocks {n} x {d}", "sparse_chosen", {"tokens": n, "head_dim": d}, work(n, d, 45, compiled))
        for n, d, compiled in ((75600, 128, 3), (32640, 128, 0), (32640, 64, 3))
    ]
    fixed = [
        Task(f"{name}, {n}", "sparse_fixed", {"pattern": name, "tokens": n}, work(n, 128, 12, 2 * (not (i or late))))
        for late, n in enumerate((32640, 75600))
        for i, name in enumerate(FIXED)
    ]
    return (*chosen, *fixed)


def phases() -> tuple[Phase, ...]:
    """List the phases, the most valuable first. Shares sum to one."""
    dense = [dense_task(32640, 128, 3), dense_task(32640, 64, 2)]
    dense += [
        dense_task(n, d, 0) for n, d in ((75600, 128), (75600, 64), (13376, 128), (6144, 128), (13376, 64), (6144, 64))
    ]
    route = [
        Task("cost of a call", "route_cost", {}, 8),
        Task("auto 32640", "route_auto", {"tokens": 32640}, 10),
        Task("auto 6144", "route_auto", {"tokens": 6144}, 5),
        Task("around a call", "route_around", {"tokens": 13376}, 8),
        Task("torch.compile", "route_compiled", {"tokens": 6144}, 15),
    ]
    step = [Task(f"step {name}", "step", {"model": name}, 18) for name in ("LTX-2.3", "Wan 14B", "MiniMax-H3")]
    tuning = [
        Task("cuts, dense 128", "tuning", {"head_dim": 128, "listed": False}, 40),
        Task("cuts, dense 64", "tuning", {"head_dim": 64, "listed": False}, 40),
        Task("cuts, lists 128", "tuning", {"head_dim": 128, "listed": True}, 30),
    ]
    return (
        Phase(
            "a", "Right: every kernel and engine against float64", 0.11, (Task("cases", "right", {"seconds": 40}, 45),)
        ),
        Phase("b", "Dense kernels side by side", 0.30, tuple(dense)),
        Phase("c", "Patterns, each on its engines", 0.22, sparse_tasks()),
        Phase("a", "Right: the tests that need a GPU", 0.13, (Task("tests", "right_tests", {"seconds": 60}, 70),)),
        Phase("d", "The router", 0.08, tuple(route)),
        Phase("e", "A step of a model", 0.10, tuple(step)),
        Phase("f", "Candidate cuts", 0.05, tuple(tuning)),
        Phase("g", "The host's own compiler", 0.01, (Task("host", "host", {}, 5),)),
    )


def walk(
    parts: tuple[Phase, ...], minutes: float, now: Callable[[], float], run: Callable, skip: Callable,
    finished: frozenset[str] = frozenset(),
) -> None:  # fmt: skip
    """Go through the phases by the clock.

    now: seconds since the start.
    run: called with a task and the second by which it has to be over.
    skip: called with a task that is late, and why.
    finished: names of tasks that need not run.
    """
    end, until, late = minutes * 60, 0.0, []
    for phase in parts:
        until += phase.share * end
        for task in (task for task in phase.tasks if task.name not in finished):
            begun = now()
            if begun + task.seconds > until:
                skip(task, late_text(phase, task, begun, until))
                late.append(task)
            else:
                run(task, end)
    for task in late:
        if now() + task.seconds <= end:
            run(task, end)


def late_text(phase: Phase, task: Task, begun: float, until: float) -> str:
    """Say why a task is late."""
    return (
        f"late: at {begun:.0f} s, {task.seconds:.0f} s are guessed for it and phase {phase.letter} ends at "
        f"{until:.0f} s; run again with the same --out"
    )


@dataclass
class FakeClock:
    """A clock that goes on when it is told to."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def simulate(minutes: float, factor: float, parts: tuple[Phase, ...] | None = None) -> list[tuple[float, str, str]]:
    """Play the plan with tasks that take `factor` times what is guessed: (second, task, "run" or "skipped")."""
    clock, said = FakeClock(START), []

    def run(task: Task, end: float) -> None:
        said.append((clock.seconds, task.name, "run"))
        clock.seconds = min(clock.seconds + task.seconds * factor, end)

    walk(parts or phases(), minutes, clock, run, lambda task, why: said.append((clock.seconds, task.name, "skipped")))
    return said


def timetable(minutes: float, factors=(0.5, 1.0, 2.0, 4.0)) -> str:
    """Write what would run when, were everything faster or slower than guessed. Markdown."""
    seen = {factor: simulate(minutes, factor) for factor in factors}
    lines = [
        f"The plan for {minutes:g} minutes, by a clock that was played: the second at which each task begins, were "
        "everything so many times what is guessed; `-`: late.", "",
        f"| phase | task | guessed, s | {' | '.join(f'x {factor:g}' for factor in factors)} |",
        "|" + " --- |" * (3 + len(factors)),
    ]  # fmt: skip
    for phase in phases():
        for task in phase.tasks:
            begun = [{name: at for at, name, how in said if how == "run"}.get(task.name) for said in seen.values()]
            cells = " | ".join("-" if at is None else f"{at:.0f}" for at in begun)
            lines.append(f"| {phase.letter} | {task.name} | {task.seconds:.0f} | {cells} |")
    return "\n".join(lines)
