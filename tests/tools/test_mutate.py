"""scripts/mutate.py on a small pack with a test of each kind: what is killed, what survives, what nobody reaches."""

from __future__ import annotations

import concurrent.futures
import importlib
import json
import multiprocessing
import os
import threading

import mutate
import mutation_worker
import pytest
from mutants import mutants
from reach import Reach

SOURCE = {
    "attention/core/sizes.py": """
def larger(a, b):
    return a if a > b else b

def count(n):
    while n > 0:
        n -= 1
    return n

def unasked():
    return 7
""",
    "attention/core/table.py": "LIMIT = 5",
    "nodes/sizes.py": """
from ..attention.core.sizes import larger
from ..attention.core.table import LIMIT

def shown(a):
    return larger(a, LIMIT)
""",
}
TESTS = {
    "core/test_toy_sizes.py": """
import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("toy", Path(__file__).parents[2] / "attention/core/sizes.py")
sizes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sizes)

@pytest.fixture(scope="module")
def asked():
    return sizes.unasked()

def test_asked(asked):
    assert asked

def test_asked_again(asked):
    assert asked == 7

def test_larger():
    assert sizes.larger(2, 1) == 2 and sizes.larger(1, 2) == 2

def test_count():
    assert sizes.count(3) == 0

def test_red():
    assert sizes.larger(1, 1) == 7
""",
    "core/test_toy_server.py": """
import pytest

@pytest.fixture
def server():
    raise OSError

def test_page(server):
    pass
""",
}
FIRST = "core/test_toy_sizes.py"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")


class Here:
    """A worker in a small process of its own: a fork of this one, with all that other tests left, is slow to end."""

    def __init__(self, tree, pool):
        self.tree, self.pool = tree, pool

    def run(self, files, tests=None, edit=None, trace=False, whole=False, seconds=1.0):
        task = {"files": files, "tests": tests, "edit": edit, "trace": trace, "whole": whole, "seconds": seconds}
        return self.pool.submit(mutation_worker.run, self.tree, task).result()


def begin(tree) -> None:
    """Readies a process to be forked for each task, as mutation_worker.serve does without ComfyUI."""
    os.chdir(tree)
    importlib.import_module("pytest")
    mutation_worker.LEAST_LIMIT = 5


@pytest.fixture
def toy(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    for name, text in {**SOURCE, **{f"tests/{name}": text for name, text in TESTS.items()}}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "tests" / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tree)
    monkeypatch.setattr(mutate, "ROOT", tree)
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin, (tree,)) as pool:
        yield Here(tree, pool)


@pytest.fixture
def reach(toy):
    """What coverage finds of it, by hand: function -> tests."""
    tests = {"test_larger": [2], "test_count": [5], "test_red": [2]}
    reached = {f"{FIRST}::{test}": [f"attention/core/sizes.py:{n}" for n in at] for test, at in tests.items()}
    row = {"file": FIRST, "reached": reached, "seconds": dict.fromkeys(reached, 0.01), "red": [f"{FIRST}::test_red"]}
    return Reach(toy.tree, [row])


def judged(toy, reach, file: str) -> dict:
    found = mutants(file, SOURCE[file])
    return {(m.line, m.old, m.new): mutate.judge(toy, m, reach, 10.0) for m in found}


def test_verdicts(toy, reach):
    found = judged(toy, reach, "attention/core/sizes.py")
    verdicts = {what: result["verdict"] for what, result in found.items()}
    # Of two equal ones either is the larger, and nobody can tell.
    assert verdicts.pop((3, ">", ">=")) == "survived"
    assert verdicts.pop((11, "7", "(8)")) == verdicts.pop((11, "7", "None")) == "not reached"
    assert set(verdicts.values()) == {"killed"}
    assert {result["by"] for result in found.values()} <= {None, f"{FIRST}::test_larger", f"{FIRST}::test_count"}
    assert (toy.tree / "attention/core/sizes.py").read_text() == SOURCE["attention/core/sizes.py"]


def test_a_table_is_reached_by_who_runs_what_imports_it(toy, reach):
    (limit,) = mutants("attention/core/table.py", SOURCE["attention/core/table.py"])
    assert reach.near(limit) == set()
    reach.by_file["nodes/sizes.py"].add("nodes/test_b.py::test_shown")
    assert reach.near(limit) == {"nodes/test_b.py::test_shown"}


def test_a_red_test_kills_nothing(toy, reach):
    results = [{"by": f"{FIRST}::test_red", "verdict": "killed"}, {"by": f"{FIRST}::test_larger", "verdict": "killed"}]
    mutate.confirm([toy], results)
    assert [result["verdict"] for result in results] == ["killed by a red test", "killed"]


def test_what_was_sampled_is_not_sampled_again(toy):
    first = mutate.sample(6, 1, set())
    again = mutate.sample(100, 1, {mutate.identity(mutant) for mutant in first})
    every = sum(len(mutants(file, text)) for file, text in SOURCE.items())
    assert len(set(first) | set(again)) == len(first) + len(again) == every
    assert mutate.sample(6, 1, set()) == first != mutate.sample(6, 2, set())


def test_the_map(toy, tmp_path):
    pytest.importorskip("coverage")
    rows = mutate.make_map([toy], tmp_path / "map.jsonl")
    row = next(row for row in rows if row["file"] == FIRST)
    assert row["red"] == [f"{FIRST}::test_red"] and all(seconds >= 0 for seconds in row["seconds"].values())
    assert "attention/core/sizes.py:5" in row["reached"][f"{FIRST}::test_count"]
    assert "attention/core/sizes.py:2" in row["reached"][f"{FIRST}::test_larger"]
    # What a fixture of the module reaches, every test of it may notice.
    assert "attention/core/sizes.py:10" in row["reached"][f"{FIRST}::test_asked_again"]
    assert next(row for row in rows if "server" in row["file"])["reached"] == {}
    assert len((tmp_path / "map.jsonl").read_text().splitlines()) == len(rows) == 2
    assert mutate.make_map([None], tmp_path / "map.jsonl") == json.loads(json.dumps(rows))


def test_all_workers_work(monkeypatch):
    meet = threading.Barrier(2, timeout=60)
    found = list(mutate.on_all(["a", "b"], lambda worker, item: (meet.wait(), worker, item)[1:], [1, 2]))
    assert {worker for worker, _ in found} == {"a", "b"} and {item for _, item in found} == {1, 2}
