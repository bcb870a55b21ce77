"""Downloads the wheels that `python -m benchmarks.gpu` takes along to a machine without a network; says sizes.

python scripts/gpu_wheels.py [--pack DIR]

For Python 3.12 on x86-64 Linux, where torch and Triton are. Nothing fetched is committed: git ignores the folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ".gpu-wheels"
# What is measured beside ours, what our code and the tests import. torch's machines have NumPy.
WHEELS = (
    "comfy-kitchen==0.2.40", "sageattention==1.0.6", "einops", "safetensors", "rich", "pytest", "pytest-timeout",
    "hypothesis", "pluggy", "iniconfig", "packaging", "pygments", "sortedcontainers", "markdown-it-py", "mdurl",
)  # fmt: skip
# comfy-kitchen's library for AMD's GPUs, half of its wheel.
LEFT_OUT = ("backends/hip/_C.abi3.so",)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LIMIT = 64 * 2**20
SITE = "/tmp/video-attention-site"
# Of pip: offline, and apart from what is installed.
FLAGS = ("--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade")


def pack(folder: Path) -> list[str]:
    """Download the wheels; say what is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version",
        "3.12", "--implementation", "cp", *platforms, "--dest", str(folder), *WHEELS,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return [f"pip download: {done.stderr.strip()[-500:]}"]
    for wheel in folder.glob("comfy_kitchen-*.whl"):
        slim(wheel)
    return report(folder)


def slim(wheel: Path) -> None:
    """Take LEFT_OUT out of a wheel. Its record still names them, which pip does not mind."""
    new = wheel.with_suffix(".new")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for entry in old.infolist():
            if not entry.filename.endswith(LEFT_OUT):
                made.writestr(entry, old.read(entry.filename), zipfile.ZIP_DEFLATED, 9)
    new.replace(wheel)


def report(folder: Path) -> list[str]:
    """Print each size and the sum, the checkout's own files beside it; say what is over the limit."""
    sizes = {wheel.name: wheel.stat().st_size for wheel in sorted(folder.glob("*.whl"))}
    for name, size in sizes.items():
        print(f"  {size / 2**20:6.2f} MiB  {name}")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    tracked = sum(path.stat().st_size for path in map(ROOT.joinpath, filter(None, listed)) if path.is_file())
    total = sum(sizes.values())
    print(f"  {total / 2**20:6.2f} MiB of wheels, {tracked / 2**20:.2f} MiB of the checkout")
    over = total + tracked - LIMIT
    return [f"{over / 2**20:.1f} MiB more than {LIMIT >> 20} MiB"] if over > 0 else []


def install_line(folder: str) -> str:
    """Write how the wheels are installed there, offline and apart from what is installed."""
    return f"python3 -m pip install -q {' '.join(FLAGS)} --target {SITE} {folder}/*.whl && export PYTHONPATH={SITE}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, default=ROOT / FOLDER)
    faults = pack(parser.parse_args().pack)
    sys.exit("\n".join(faults) or 0)
