"""Compiles what `python -m benchmarks.gpu` launches of our kernel for one GPU generation, candidate cuts too, as JSON.

python scripts/gpu_compile.py 90 [--only REGEX] [--processes N]      (Linux; with the Triton of this Python; no GPU)

`faults`: what ships and does not compile, does not fit the shared memory or may read past its tensors. `slow`: what
ships and, with this Triton, spills registers or waits for every WGMMA. `cuts_left_out`: candidates of either kind; on
the GPU each of them is a row, as slow as it is, or a failure.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import compile_kernels as kernels
import other_tritons
from kernel_targets import FOR_FLOAT8, PREPARING, WITH_FLOAT8, Target

from benchmarks.gpu import cuts

# Ways that the run takes: dense, with a key mask, fixed patterns, chosen blocks with a tail.
WAYS = ("dense", "key mask", "lists, masks", "lists, means")
DTYPE = "bf16"


def launched(architecture: int) -> list[Target]:
    """List what ships, in the run's dtype."""
    made = [Target(architecture, way, q, d, DTYPE) for way in WAYS for q in (True, False) for d in (64, 128)]
    if architecture in WITH_FLOAT8:
        made += [Target(architecture, way, True, d, DTYPE, True) for way in WAYS for d in (64, 128)]
    more = PREPARING | (FOR_FLOAT8 if architecture in WITH_FLOAT8 else {})
    return made + [
        Target(architecture, way, q, d, DTYPE)
        for way, (_, q, _) in more.items()
        if "not rotated" not in way
        for d in (64, 128)
    ]


def tried(architecture: int) -> list[tuple[Target, cuts.Tiling]]:
    """List the candidate cuts that phase f tries, without those that ship."""
    capability, found = divmod(architecture, 10), []
    for dim, listed in ((128, False), (64, False), (128, True)):
        for quantized in (True, False):
            target = Target(architecture, "lists, means" if listed else "dense", quantized, dim, DTYPE)
            found += [(target, cut) for cut in cuts.candidates(capability, quantized, dim, listed)[1:]]
    return found


def faults(target: Target, cut=None) -> tuple[str, list[str], float]:
    """Compile one: its name, what is wrong with it, and seconds."""
    begun, name = time.perf_counter(), target.name if cut is None else f"{target.name}, {cut}"
    before = kernels.tiling_for
    if cut is not None:
        kernels.tiling_for = lambda *call, **how: cut
    try:
        found = kernels.faults(target, kernels.measure(target))
    except Exception as error:  # a version that lacks something raises anything
        found = [f"does not compile: {type(error).__name__}: {error}"[:300]]
    finally:
        kernels.tiling_for = before
    return name, found, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architecture", type=int)
    parser.add_argument("--only", default="", help="a regular expression that a kernel's name must have")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    begun = time.perf_counter()
    ships = [target for target in launched(options.architecture) if re.search(options.only, target.name)]
    asked = [(target, None) for target in ships]
    asked += [(target, cut) for target, cut in tried(options.architecture) if re.search(options.only, target.name)]
    with ProcessPoolExecutor(options.processes) as pool:
        done = list(pool.map(faults, *zip(*asked)))
    told = {"faults": [], "slow": [], "cuts_left_out": []}
    for (_, cut), (name, found, _) in zip(asked, done):
        broken = any(other_tritons.kind_of(fault) in other_tritons.MUST_NOT for fault in found)
        kind = "cuts_left_out" if cut is not None else "faults" if broken else "slow"
        told[kind] += [f"{name}: {'; '.join(found)}"] if found else []
    told |= {"triton": kernels.triton.__version__, "kernels": len(done), "seconds": time.perf_counter() - begun,
             "longest": max(seconds for *_, seconds in done)}  # fmt: skip
    json.dump(told, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
