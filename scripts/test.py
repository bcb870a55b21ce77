"""Every test, with a real ComfyUI and a real browser; beside them our Triton kernel compiled for every GPU generation.

python scripts/test.py [--comfyui PATH] [pytest arguments]
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import host
from processes import FOLLOW, child, follow, wait

TESTS, INSIDE_PYTEST = "tests", "--inside-pytest"
# Tests calculate with one thread. In their own order: the last files are short ones, neither process waits long.
SHARED = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


# What every ComfyUI must pass in this process. Older ones run in the environment of the newest.
INSIDE = (
    "nodes/test_host.py",
    "nodes/test_host_chain.py",
    "nodes/test_nodes.py::test_schemas_are_those_that_workflows_know",
    "nodes/test_nodes.py::test_every_part_explains_itself",
)


def everything():
    """A plugin of pytest for runs whose arguments name no path: tests/, where pytest would look into every folder, in
    two processes, file by file."""
    import pytest

    class Everything:
        # First: conftest.py, with options of its own, is read for the paths that are known then.
        @pytest.hookimpl(tryfirst=True)
        def pytest_load_initial_conftests(self, early_config, args):
            known = early_config.known_args_namespace
            if not known.file_or_dir:
                known.file_or_dir.append(TESTS)
                args[:0] = [*SHARED, TESTS]
                # Which the two processes are started with.
                made = early_config.invocation_params
                early_config.invocation_params = type(made)(args=args, plugins=made.plugins, dir=made.dir)

    return Everything()


def main() -> int:
    if sys.argv[1:2] == [INSIDE_PYTEST]:
        return run_pytest(sys.argv[2:])
    parser = host.parser(__doc__.splitlines()[0])
    parser.add_argument("--hosts", choices=("all",), help="run the tests inside ComfyUI on every known version")
    options, rest = parser.parse_known_args()
    folder = host.enter_environment(options.comfyui, "test.py", ("requirements-dev.txt",))
    if options.hosts:
        return run_on_all()
    host.fetch_kitchen(Path(sys.executable))
    browser = find_browser() or install_browser()
    with contextlib.nullcontext(lambda: 0) if rest else compiling() as compiled:
        code = run_tests(folder, browser, rest)
        code = compiled() or code
    if not browser:
        host.say("Browser tests were skipped: no Chromium. On Debian, as root, this script installs it.")
    return code


def run_tests(folder: Path, browser: str | None, arguments: list[str]) -> int:
    """pytest in a process of its own, which ends with this one, its servers and browsers too."""
    environment = {**os.environ, "COMFYUI_PATH": str(folder), "CHROMIUM_PATH": browser or ""}
    command = [sys.executable, __file__, INSIDE_PYTEST, *arguments]
    with child(command, cwd=host.ROOT, env=environment) as process:
        return wait(process)


def run_pytest(arguments: list[str]) -> int:
    import pytest

    def ended(*_) -> None:
        # As Ctrl-C does: fixtures stop their servers and browsers. Once: they must not be stopped in that.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ended)
    follow(lambda: os.kill(os.getpid(), signal.SIGTERM))
    return int(pytest.main(["-c", f"{TESTS}/pytest.ini", *arguments], plugins=[everything()]))


@contextlib.contextmanager
def compiling():
    """Compiles our Triton kernel for every GPU generation, on what the tests leave of the processor. Gives a function
    that waits, says what came out, and gives 0 where every kernel is as benchmarks/compiled.json has it."""
    if sys.platform != "linux" or importlib.util.find_spec("triton") is None:
        host.say("Our Triton kernel is not compiled anew: that takes Triton on Linux.")
        yield lambda: 0
        return
    command = ["nice", "-n", "19", sys.executable, "scripts/compile_kernels.py", "--check"]
    with tempfile.TemporaryFile("w+") as log:
        # A session of its own: stopped early, it must take its workers along.
        process = subprocess.Popen(
            command, cwd=host.ROOT, env={**os.environ, FOLLOW: "1"}, stdin=subprocess.PIPE, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

        def compiled() -> int:
            code = process.wait()
            log.seek(0)
            host.say("\n".join(log.read().splitlines()[-20 if code else -1 :]))
            return code

        try:
            yield compiled
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def run_on_all() -> int:
    """Every known ComfyUI in turn; the table at the end says which of them the pack runs on."""
    codes = {}
    for version in host.ARCHIVES:
        host.say(f"\n=== ComfyUI {version} ===")
        folder = host.fetch(Path(sys.executable), version)
        codes[version] = run_tests(folder, None, ["-q", *(f"tests/{name}" for name in INSIDE)])
    host.say(
        "\n" + "\n".join(f"ComfyUI {version}: {'failed' if code else 'passed'}" for version, code in codes.items())
    )
    return max(codes.values())


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def install_browser() -> str | None:
    """Chromium from Debian's packages when we may install it; None otherwise."""
    if not shutil.which("apt-get") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    host.say("Installing Chromium ...")
    quiet = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    }
    subprocess.run(["apt-get", "update"], **quiet)
    subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"], **quiet)
    return find_browser()


if __name__ == "__main__":
    host.main(main)
