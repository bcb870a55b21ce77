"""Runs test files of one copy of the tree, each time in a fork of a process that has torch and ComfyUI loaded."""

from __future__ import annotations

import ast
import collections
import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

# Ends the name of what a test's fixtures do before it.
SETUP = " setup"
FIXTURES_NOT_RUN = {"server", "browser", "browser_page"}
# Seconds of CPU after which tests are in a loop without end, besides three times those that they should take.
LEAST_LIMIT = 60
# What many tests import, and what takes long: none of the pack, and nothing that a test takes away.
LOADED = (
    *("pytest", "hypothesis", "numpy", "PIL.Image", "asyncio", "unittest.mock", "tomllib", "safetensors.torch"),
    *("torch._dynamo", "torch._inductor.compile_fx", "torch.nn.attention.flex_attention"),
    *("comfy.sample", "comfy.sd", "comfy_api.latest", "comfy_execution.graph", "execution", "latent_preview", "server"),
)


def serve(tree: Path, pipe) -> None:
    """Answers tasks until there is None.

    A task: "files" of tests/ to run, which "tests" of them (None: all), "edit" (file, text), whether to "trace" what
    each test reaches, and to run on as a "whole" after a failure, "seconds" that it should take.
    """
    os.nice(5)
    os.chdir(tree)
    load(tree)
    while (task := pipe.recv()) is not None:
        pipe.send(run(tree, task))


def load(tree: Path) -> None:
    """Loads ComfyUI as the tests' fixture comfy_host does; where a fork meets it again, nothing is left to do."""
    sys.path.insert(0, str(tree / "scripts"))
    import host
    import launch
    import torch

    torch.set_num_threads(1)
    folder = Path(os.environ.get("COMFYUI_PATH") or host.HOME / f"ComfyUI-{host.COMFYUI}").resolve()
    launch.stand_in()
    # The function holds what it stood in for.
    launch.stood_in, launch.stand_in = launch.stand_in, lambda: None
    base = tree.parent / f"{tree.name}-comfy"
    base.mkdir(exist_ok=True)
    arguments, path = sys.argv, list(sys.path)
    sys.argv = ["main.py", "--cpu", "--use-pytorch-cross-attention", "--base-directory", str(base)]
    sys.path.insert(0, str(folder))
    importlib.import_module("comfy.options").enable_args_parsing()
    for name in ("utils.extra_config", *LOADED, "nodes"):
        importlib.import_module(name)
    sys.argv, sys.path[:] = arguments, path


@contextlib.contextmanager
def edited(tree: Path, edit):
    """The tree with one file's text changed; its time goes back too, so that its bytecode stays good."""
    if edit is None:
        yield
        return
    file = tree / edit[0]
    before, text = file.stat(), file.read_text()
    try:
        file.write_text(edit[1])
        yield
    finally:
        file.write_text(text)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def run(tree: Path, task: dict) -> dict:
    """Runs task["files"] in a fork."""
    begin, answer = time.monotonic(), tree.parent / f"{tree.name}.json"
    answer.unlink(missing_ok=True)
    with edited(tree, task["edit"]):
        child = os.fork()
        if not child:
            _in_fork(tree, task, answer)
        # CPU seconds end a loop without end; this ends one that waits for ever, on a busy machine too.
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() - begin > 300 + 10 * task["seconds"]:
                _end(child)
            time.sleep(0.02)
        _end(child)
    result = json.loads(answer.read_text()) if answer.exists() else {"code": "ended", "failed": []}
    return {**result, "wall": round(time.monotonic() - begin, 1)}


def _end(group: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)


def _in_fork(tree: Path, task: dict, answer: Path) -> None:
    import pytest

    os.setsid()
    null = os.open(tree.parent / f"{tree.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(null, 1)
    os.dup2(null, 2)
    limit = LEAST_LIMIT + 3 * int(task["seconds"])
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    watcher = Watcher(tree, task)
    options = ["-c", "tests/pytest.ini", "-q", "-p", "no:cacheprovider", "-W", "ignore", "--tb=line"]
    options += ["--basetemp", str(tree.parent / f"{tree.name}-tmp"), *([] if task["whole"] else ["-x"])]
    try:
        code = int(pytest.main([*options, *(f"tests/{f}" for f in task["files"])], plugins=[watcher]))
        answer.write_text(json.dumps({"code": code, **watcher.result()}))
    finally:
        # Whatever happens, the fork serves nobody.
        os._exit(0)


class Watcher:
    """A plugin of pytest: which tests run and in which order, what they reach and how they end."""

    def __init__(self, tree: Path, task: dict):
        self.tree, self.task, self.failed, self.cover = tree, task, [], None
        self.seconds = collections.Counter()
        if task["trace"]:
            import coverage

            source = [str(tree / "attention"), str(tree / "nodes")]
            self.cover = coverage.Coverage(data_file=None, source=source, config_file=False)
            self.cover.start()

    def result(self) -> dict:
        return {"failed": self.failed, "seconds": self.seconds, "reached": self.reached()}

    def reached(self) -> dict[str, list[str]]:
        """Test -> functions, each as its file and the line on which it begins.

        What a test's fixtures reach counts for every test of its file: those of a module or session run once, before
        the first test that asks for them.
        """
        found = collections.defaultdict(set)
        if self.cover is not None:
            self.cover.stop()
            data = self.cover.get_data()
            for file in data.measured_files():
                name, functions = Path(file).relative_to(self.tree), lines_of_functions(Path(file).read_text())
                for line, tests in data.contexts_by_lineno(file).items():
                    for test in filter(None, tests if line in functions else ()):
                        found[test].add(f"{name}:{functions[line]}")
        for test in [each for each in found if each.endswith(SETUP)]:
            file, reached = test.split("::")[0], found.pop(test)
            for each in [t for t in self.seconds if t.split("::")[0] == file]:
                found[each] |= reached
        return {test: sorted(functions) for test, functions in found.items()}

    def pytest_collection_modifyitems(self, config, items) -> None:
        kept = [i for i in items if not FIXTURES_NOT_RUN & set(i.fixturenames)]
        if self.task["tests"] is not None:
            kept = [i for i in kept if function_of(i.nodeid) in set(self.task["tests"])]
        items[:] = kept

    def pytest_runtest_logstart(self, nodeid, location) -> None:
        self.begin = time.process_time()
        if self.cover is not None:
            self.cover.switch_context(function_of(nodeid) + SETUP)

    def pytest_runtest_call(self, item) -> None:
        if self.cover is not None:
            self.cover.switch_context(function_of(item.nodeid))

    def pytest_runtest_logfinish(self, nodeid, location) -> None:
        self.seconds[function_of(nodeid)] += time.process_time() - self.begin

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.failed.append(function_of(report.nodeid))

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def function_of(test: str) -> str:
    return test.split("[")[0]


def lines_of_functions(text: str) -> dict[int, int]:
    """Line of a body -> the line on which its innermost function begins."""
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    functions.sort(key=lambda node: node.lineno)
    return {line: f.lineno for f in functions for line in range(f.body[0].lineno, f.end_lineno + 1)}
