"""Scripts that are stopped, whatever stops them, leave no process behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import host
import processes
import pytest
from hear_interrupts import hear_interrupts

psutil = pytest.importorskip("psutil", reason="psutil comes with ComfyUI")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
SCRIPTS = host.ROOT / "scripts"
# Starts another process, which starts a third, as test.py starts pytest and pytest a server.
CHAIN = """
import pathlib, signal, sys, time
sys.path.insert(0, {scripts!r})
import host, processes
def run():
    depth, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    (folder / f"{{depth}}.started").touch()
    if not depth:
        time.sleep(600)
    with processes.child([sys.executable, __file__, str(depth - 1), str(folder)]) as process:
        return processes.wait(process)
host.main(run)
"""


def family_of(process) -> list:
    """A process and all below it, those in sessions of their own too."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def words_of(process) -> list[str]:
    """The command line of a process, none if it has gone meanwhile."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def still_there(processes, seconds: float) -> list:
    """Those that run on after so many seconds; the rest are waited for."""
    gone, alive = psutil.wait_procs(processes, timeout=seconds)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def wait_for(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("at", [0, 1])
def test_a_chain_of_processes_ends_with_any_of_its_links(tmp_path, number, at):
    program = tmp_path / "chain.py"
    program.write_text(CHAIN.format(scripts=str(SCRIPTS)))
    first = subprocess.Popen(
        [sys.executable, str(program), "2", str(tmp_path)], start_new_session=True, preexec_fn=hear_interrupts
    )
    wait_for((tmp_path / "0.started").exists)
    processes = family_of(first)
    assert len(processes) == 3
    if number == signal.SIGINT:
        os.killpg(first.pid, number)  # as a terminal does
    else:
        processes[at].send_signal(number)
    assert not still_there(processes, 60)


def test_a_process_that_nobody_holds_goes_on():
    code = "import processes, sys; processes.follow(); print(sys.stdin.read())"
    done = subprocess.run([sys.executable, "-c", code], input="words", text=True, capture_output=True, cwd=SCRIPTS)
    assert done.stdout.strip() == "words"


def test_the_variable_is_not_passed_on():
    code = "import processes, os; processes.follow(); print(processes.FOLLOW in os.environ)"
    with processes.child([sys.executable, "-c", code], cwd=SCRIPTS, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.read().strip() == "False"


def test_tests_that_are_stopped_leave_no_server(comfy_host, tmp_path):
    """The real script and a real server, stopped as `kill` and a time limit do it."""
    command = [sys.executable, str(SCRIPTS / "test.py"), "--comfyui", str(comfy_host), "-q", "-p", "no:cacheprovider"]
    with open(tmp_path / "log", "w") as log:
        script = subprocess.Popen(
            [*command, "tests/server/test_server.py", f"--basetemp={tmp_path / 'inner'}"], stdout=log, stderr=log
        )
    wait_for(
        lambda: script.poll() is not None or any("launch.py" in part for p in family_of(script) for part in words_of(p))
    )
    assert script.poll() is None, Path(log.name).read_text()
    processes = family_of(script)
    script.send_signal(signal.SIGTERM)
    assert not still_there(processes, 120)


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["-q"], ["tests"]),
        (["-k", "nodes"], ["tests"]),
        (["--update-snapshots", "-k", "tests"], ["tests"]),
        (["--timeout", "60", "-m", "attention"], ["tests"]),
        (["tests/attention/routing/test_rules.py", "-q"], ["tests/attention/routing/test_rules.py"]),
        (
            ["-k", "word", "tests/attention/routing/test_rules.py::test_x"],
            ["tests/attention/routing/test_rules.py::test_x"],
        ),
    ],
)
def test_without_a_path_the_tests_folder_is_meant(arguments, asked):
    code = (
        "import runpy, sys; from _pytest.config import _prepareconfig; sys.path.insert(0, 'scripts')\n"
        "plugin = runpy.run_path('scripts/test.py')['everything']()\n"
        "config = _prepareconfig(['-c', 'tests/pytest.ini', *sys.argv[1:]], [plugin])\n"
        "print('ASKED', config.option.file_or_dir)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=host.ROOT, capture_output=True, text=True)
    assert f"ASKED {asked}" in done.stdout, done.stdout + done.stderr
