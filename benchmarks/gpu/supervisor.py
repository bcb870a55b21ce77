"""Runs tasks in a process of their own, so that a kernel that hangs or ends its process costs one row.

The worker reads tasks as JSON from its stdin and writes events to a pipe: what it is about to do and how long that may
take (`at`), rows, and the end of a task. What takes longer is ended with its process; the next one does the task again
without it. This process has no torch and touches no GPU.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from .ledger import BROKEN, DONE, LATE, Ledger
from .plan import Task

ROOT = Path(__file__).resolve().parents[2]
# Seconds for a process to come up, and until its first word within a task; tries of one task.
COMING_UP, FIRST_WORD, TRIES = 300.0, 60.0, 4
FIRST, MOST_FAILURES = "before its first call", 3
# A task may go over what it was told by so much before it is stopped: the plan's end is kept.
GRACE = 5.0


class WorkerLost(Exception):
    """The worker ended or was ended. The message says how."""


class NotUp(Exception):
    """No worker comes up: there is nothing to go on with. The message says why."""


class Worker:
    """One process that does tasks.

    dry: whether it runs on the CPU.
    log: file that its output goes to.
    """

    def __init__(self, dry: bool, log: Path):
        read, write = os.pipe()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if dry:
            # Triton asks when it is imported.
            environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks.gpu.worker", "--events", str(write), *(["--dry"] if dry else [])]
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output,
                pass_fds=(write,), start_new_session=True,
            )  # fmt: skip
        os.close(write)
        self.events: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, args=(os.fdopen(read, encoding="utf-8"),), daemon=True).start()

    def _read(self, pipe) -> None:
        with pipe:
            for line in pipe:
                self.events.put(json.loads(line))
        self.events.put(None)

    def ask(self, task: dict) -> None:
        """Send a task. WorkerLost where the process is gone."""
        try:
            self.process.stdin.write((json.dumps(task) + "\n").encode())
            self.process.stdin.flush()
        except OSError as gone:
            raise WorkerLost(self.last_words()) from gone

    def event(self, until: float) -> dict:
        """Wait for the next event until `until`, of time.monotonic; TimeoutError, or WorkerLost where it ended."""
        try:
            found = self.events.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        if found is None:
            raise WorkerLost(self.last_words())
        return found

    def last_words(self) -> str:
        """Say how the process ended."""
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "the process closed its pipe"
        return f"the process ended with {signal.Signals(-code).name if code < 0 else code}"

    def stop(self) -> None:
        """End the process and what it started, a kernel that hangs too."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:  # the driver is still taking it down
            return


class Supervisor:
    """Runs tasks by workers and keeps the ledger.

    ledger: of the folder.
    dry: as of Worker.
    now: seconds since the start.
    """

    def __init__(self, ledger: Ledger, dry: bool, now):
        self.ledger, self.dry, self.now = ledger, dry, now
        self.worker: Worker | None = None
        # Of workers that did not come up: since the last that did, and whether any has.
        self.failures, self.was_up = 0, False
        self.log = ledger.folder / "log.txt"

    def run(self, task: Task, phase: str, end: float) -> None:
        """Do one task, again without what hangs or ends the process; it is over by `end`, in seconds of `now`."""
        self.ledger.begin(phase, task.name)
        begun = self.now()
        for _ in range(TRIES):
            # What there are rows of already: those that stay, and what it hung or died at.
            without = [row.get("kernel") or row.get("call") for row in self.ledger.rows_of(task.name)]
            lost = self._try(task, phase, without, end)
            if lost is None:
                return self.ledger.end(phase, task.name, DONE, seconds=round(self.now() - begun, 1))
            at, why, so_far = lost
            row = {"kernel": at or FIRST, "failed": why, **so_far, "kept": True}
            self.ledger.add(phase, task.name, row)
            if self.now() >= end:
                return self.ledger.end(phase, task.name, LATE, "the time was up; run again with the same --out")
            if at is None or at in without:  # it would come to the same end
                break
        self.ledger.end(phase, task.name, BROKEN, "given up: it came to the same end, or to too many")

    def _try(self, task: Task, phase: str, without: list[str], end: float) -> tuple | None:
        """Do a task once: None, or what it was at when it was lost, why, and what it had counted."""
        at, so_far = None, {}
        try:
            worker = self._ready()
            left = end - self.now()
            worker.ask({"task": task.name, "module": task.module, "arguments": task.arguments, "without": without,
                        "seconds": min(left, 2 * task.seconds)})  # fmt: skip
            bound = FIRST_WORD * (10 if self.dry else 1)
            while True:
                left = end + GRACE - self.now()
                try:
                    event = worker.event(time.monotonic() + min(bound, left))
                except TimeoutError:
                    hung = f"it took longer than {bound:.0f} s and was ended" if bound < left else "the time was up"
                    raise WorkerLost(hung) from None
                if event["event"] == "at":
                    at, bound, so_far = event["what"], event["bound"], event.get("so_far", {})
                elif event["event"] == "row":
                    self.ledger.add(phase, task.name, event["row"])
                elif event["event"] == "sick":
                    raise WorkerLost(event["why"])
                elif event["event"] == "done":
                    return None
        except WorkerLost as lost:
            self.stop()
            return at, str(lost), so_far

    def _ready(self) -> Worker:
        """Give a worker that is up; the facts it tells go to the ledger."""
        if self.worker is None:
            self.worker = Worker(self.dry, self.log)
            try:
                told = self.worker.event(time.monotonic() + COMING_UP)
            except (TimeoutError, WorkerLost) as lost:
                self.failures += 1
                why = str(lost) or f"it was not up after {COMING_UP:.0f} s"
                if not self.was_up or self.failures >= MOST_FAILURES:
                    last = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                    raise NotUp(f"the process that measures does not come up: {why}. {' '.join(last)}") from lost
                raise WorkerLost(why) from lost
            self.failures, self.was_up = 0, True
            self.ledger.know(told["facts"])
        return self.worker

    def stop(self) -> None:
        """End the worker, if there is one."""
        if self.worker is not None:
            self.worker.stop()
            self.worker = None
