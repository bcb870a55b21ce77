"""How much the tests notice: changes the source a little, one place at a time, and runs the tests that reach it.

    python scripts/mutate.py --sample 200 --seed 1 [--jobs 2] [--seconds 120] [--out output/mutation]

1. Every test file runs by itself on the source as it is: which functions each test reaches, what it costs, and which
   tests are red (they do not count). Tests of NOT_RUN are left out, and those that take a fixture with a server.
2. A sample of mutants, of each room as many as its size asks for. Of each, the tests that reach its function run with
   all their cases, what is called like it first, then the cheapest, until one fails (killed), or all have passed or
   the next would take more than --seconds of CPU in all (survived).
3. Each test that killed runs once more on the source as it is: one that is red there has killed nothing.

Needs coverage beside what the tests need (pip install coverage), and a system that can fork; the source must stay as
it is meanwhile. The folder of --out holds map.jsonl (of step 1: delete it to measure anew) and results.jsonl: what
stands there is not sampled again. Pictures (draw_*, canvas, colours) and Triton's kernels, which tests/kernel proves,
are left out.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import multiprocessing
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mutation_worker
from mutants import Mutant, mutants
from reach import Reach

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = re.compile(r"/(draw_\w*|canvas|kernel_colours|image_output)\.py$|/triton/")
# Servers and browsers, kernels in an interpreter, scripts in processes of their own.
NOT_RUN = ("tests/server/", "tests/browser/", "tests/kernel/", "tests/tools/test_stopping.py")


def names(*patterns: str) -> list[str]:
    return sorted(str(file.relative_to(ROOT)) for pattern in patterns for file in ROOT.glob(pattern))


class Worker:
    """A process with a copy of the tree to spoil."""

    def __init__(self, tree: Path):
        copy_tree(tree)
        context = multiprocessing.get_context("fork")
        self.pipe, end = context.Pipe()
        context.Process(target=mutation_worker.serve, args=(tree, end), daemon=True).start()

    def run(self, files, tests=None, edit=None, trace=False, whole=False, seconds=600.0) -> dict:
        """See mutation_worker.serve."""
        task = {"files": files, "tests": tests, "edit": edit, "trace": trace, "whole": whole, "seconds": seconds}
        self.pipe.send(task)
        return self.pipe.recv()


def copy_tree(tree: Path) -> None:
    """What git knows of the pack, as it stands now."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    if not (tree / ".host").exists():
        (tree / ".host").symlink_to((ROOT / ".host").resolve())


def on_all(workers: list[Worker], work, items):
    """Yields work(worker, item) as it comes."""
    free = queue.SimpleQueue()
    for worker in workers:
        free.put(worker)

    def one(item):
        worker = free.get()
        try:
            return work(worker, item)
        finally:
            free.put(worker)

    with concurrent.futures.ThreadPoolExecutor(len(workers)) as pool:
        futures = [pool.submit(one, item) for item in items]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()


def make_map(workers: list[Worker], written: Path) -> list[dict]:
    """A line for each test file in `written`: {"file", "reached": {test: [function]}, "seconds": {test: s}, "red"}."""
    known = [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []
    files = [n.removeprefix("tests/") for n in names("tests/**/test_*.py") if not n.startswith(NOT_RUN)]

    def one(worker, file):
        result = worker.run([file], trace=True, whole=True)
        if result["code"] not in (0, 1, 5):
            raise RuntimeError(f"{file} did not run: {result}")
        # Some are red only while they are watched.
        red = worker.run([file], whole=True)["failed"] if result["failed"] else []
        return {"file": file, "reached": result["reached"], "seconds": result["seconds"], "red": red}

    with written.open("a") as out:
        for row in on_all(workers, one, sorted(set(files) - {row["file"] for row in known})):
            print(f"{row['file']}: {sum(row['seconds'].values()):.1f} s, red: {row['red']}", flush=True)
            out.write(json.dumps(row) + "\n")
            known.append(row)
    return known


def sample(count: int, seed: int, known: set) -> list[Mutant]:
    """As many of each room as its share of all mutants asks for, none that is known."""
    rooms = collections.defaultdict(list)
    for name in names("attention/**/*.py", "nodes/**/*.py"):
        if not LEFT_OUT.search(name):
            rooms[str(Path(name).parent)] += mutants(name, (ROOT / name).read_text())
    every = sum(map(len, rooms.values()))
    print(f"{every} mutants in {len(rooms)} rooms")
    chance, chosen = random.Random(seed), []
    for room in sorted(rooms):
        new = [mutant for mutant in rooms[room] if identity(mutant) not in known]
        chosen += chance.sample(new, min(len(new), max(1, round(count * len(rooms[room]) / every))))
    chance.shuffle(chosen)
    return [mutant for mutant in chosen if mutant.readable((ROOT / mutant.file).read_text())]


def identity(mutant: Mutant) -> tuple:
    """What stays when lines move."""
    return mutant.file, mutant.kind, mutant.old, mutant.new, mutant.around


def judge(worker: Worker, mutant: Mutant, reach: Reach, limit: float) -> dict:
    """Runs a mutant's tests until one fails: at first those that are the likeliest to."""
    edit = (mutant.file, mutant.apply((ROOT / mutant.file).read_text()))
    about = {"verdict": "not reached", "by": None, "tests": 0, "wall": 0.0, "code": None}
    for tests in reach.tests(mutant, limit):
        files = list(dict.fromkeys(test.split("::")[0] for test in tests))
        result = worker.run(files, tests, edit, seconds=sum(map(reach.seconds.get, tests)))
        about["tests"] += len(tests)
        about["wall"] += result["wall"]
        about["code"] = result["code"]
        about["verdict"] = {0: "survived", 5: about["verdict"]}.get(result["code"], "killed")
        if about["verdict"] == "killed":
            about["by"] = (result["failed"] or [None])[0]
            break
    return {**dataclasses.asdict(mutant), **about}


def confirm(workers: list[Worker], results: list[dict]) -> None:
    """Takes back what was killed by a test that is red on the source as it is."""
    killers = collections.defaultdict(set)
    for result in results:
        if result["by"] and "::" in result["by"]:
            killers[result["by"].split("::")[0]].add(result["by"])

    def one(worker, file):
        return worker.run([file], sorted(killers[file]), whole=True)["failed"]

    failed = {test for tests in on_all(workers, one, killers) for test in tests}
    for result in results:
        if result["by"] in failed:
            result["verdict"] = "killed by a red test"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "mutation")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    made, written = options.out / "map.jsonl", options.out / "results.jsonl"
    known = [json.loads(line) for line in written.read_text().splitlines()] if written.exists() else []
    fields = [field.name for field in dataclasses.fields(Mutant)]
    known = {identity(Mutant(**{name: result[name] for name in fields})) for result in known}
    with tempfile.TemporaryDirectory() as folder:
        workers = [Worker(Path(folder) / f"tree{number}") for number in range(options.jobs)]
        reach = Reach(ROOT, make_map(workers, made))
        results = []
        for result in on_all(
            workers, lambda w, m: judge(w, m, reach, options.seconds), sample(options.sample, options.seed, known)
        ):
            results.append(result)
            print(*(result[name] for name in ("verdict", "file", "line", "old", "new", "by", "wall")), flush=True)
        confirm(workers, results)
    with written.open("a") as file:
        file.writelines(json.dumps({**result, "seed": options.seed}) + "\n" for result in results)
    counts = collections.Counter(result["verdict"] for result in results)
    print(f"{len(results)} mutants: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
