"""Makes sure that no minute with a GPU is lost: does all of `python -m benchmarks.gpu` that can be done without one.

python scripts/gpu_ready.py [--minutes 9] [--python PATH] [--architecture 90] [--pack DIR]
                           [--out DIR] [--skip STEP,...]

Steps: `pack` downloads the wheels to carry; `dry` goes through every phase on this CPU, with --python (an environment
as beside the GPU: its torch and Triton, no GPU needed) and those wheels once more; `compile` compiles what the
run will launch for the GPU's generation, the candidate cuts too, with each of the two. Then it prints the plan, the one
line to run there, and what could not be checked. Needs .venv with requirements-dev.txt, and Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import gpu_wheels

from benchmarks.gpu import plan

STEPS = ("pack", "dry", "compile")
COMPILING = Path(__file__).with_name("gpu_compile.py")
# Honest to the end: what no machine without a GPU can tell.
UNCHECKED = (
    "whether a compiled kernel runs: memory errors, deadlocks and wrong machine code show on a GPU alone",
    "every speed, and so the guesses of the plan: a task that is slower than guessed is trimmed, a late one is skipped",
    "torch's CUDA operators, cuDNN, comfy-kitchen and SageAttention on that GPU: their calls are made as documented",
    "the memory that calls take, and the float64 truth of 75,600 tokens (about 12 GiB)",
    "torch.compile with inductor on CUDA (here: aot_eager), the memory checker, `nvidia-smi`",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--python", type=Path, help="of an environment as beside the GPU")
    parser.add_argument("--architecture", type=int, default=90, help="of the GPU: 90 for sm_90")
    parser.add_argument("--pack", type=Path, default=ROOT / gpu_wheels.FOLDER, help="folder for the wheels")
    parser.add_argument("--out", default="gpu-measured", help="folder for the rows there, as the line names it")
    parser.add_argument("--skip", default="", help=f"of {', '.join(STEPS)}")
    options = parser.parse_args()
    skipped, wrong = options.skip.split(","), []
    for step in STEPS:
        if step in skipped:
            print(f"{step}: skipped, as asked", flush=True)
            continue
        print(f"{step} ...", flush=True)
        faults = DO[step](options)
        print("\n".join(f"{step}: {fault}" for fault in faults) or f"{step}: nothing wrong", flush=True)
        wrong += faults
    print(f"\n{plan.timetable(options.minutes)}\n\nTo run there, in this folder:\n\n{line(options)}")
    print("\nNot checked here:\n")
    print("\n".join(f"- {what}" for what in (*UNCHECKED, *(f"{step}: skipped" for step in STEPS if step in skipped))))
    left_out = [step for step in STEPS if step in skipped]
    ready = f"READY, but for what was skipped: {', '.join(left_out)}" if left_out else "READY"
    print(f"\n{ready if not wrong else f'NOT READY: {len(wrong)} faults'}")
    return bool(wrong)


def line(options: argparse.Namespace) -> str:
    """Write the one line to run beside the GPU."""
    folder = os.path.relpath(options.pack, ROOT)
    command = f"python3 -m benchmarks.gpu --minutes {options.minutes:g} --out {options.out}"
    return f"{gpu_wheels.install_line(folder)} && {command}"


def dry(options: argparse.Namespace) -> list[str]:
    """Go through every phase on this CPU, in this Python and in that of --python; say what failed."""
    found = []
    for python in filter(None, (sys.executable, options.python)):
        with tempfile.TemporaryDirectory() as folder:
            env = os.environ | (carried(python, options.pack, folder) if python is options.python else {})
            command = [str(python), "-m", "benchmarks.gpu", "--dry", "--out", folder]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
            path = Path(folder, "gpu.json")
            if done.returncode or not path.exists():
                found.append(f"{python}: {(done.stdout + done.stderr).strip()[-500:]}")
            if path.exists():
                found += faults_of(json.loads(path.read_text(encoding="utf-8")))
    return found


def carried(python: Path, wheels: Path, folder: str) -> dict[str, str]:
    """Install the wheels for a Python as beside the GPU, below a folder; return what its environment needs for them."""
    site = str(Path(folder, "site"))
    files = [str(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    if files:
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", *gpu_wheels.FLAGS, "--target", site, *files], check=True
        )
    return {"PYTHONPATH": site}


def faults_of(data: dict) -> list[str]:
    """Say what went wrong in a dry run, by its gpu.json."""
    rows, tasks = data["rows"], data["tasks"]
    versions = ", ".join(f"{name} {data['facts'].get(name)}" for name in ("python", "torch", "triton"))
    print(f"  {versions}: {len(rows)} rows of {len(tasks)} tasks")
    states = {name: f"{task.get('state')}. {task.get('why') or ''}" for name, task in tasks.items()}
    return [
        *(f"{versions}: {name} is {state}" for name, state in states.items() if not state.startswith("done")),
        *(f"{versions}: {row['task']}, {row.get('kernel')}: {row['failed']}" for row in rows if "failed" in row),
        *(
            f"{versions}: {row['task']}, {row['kernel']} is wrong: {row['right']}"
            for row in rows
            if row.get("right", "yes") != "yes"
        ),
    ]


def compile_all(options: argparse.Namespace) -> list[str]:
    """Compile what is launched, with each Triton; say what does not fit the GPU."""
    found = []
    for python in filter(None, (sys.executable, options.python)):
        command = [str(python), str(COMPILING), str(options.architecture)]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        if done.returncode:
            found.append(f"{python}: {done.stderr.strip()[-800:]}")
            continue
        told = json.loads(done.stdout)
        print(f"  Triton {told['triton']}: {told['kernels']} kernels in {told['seconds']:.0f} s, "
              f"{told['longest']:.1f} s at most")  # fmt: skip
        print("\n".join(f"  left out on the GPU as well: {cut}" for cut in told["cuts_left_out"]) or "  every cut fits")
        print("".join(f"  slower with this Triton: {kernel}\n" for kernel in told["slow"]), end="")
        found += [f"Triton {told['triton']}: {fault}" for fault in told["faults"]]
    return found


DO = {"pack": lambda options: gpu_wheels.pack(options.pack), "dry": dry, "compile": compile_all}

if __name__ == "__main__":
    sys.exit(main())
