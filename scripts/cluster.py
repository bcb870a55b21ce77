"""Makes many clips of one workflow on many GPUs: a ComfyUI with this pack on each, dealt out by Ray.

    python scripts/cluster.py render workflow.json --seeds 0-63 --out DIR [--workers N] [--models FOLDER]
        [--plans FOLDER] [--address ADDRESS] [--comfyui PATH] [-- ComfyUI's own arguments]

workflow.json: as ComfyUI saves it, or its API format. Each clip is the workflow with another seed, its files in
DIR/seed-N. What is there already is not made again, so a second call goes on where the first was stopped. Needs Ray:
pip install -r requirements-cluster.txt. On several machines this folder lies at the same path on each, and --address
is that of the Ray cluster; without it the GPUs of this machine are used, or its CPU where it has none.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

import client
import host
from clip_farm import ClipFailed, Farm, WorkerDied

ROOT = Path(__file__).resolve().parent.parent
DONE = "done.json"


class Renderer:
    """A worker: a running ComfyUI. Ray makes it an actor, in a process of its own.

    folder: of ComfyUI. models: its models' folder, or None. plans: a folder of plan files, or None.
    arguments: for ComfyUI.
    """

    def __init__(self, folder: str, models: str | None, plans: str | None, arguments: tuple[str, ...]):
        self._open = contextlib.ExitStack()
        self.base = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="clips-")))
        furnish(self.base, models, plans)
        self._client = client.Client(self._open.enter_context(host.serve(Path(folder), self.base, None, arguments)))
        self._info = self._client.object_info()

    def render(self, workflow: dict, seed: int) -> dict:
        """Makes the clip of a seed: {"files": {name: bytes}}, or {"failed": why}."""
        try:
            outputs = self._client.run(with_seed(workflow, seed, self._info))
            files = client.files(outputs, self.base)
            if not files:
                return {"failed": "the workflow saved nothing: it needs a Save Video, Save Image or Save Latent node"}
            return {"files": {file.name: file.read_bytes() for file in files}}
        except client.RunFailed as failed:
            return {"failed": str(failed)}


def furnish(base: Path, models: str | None, plans: str | None) -> None:
    """Makes a ComfyUI base folder with somebody's models and plans."""
    if models is not None:
        (base / "models").symlink_to(Path(models).resolve(), target_is_directory=True)
    if plans is not None:
        folder = base / "user" / "video_attention_plans"
        folder.parent.mkdir(parents=True)
        folder.symlink_to(Path(plans).resolve(), target_is_directory=True)


def with_seed(workflow: dict, seed: int, info: dict) -> dict:
    """A prompt of a workflow in either format, with every seed in it set. RunFailed where it has none."""
    prompt = client.to_prompt(workflow, info) if "nodes" in workflow else json.loads(json.dumps(workflow))
    found = 0
    for node in prompt.values():
        for name in client.SEEDS:
            if isinstance(node["inputs"].get(name), int):
                node["inputs"][name] = seed
                found += 1
    if not found:
        raise client.RunFailed("the workflow has no seed: every clip would be the same")
    return prompt


class RayCluster:
    """Actors of Ray, one for each GPU."""

    def __init__(self, ray, workflow: dict, given: tuple, gpus: int):
        self.ray, self.workflow, self.given = ray, workflow, given
        # A worker's own Python must find this folder.
        found = os.pathsep.join(filter(None, (str(ROOT / "scripts"), os.environ.get("PYTHONPATH"))))
        told = {"num_gpus": gpus, "num_cpus": 0 if gpus else 1, "runtime_env": {"env_vars": {"PYTHONPATH": found}}}
        self._actor = ray.remote(**told)(Renderer)

    def start(self, slot: int):
        return self._actor.remote(*self.given)

    def submit(self, worker, clip):
        return worker.render.remote(self.workflow, clip)

    def wait(self, promises: list) -> list:
        return self.ray.wait(promises, num_returns=1)[0]

    def result(self, promise) -> dict:
        try:
            answer = self.ray.get(promise)
        except self.ray.exceptions.RayError as error:
            # Errors of a worker's own code come as this, too: without its ComfyUI it is of no use.
            raise WorkerDied(str(error).strip().splitlines()[-1]) from None
        if "failed" in answer:
            raise ClipFailed(answer["failed"])
        return answer["files"]


class Shelf:
    """The folder that the clips go to.

    out: the folder. workflow: of which they are.
    """

    def __init__(self, out: Path, workflow: dict):
        self.out, self.mark = out, hashlib.sha256(json.dumps(workflow, sort_keys=True).encode()).hexdigest()
        told = out / "workflow.json"
        if told.exists() and json.loads(told.read_text())["sha256"] != self.mark:
            raise host.SetUpError(f"--out: {out} has clips of another workflow. Take another folder.")
        out.mkdir(parents=True, exist_ok=True)
        told.write_text(json.dumps({"sha256": self.mark, "workflow": workflow}, indent=1))

    def folder(self, seed: int) -> Path:
        return self.out / f"seed-{seed}"

    def has(self, seed: int) -> bool:
        return (self.folder(seed) / DONE).exists()

    def put(self, seed: int, files: dict[str, bytes]) -> None:
        """Keeps a clip's files; its mark last, so that a clip that was stopped half-way is made again."""
        folder = self.folder(seed)
        folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (folder / Path(name).name).write_bytes(data)
        (folder / DONE).write_text(json.dumps(sorted(files)))


def seeds_of(text: str) -> list[int]:
    """Reads `0-63,100` as numbers."""
    found: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise host.SetUpError(f"--seeds: {part!r} is no number and no range, as 0-63,100.")
        found |= dict.fromkeys(range(int(first), int(last or first) + 1))
    return list(found)


class Progress:
    """Says what came, and how long the rest may take."""

    def __init__(self, total: int, workers: int):
        self.total, self.workers, self.done, self.begun = total, workers, 0, time.monotonic()

    def __call__(self, seed: int, slot: int) -> None:
        self.done += 1
        each = (time.monotonic() - self.begun) / self.done
        left = each * (self.total - self.done) / 60
        host.say(f"{self.done} of {self.total}: seed {seed}, by worker {slot}; about {left:.0f} min left")


def render(options) -> int:
    workflow = json.loads(Path(options.workflow).read_text(encoding="utf-8"))
    shelf, seeds = Shelf(options.out, workflow), seeds_of(options.seeds)
    todo = [seed for seed in seeds if not shelf.has(seed)]
    if len(todo) < len(seeds):
        host.say(f"{len(seeds) - len(todo)} of {len(seeds)} clips are in {options.out} already.")
    if not todo:
        return 0
    # Ray makes its workers nice by 15, and so would the ComfyUIs be: anything else on the machine came first.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        raise host.SetUpError("Ray is not installed: pip install -r requirements-cluster.txt") from None
    ray.init(address=options.address, log_to_driver=False, include_dashboard=False)
    try:
        return _render_on(ray, options, workflow, shelf, todo)
    finally:
        ray.shutdown()


def _render_on(ray, options, workflow: dict, shelf: Shelf, todo: list[int]) -> int:
    gpus = int(ray.cluster_resources().get("GPU", 0))
    workers = min(options.workers or gpus or 1, len(todo))
    arguments = tuple(options.arguments) or (() if gpus else ("--cpu",))
    folder = options.comfyui or host.HOME / f"ComfyUI-{host.COMFYUI}"
    told = (options.models and str(options.models), options.plans and str(options.plans))
    given = (str(folder), *told, arguments)
    progress = Progress(len(todo), workers)

    def made(seed, files, slot):
        shelf.put(seed, files)
        progress(seed, slot)

    failed = Farm(RayCluster(ray, workflow, given, 1 if gpus else 0), workers, made).run(todo)
    for seed, why in failed.items():
        host.say(f"seed {seed} failed: {why}")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("render", help="make clips of one workflow with many seeds")
    one.add_argument("workflow", type=Path)
    one.add_argument("--seeds", required=True, help="as 0-63,100")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--workers", type=int, default=0, help="ComfyUIs at once; default: one for each GPU")
    one.add_argument("--models", type=Path, help="ComfyUI's models folder, at the same path on every machine")
    one.add_argument("--plans", type=Path, help="folder of plan files, so that all clips are made alike")
    one.add_argument("--address", help="of a Ray cluster, as auto; default: this machine alone")
    one.add_argument("--comfyui", type=Path, help="a ComfyUI folder to use instead of the pinned one")
    one.add_argument("arguments", nargs="*", help="after --: for ComfyUI itself")
    return render(parser.parse_args())


if __name__ == "__main__":
    host.main(main)
