"""Compiles our Triton kernel with other versions of Triton, each put into a temporary folder, without a GPU.

python scripts/other_tritons.py 3.3.1 3.8.0 [--only "head size 128"]     (in .venv; Linux; minutes for each version)

Prints a row of the table in benchmarks/KERNEL.md for each, and what is wrong where. Fails where a kernel does not
compile, needs more shared memory than there is or may read past its tensors. Compares nothing: each version counts
its own registers.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial

# What a fault of compile_kernels.py has in it, and one that stands for no result. Those of MUST_NOT make it fail.
KINDS = {
    "failed": "does not compile",
    "large": "shared memory",
    "reads past": "copies ahead of a loop",
    "spills": "stack",
    "waits": "waits for WGMMA",
    "without matrix cores": "the matrix cores multiply",
    "converts": "conversions",
}
MUST_NOT = ("failed", "large", "reads past")


def compiled_here(only: str, processes: int) -> int:
    """Compile with the Triton of this process; give the exit status."""
    import compile_kernels as kernels

    chosen = [target for target in kernels.targets() if re.search(only, target.name)]
    with ProcessPoolExecutor(processes) as pool:
        found = dict(zip([target.name for target in chosen], pool.map(faults, chosen)))
    print(row(kernels.triton.__version__, found))
    print("".join(f"  {name}: {'; '.join(wrong)}\n" for name, wrong in found.items() if wrong), end="", flush=True)
    return any(kind_of(fault) in MUST_NOT for wrong in found.values() for fault in wrong)


def faults(target) -> list[str]:
    """Say what is wrong with one compiled target, or that it does not compile."""
    import compile_kernels as kernels

    try:
        return kernels.faults(target, kernels.measure(target))
    except Exception as error:  # a version that lacks something raises anything
        return [f"{KINDS['failed']}: {type(error).__name__}: {error}"[:300]]


def kind_of(fault: str) -> str:
    """Find which of KINDS a fault is of."""
    return next(kind for kind, words in KINDS.items() if words in fault)


def row(version: str, found: dict[str, list[str]]) -> str:
    """Write a row: the version, how many kernels, and how many of them have each kind of fault."""
    kinds = [{kind_of(fault) for fault in wrong} for wrong in found.values()]
    return f"| {version} | {len(found)} | {' | '.join(str(sum(kind in one for one in kinds)) for kind in KINDS)} |"


def compiled_with(version: str, arguments: list[str]) -> int:
    """Compile with another version of Triton, put into a temporary folder; give the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        run = partial(subprocess.run, check=False)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, f"triton=={version}"]
        if run(pip).returncode:
            return 1
        # A cache of its own, and PYTHONPATH for the workers too.
        changed = {"PYTHONPATH": folder, "TRITON_CACHE_DIR": os.path.join(folder, "cache")}
        return run([sys.executable, __file__, "--here", *arguments], env={**os.environ, **changed}).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*")
    parser.add_argument("--only", default="", help="a regular expression that a kernel's name must have")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        return compiled_here(options.only, options.processes)
    print(f"| Triton | kernels | {' | '.join(KINDS)} |\n|{' --- |' * (len(KINDS) + 2)}", flush=True)
    arguments = ["--only", options.only, "--processes", str(options.processes)]
    return max([compiled_with(version, arguments) != 0 for version in options.versions], default=0)


if __name__ == "__main__":
    sys.exit(main())
