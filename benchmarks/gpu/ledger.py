"""What was measured so far: rows, written as JSON and Markdown after each of them, and read again by a second run."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path

from . import page

FORMAT = 1
DONE, LATE, BROKEN = "done", "late", "failed"
# What has to be the same for rows to stand in one table.
SAME = ("dry", "gpu", "torch", "triton")


class OtherMachine(Exception):
    """The folder has rows of another machine or mode. The message says which."""


class Ledger:
    """Holds all rows of a folder.

    folder: where `gpu.json` and `gpu.md` are.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / "gpu.json"
        folder.mkdir(parents=True, exist_ok=True)
        self.data = {"format": FORMAT, "facts": {}, "tasks": {}, "rows": []}
        if self.path.exists():
            self.data = json.loads(self.path.read_text(encoding="utf-8"))
            if self.data.get("format") != FORMAT:
                raise OtherMachine(f"{self.path} is of format {self.data.get('format')}, this is {FORMAT}")

    @property
    def finished(self) -> frozenset[str]:
        """Names of the tasks that are not to run again: all but those that were late or cut off."""
        return frozenset(name for name, task in self.data["tasks"].items() if task["state"] in (DONE, BROKEN))

    def rows_of(self, task: str) -> list[dict]:
        """List the rows of one task."""
        return [row for row in self.data["rows"] if row["task"] == task]

    def know(self, facts: dict) -> None:
        """Keep what is known of the machine; OtherMachine where earlier rows are of another."""
        before = self.data["facts"]
        other = [name for name in SAME if before and before.get(name) != facts.get(name)]
        if other:
            told = ", ".join(f"{name} {before.get(name)}, here {facts.get(name)}" for name in other)
            raise OtherMachine(f"{self.path} has rows of another machine ({told}); give another --out")
        runs = [*before.get("runs", ()), datetime.now(timezone.utc).isoformat(timespec="seconds")]
        self.data["facts"] = {**facts, "runs": runs}
        self.write()

    def begin(self, phase: str, task: str) -> None:
        """Note that a task begins: rows of an earlier, unfinished try are gone, but those that say `kept`."""
        self.data["rows"] = [row for row in self.data["rows"] if row["task"] != task or row.get("kept")]
        self.data["tasks"][task] = {"phase": phase, "state": "begun"}
        self.write()

    def add(self, phase: str, task: str, row: dict) -> None:
        """Add a row and write everything."""
        self.data["rows"].append({"phase": phase, "task": task, **row})
        self.write()

    def end(self, phase: str, task: str, state: str, why: str = "", seconds: float | None = None) -> None:
        """Note how a task ended. A late one has a row of its own in the page."""
        self.data["tasks"][task] = {"phase": phase, "state": state, "why": why, "seconds": seconds}
        self.write()

    def write(self) -> None:
        """Write both files, whole or not at all."""
        for path, text in (
            (self.path, json.dumps(self.data, indent=1)),
            (self.folder / "gpu.md", page.page(self.data)),
        ):
            new = path.with_suffix(".new")
            new.write_text(text + "\n", encoding="utf-8")
            os.replace(new, path)
