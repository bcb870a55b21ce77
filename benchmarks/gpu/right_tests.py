"""Phase a: the tests that need a GPU, within their time, and the memory checker where there is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .context import Context
from .supervisor import ROOT

FOLDERS = ("tests/kernel", "tests/attention/sparse", "tests/attention/backends")
DRY_FOLDERS = ("tests/attention/sparse/test_sparse_on_gpu.py",)
# Seconds beyond the tests' own for collecting them, and for the test that runs when the time is up.
AROUND, CHECKING = 25.0, 45.0
CHECKER = "compute-sanitizer"
CALL = "from benchmarks.gpu.right_tests import call; call()"


def run(context: Context, seconds: float) -> None:
    """Run both."""
    dry = context.place.dry
    # Without a GPU each of them is skipped: one file tells that they are found.
    tests(context, seconds, DRY_FOLDERS if dry else FOLDERS, 300.0 if dry else AROUND)
    memory(context)


def tests(context: Context, seconds: float, folders, around: float) -> None:
    """Run `pytest -m gpu`; tests that do not begin in time are skipped, and counted."""
    counted(context, "pytest -m gpu", ("-m", "gpu", f"--seconds={seconds:g}", *folders), seconds + around)


def counted(context: Context, what: str, arguments, seconds: float) -> None:
    """Run tests in a process of their own: a row with how many ended how, a sentence for each that failed."""
    if what in context.without:
        return
    context.at(what, seconds + AROUND)
    command = [
        sys.executable, "-m", "pytest", "-c", "tests/pytest.ini", "-v", "-p", "no:cacheprovider", "-p", "no:warnings",
        "--tb=line", "--continue-on-collection-errors", *arguments,
    ]  # fmt: skip
    output, code = bounded(command, seconds)
    done = re.findall(r"^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED)", output, re.MULTILINE)
    number = {how: sum(one == how for _, one in done) for how in ("PASSED", "FAILED", "ERROR", "SKIPPED")}
    late = sum(map(int, re.findall(r"^SKIPPED \[(\d+)\] .*its time was up", output, re.MULTILINE)))
    wrong = number["FAILED"] + number["ERROR"]
    context.row(tests=what, passed=number["PASSED"], wrong=wrong, skipped=number["SKIPPED"], late=late, ended=code,
                kept=True)  # fmt: skip
    for name, how in done:
        if how in ("FAILED", "ERROR"):
            context.note(f"{how.lower()}: {name}")
    if code not in (0, 1) or not done:
        context.note(f"it ended with {code}: {' / '.join(output.strip().splitlines()[-3:])}")


def memory(context: Context) -> None:
    """Run our kernels under NVIDIA's memory checker, where it is installed and works."""
    program = shutil.which(CHECKER)
    if CHECKER in context.without:
        return None
    if program is None:
        return context.note(f"memory checker: no {CHECKER} here")
    context.at(CHECKER, CHECKING + 15)
    output, code = bounded(
        [program, "--tool", "memcheck", "--error-exitcode", "9", sys.executable, "-c", CALL], CHECKING
    )
    last = " / ".join(output.strip().splitlines()[-2:])
    wrong = {0: "found nothing", 9: "FOUND errors"}.get(code, "did not work or found something")
    return context.note(f"memory checker: {wrong} ({code}: {last})")


def call() -> None:
    """Call each of our kernels once, dense and by lists: what the memory checker looks at."""
    import torch

    from attention.core.reason import Reason
    from attention.patterns import TopBlocks

    from .place import OURS, Place

    place = Place.gpu()
    from attention.backends import registry

    from ..shapes import Shape

    shape = Shape("small", (2, 9, 15), 2, 128)
    q, k, v = place.draw(shape)
    for name in OURS:
        registry.load(name)(q, k, v)
        runner = place.runner(TopBlocks(keep=30, tail=True), name, shape.grid, q, k, v)
        if not isinstance(runner, Reason):
            runner(q, k, v)
    torch.cuda.synchronize()


def bounded(command: list, seconds: float) -> tuple[str, int | str]:
    """Run a command; give what it said, and its status, or that its time was up: then it and its children are ended."""
    log = Path(os.environ.get("TMPDIR", "/tmp"), f"benchmarks-gpu-{os.getpid()}-{time.monotonic_ns()}.txt")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment.pop("TRITON_INTERPRET", None)
    try:
        with open(log, "wb") as output:
            # In the worker's session: whoever ends the worker's group ends this too.
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        try:
            code: int | str = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = f"more than {seconds:.0f} s"
        return log.read_text(encoding="utf-8", errors="replace"), code
    finally:
        log.unlink(missing_ok=True)
