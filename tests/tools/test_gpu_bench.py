"""The benchmark on a GPU without one: its dry form whole, and tasks that raise, hang, die or lose the device."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import gpu_tasks
import pytest

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.ledger import DONE, LATE, Ledger
from benchmarks.gpu.plan import Task
from benchmarks.gpu.supervisor import ROOT, Supervisor

LIB = str(Path(gpu_tasks.__file__).parent)
if importlib.util.find_spec("triton") is None or sys.platform != "linux":
    pytest.skip("triton is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    """The dry form, as a user starts it."""
    out = tmp_path_factory.mktemp("dry")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--dry", "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + (out / "log.txt").read_text()
    return json.loads((out / "gpu.json").read_text()), (out / "gpu.md").read_text()


@pytest.mark.timeout(1600)
def test_the_dry_form_goes_every_way(dry):
    data, text = dry
    assert {task["state"] for task in data["tasks"].values()} == {DONE}
    assert [row for row in data["rows"] if "failed" in row] == []
    assert {row["phase"] for row in data["rows"]} == set("abcdefg")
    for part in ("dense", "chosen blocks", "radial", "tests", "cost of a call", "auto", "step Wan 14B", "cuts"):
        assert any(part in name for name in data["tasks"]), part
    assert "None of them is a speed. Not measured on a GPU." in text and data["facts"]["gpu"] is None


def test_what_the_dry_form_finds_is_right(dry):
    """Our kernel's numbers come from Triton's interpreter: only their speed means nothing."""
    rows = dry[0]["rows"]
    cases = [row for row in rows if row["task"] == "cases" and "right" in row]
    assert len(cases) > 8 and {row["right"] for row in cases} == {"yes"}
    ours = {row["kernel"]: row["error"] for row in rows if row["task"].startswith("dense") and "error" in row}
    assert ours["video attention int8"] < 0.02 and ours["video attention float8"] < 0.04
    steps = [row for row in rows if row["phase"] == "e" and "level" in row]
    assert {row["model"] for row in steps} == {"LTX-2.3", "Wan 14B", "MiniMax-H3"}
    assert any("top blocks" in row["ran"] and 0 < row["effect"] < 0.5 for row in steps)
    assert all(row["effect"] in (None, 0.0) for row in steps if row["level"] in ("host's own", "router, host default"))
    assert {row["graph_breaks"] for row in rows if "graph_breaks" in row} == {0}
    assert any("Tiling(" in row.get("note", "") or "the shipped cut stays" in row.get("note", "") for row in rows)


@pytest.mark.timeout(600)
def test_no_fault_costs_another_row(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", LIB)
    begun, ledger = time.monotonic(), Ledger(tmp_path)
    supervisor = Supervisor(ledger, True, lambda: time.monotonic() - begun)
    ways = ("well", "fails", "memory", "sick", "hangs", "dies")
    try:
        for how in ways:
            supervisor.run(Task(how, ".gpu_tasks", {"how": how}), "b", 500.0)
        assert Ledger(tmp_path).finished == set(ways)
        worker = supervisor.worker.process
    finally:
        supervisor.stop()
    assert worker.poll() is not None
    for how in ways:
        rows = ledger.rows_of(how)
        assert [row["kernel"] for row in rows if "ms" in row] == ["first", "last"], how
        assert [row["kernel"] for row in rows if "failed" in row] == [how] * (how != "well"), how
    told = {row["task"]: row["failed"] for row in ledger.data["rows"] if "failed" in row}
    assert told["fails"] == "RuntimeError: no such kernel" and "it took longer than 2 s and was ended" in told["hangs"]
    assert "SIGSEGV" in told["dies"] and "did not answer" in told["sick"] and "out of memory" in told["memory"]
    text = (tmp_path / "gpu.json").read_text()
    assert json.loads(text) == ledger.data and not list(tmp_path.glob("*.new"))


def test_a_task_ends_with_the_time_and_is_not_finished(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", LIB)
    ledger = Ledger(tmp_path)
    ended = iter([0.0] * 6 + [1000.0] * 99)
    supervisor = Supervisor(ledger, True, lambda: next(ended))
    try:
        supervisor.run(Task("slow", ".gpu_tasks", {"how": "hangs"}), "b", 500.0)
    finally:
        supervisor.stop()
    assert ledger.data["tasks"]["slow"]["state"] == LATE and ledger.finished == set()


def test_without_a_gpu_it_says_so_and_nothing_is_finished(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["--out", str(tmp_path), "--only", "cases"]) == 1
    assert "this needs a CUDA GPU; --dry goes through everything without one" in capsys.readouterr().err
    assert Ledger(tmp_path).finished == set()
