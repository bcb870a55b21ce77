"""Measures everything on a GPU in the minutes that are given, the most valuable first; needs no ComfyUI.

    python -m benchmarks.gpu --minutes 9 --out DIR      (again with the same DIR: goes on with what is not finished)
    python -m benchmarks.gpu --dry --out DIR            (a CPU, tiny calls, Triton's interpreter: no figure is a speed)
    python -m benchmarks.gpu --timetable --minutes 9    (what would run when, by a clock that is played)

Writes DIR/gpu.json and DIR/gpu.md after each row, DIR/log.txt beside them. Sets nothing on the device. A kernel that
raises, hangs or ends its process is a row that says so.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from . import plan
from .ledger import LATE, Ledger, OtherMachine
from .supervisor import NotUp, Supervisor

DRY_MINUTES = 120.0


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0, help="of the wall clock, starting the process included")
    parser.add_argument("--out", type=Path, metavar="DIR")
    parser.add_argument("--dry", action="store_true", help="go through everything on the CPU; every task has time")
    parser.add_argument("--phases", default="abcdefg", help="letters of those that run")
    parser.add_argument("--only", default="", help="tasks whose name contains this")
    parser.add_argument("--timetable", action="store_true", help="print the plan by a clock that is played, and end")
    options = parser.parse_args(given)
    if options.out is None and not options.timetable:
        parser.error("--out: a folder for the rows")
    if not options.minutes > 0:
        parser.error(f"--minutes: {options.minutes:g}, takes more than 0")
    unknown = set(options.phases) - {phase.letter for phase in plan.phases()}
    if unknown:
        parser.error(f"--phases: {', '.join(sorted(unknown))} not known; known are a to g")
    return options


def main(given: list[str] | None = None) -> int:
    begun, options = time.monotonic(), arguments(given)
    if options.timetable:
        print(plan.timetable(options.minutes))
        return 0

    def now() -> float:
        return time.monotonic() - begun

    try:
        ledger = Ledger(options.out)
    except OtherMachine as other:
        print(other, file=sys.stderr)
        return 2
    supervisor = Supervisor(ledger, options.dry, now)
    try:
        go(options, ledger, supervisor, now)
    except OtherMachine as other:
        print(other, file=sys.stderr)
        return 2
    except NotUp as why:
        print(f"{why}\nWhat was measured is kept; run again with the same --out.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was measured is kept; run again with the same --out.", file=sys.stderr)
        return 130
    finally:
        supervisor.stop()
    states = [task["state"] for task in ledger.data["tasks"].values()]
    told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    print(f"{now():.0f} s: {len(ledger.data['rows'])} rows; tasks: {told}. {options.out / 'gpu.md'}")
    return 0 if ledger.data["rows"] else 1


def go(options: argparse.Namespace, ledger: Ledger, supervisor: Supervisor, now) -> None:
    """Walk through the plan."""
    parts, letters = chosen(options), {}
    for phase in parts:
        letters |= {task.name: phase.letter for task in phase.tasks}

    def run(task: plan.Task, end: float) -> None:
        print(f"{now():6.0f} s  {letters[task.name]}  {task.name}", flush=True)
        supervisor.run(task, letters[task.name], end)

    def skip(task: plan.Task, why: str) -> None:
        print(f"{now():6.0f} s  {letters[task.name]}  {task.name}: {why}", flush=True)
        ledger.end(letters[task.name], task.name, LATE, why)

    minutes = max(options.minutes, DRY_MINUTES) if options.dry else options.minutes
    plan.walk(parts, minutes, now, run, skip, ledger.finished)


def chosen(options: argparse.Namespace) -> tuple[plan.Phase, ...]:
    """Give the phases that were asked for, their shares filled up to all of the time."""
    parts, seen = [], set()
    for phase in plan.phases():
        tasks = tuple(task for task in phase.tasks if options.only in task.name)
        if options.dry:  # all sizes are one there
            tasks = tuple(task for task in tasks if not (alike(task) in seen or seen.add(alike(task))))
        if phase.letter in options.phases and tasks:
            parts.append(replace(phase, tasks=tasks))
    total = sum(phase.share for phase in parts)
    return tuple(replace(phase, share=phase.share / total) for phase in parts)


def alike(task: plan.Task) -> tuple:
    """Give what tells a task from others in a dry run."""
    return task.module, *sorted((name, str(value)) for name, value in task.arguments.items() if name != "tokens")


if __name__ == "__main__":
    # A plain kill must end the worker too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
