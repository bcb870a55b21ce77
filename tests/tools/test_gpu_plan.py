"""The plan of the benchmark on a GPU, by a clock that is played; its rows and pages; what is counted as finished."""

from __future__ import annotations

import importlib
import inspect
import json

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import host, page, plan
from benchmarks.gpu.ledger import BROKEN, DONE, LATE, Ledger, OtherMachine
from benchmarks.patterns import PATTERNS

TASKS = [task for phase in plan.phases() for task in phase.tasks]
FACTS = {"dry": False, "gpu": "A", "torch": "2", "triton": "3", "machine": "a made-up GPU", "python": "3.12",
         "dtype": "bfloat16", "driver": "1"}  # fmt: skip


def test_shares_are_all_of_the_time_and_names_tell_tasks_apart():
    assert sum(phase.share for phase in plan.phases()) == pytest.approx(1)
    assert len({task.name for task in TASKS}) == len(TASKS) > 30
    assert {phase.letter for phase in plan.phases()} == set("abcdefg")
    assert set(plan.FIXED) <= set(PATTERNS)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_fits_its_function(task):
    """A wrong name here would cost a minute with a GPU."""
    run = importlib.import_module(f"benchmarks.gpu.{task.module}").run
    inspect.signature(run).bind(None, **task.arguments)
    assert json.loads(json.dumps(task.arguments)) == task.arguments
    assert task.arguments.get("tokens", 6144) in plan.GRIDS
    assert task.arguments.get("model", "LTX-2.3") in importlib.import_module("benchmarks.gpu.step").MODELS


@pytest.mark.parametrize("minutes", [1, 4, 9, 15])
@pytest.mark.parametrize("factor", [0.2, 1, 3, 20])
def test_nothing_begins_after_the_end(minutes, factor):
    said = plan.simulate(minutes, factor)
    ran = [name for _, name, how in said if how == "run"]
    assert all(at < minutes * 60 for at, _, how in said if how == "run") and len(set(ran)) == len(ran)
    told = {name for _, name, _ in said}
    assert told == {task.name for task in TASKS}, "each runs or is said to be late"


def test_nine_minutes_hold_what_matters_most():
    """As guessed, and were everything twice as slow: kernels side by side, chosen blocks, a step."""
    for factor in (1, 2):
        ran = {name for _, name, how in plan.simulate(9, factor) if how == "run"}
        assert {"cases", "dense 75600 x 128", "dense 32640 x 64", "chosen blocks 75600 x 128", "step LTX-2.3"} <= ran


def small(*seconds: float) -> tuple[plan.Phase, ...]:
    tasks = tuple(plan.Task(f"t{n}", "m", {}, s) for n, s in enumerate(seconds))
    return plan.Phase("a", "one", 0.5, tasks[:2]), plan.Phase("b", "two", 0.5, tasks[2:])


def walked(parts, minutes, took=lambda task: task.seconds, finished=frozenset()):
    clock, ran, late = plan.FakeClock(), [], []

    def run(task, end):
        ran.append(task.name)
        clock.seconds += took(task)

    plan.walk(parts, minutes, clock, run, lambda task, why: late.append((task.name, why)), finished)
    return ran, late


def test_what_is_late_is_skipped_with_a_reason_and_taken_up_where_time_is_left():
    ran, late = walked(small(20, 20, 10), 1)
    assert ran == ["t0", "t2", "t1"] and [name for name, _ in late] == ["t1"] and "phase a ends at 30 s" in late[0][1]
    ran, late = walked(small(20, 20, 10), 1, took=lambda task: 3 * task.seconds)
    assert ran == ["t0"] and len(late) == 2, "a slow one costs the others, not more than the time"
    assert walked(small(20, 5, 10), 1, finished=frozenset({"t0"}))[0] == ["t1", "t2"]


def test_a_second_run_goes_on_after_finished_rows(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.know(FACTS)
    for name, state in (("one", DONE), ("two", LATE), ("three", BROKEN)):
        ledger.begin("b", name)
        ledger.add("b", name, {"kernel": "k", "ms": 1.0})
        ledger.end("b", name, state, "why")
    ledger.begin("b", "four")
    ledger.add("b", "four", {"kernel": "k", "ms": 1.0})
    ledger.add("b", "four", {"kernel": "hung", "failed": "it hung", "kept": True})
    again = Ledger(tmp_path)
    assert again.finished == {"one", "three"}, "what was late or cut off is done anew"
    again.begin("b", "four")
    assert [row["kernel"] for row in again.rows_of("four")] == ["hung"] and len(again.rows_of("one")) == 1
    again.know(FACTS)
    assert len(again.data["facts"]["runs"]) == 2
    with pytest.raises(OtherMachine, match="gpu A, here B.*another --out"):
        again.know({**FACTS, "gpu": "B"})


def test_another_format_is_refused(tmp_path, capsys):
    (tmp_path / "gpu.json").write_text('{"format": 99}')
    assert command.main(["--out", str(tmp_path)]) == 2 and "format 99" in capsys.readouterr().err


def test_the_page_reads_well():
    rows = [
        {"phase": "b", "task": "dense 75600 x 128", "kernel": "one", "ms": 1.23456, "error": 0.0123, "mib": None},
        {"phase": "b", "task": "dense 75600 x 128", "kernel": "two", "failed": "RuntimeError: no"},
        {"phase": "b", "task": "dense 75600 x 128", "note": "a sentence"},
    ]
    tasks = {"cases": {"state": LATE, "why": "late: at 9 s"}, "dense 75600 x 128": {"state": DONE, "why": ""}}
    text = page.page({"facts": {**FACTS, "runs": ["now"]}, "rows": rows, "tasks": tasks})
    assert "| kernel | ms | error | mib |\n| --- | --- | --- | --- |\n| one | 1.235 | 1.2e-02 | - |" in text
    assert "two: **failed**: RuntimeError: no" in text and "- dense 75600 x 128: a sentence" in text
    assert "- cases: late. late: at 9 s" in text and "a made-up GPU" in text and "dry run" not in text
    assert "Not measured on a GPU" in page.page({"facts": {**FACTS, "dry": True, "runs": []}, "rows": [], "tasks": {}})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--out"),
        (["--out", "x", "--minutes", "0"], "more than 0"),
        (["--out", "x", "--phases", "az"], "z not known"),
    ],
)
def test_wrong_arguments_are_told(arguments, said, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert said in capsys.readouterr().err


def test_the_timetable_is_printed(capsys):
    assert command.main(["--timetable", "--minutes", "9"]) == 0
    assert "| b | dense 75600 x 128 |" in capsys.readouterr().out


def test_which_host_can_be_measured(tmp_path):
    assert "COMFYUI_PATH" in host.why_not(None) and "is no ComfyUI" in host.why_not(str(tmp_path))
    for version, said in (("0.33.0", "0.33 has no compiler"), ("0.34.1", None)):
        (tmp_path / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
        found = host.why_not(str(tmp_path))
        assert said in found if said else found is None
