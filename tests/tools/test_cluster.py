"""scripts/cluster.py: clips dealt out to workers that may die, and kept; once with Ray and two ComfyUIs."""

from __future__ import annotations

import json

import client
import cluster
import host
import pytest
from clip_farm import ATTEMPTS, DEATHS, ClipFailed, Farm, WorkerDied
from host_folder import find_host


class Made:
    """Workers that make a clip at once, or end as told. ends: (clip, how often it was tried) -> an exception."""

    def __init__(self, ends=None):
        self.ends, self.started, self.tried = ends or {}, [], []

    def start(self, slot):
        self.started.append(slot)
        return len(self.started)

    def submit(self, worker, clip):
        self.tried.append(clip)
        return (worker, clip, self.tried.count(clip))

    def wait(self, promises):
        return promises[:1]

    def result(self, promise):
        worker, clip, turn = promise
        if (clip, turn) in self.ends:
            raise self.ends[clip, turn]
        return f"clip {clip}"


def run(cluster, clips, workers=2):
    made = {}
    farm = Farm(cluster, workers, lambda clip, result, slot: made.update({clip: result}))
    return farm.run(clips), made


def test_every_clip_is_made_once():
    workers = Made()
    failed, made = run(workers, range(7))
    assert not failed and made == {n: f"clip {n}" for n in range(7)}
    assert sorted(workers.tried) == list(range(7)) and sorted(workers.started) == [0, 1]


def test_a_clip_whose_worker_died_goes_to_another():
    workers = Made({(3, 1): WorkerDied("gone")})
    failed, made = run(workers, range(6))
    assert not failed and len(made) == 6 and workers.tried.count(3) == 2 and len(workers.started) == 3


def test_a_clip_that_kills_workers_is_given_up_and_the_rest_is_made():
    workers = Made({(2, turn): WorkerDied("out of memory") for turn in range(1, ATTEMPTS + 1)})
    failed, made = run(workers, range(6))
    assert failed == {2: f"{ATTEMPTS} workers died over it: out of memory"} and len(made) == 5


def test_a_clip_that_cannot_be_made_is_not_tried_again():
    workers = Made({(1, 1): ClipFailed("no such model")})
    failed, made = run(workers, range(3))
    assert failed == {1: "no such model"} and set(made) == {0, 2} and workers.tried.count(1) == 1


def test_where_all_die_it_ends():
    workers = Made({(clip, turn): WorkerDied("no disk") for clip in range(20) for turn in range(1, 4)})
    failed, made = run(workers, range(20))
    assert not made and len(failed) == 20 and len(workers.started) <= DEATHS + 2


def test_seeds():
    assert cluster.seeds_of("0-3, 7,2") == [0, 1, 2, 3, 7]
    for wrong in ("", "a", "1-", "3-x"):
        with pytest.raises(host.SetUpError, match="--seeds: "):
            cluster.seeds_of(wrong)


def test_what_is_there_is_not_made_again(tmp_path):
    workflow = {"1": {"class_type": "KSampler", "inputs": {"seed": 0}}}
    shelf = cluster.Shelf(tmp_path / "out", workflow)
    shelf.put(3, {"../clip.mp4": b"x"})
    again = cluster.Shelf(tmp_path / "out", workflow)
    assert again.has(3) and not again.has(4)
    assert (again.folder(3) / "clip.mp4").read_bytes() == b"x" and not (tmp_path / "out" / "clip.mp4").exists()
    (again.folder(3) / cluster.DONE).unlink()
    assert not again.has(3)
    with pytest.raises(host.SetUpError, match="clips of another workflow"):
        cluster.Shelf(tmp_path / "out", {})


def test_every_seed_of_a_workflow_is_set_and_nothing_else():
    prompt = {"1": {"inputs": {"seed": 1, "steps": 2}}, "2": {"inputs": {"noise_seed": 5, "seed": ["1", 0]}}}
    assert cluster.with_seed(prompt, 9, {}) == {
        "1": {"inputs": {"seed": 9, "steps": 2}}, "2": {"inputs": {"noise_seed": 9, "seed": ["1", 0]}},
    }  # fmt: skip
    assert prompt["1"]["inputs"]["seed"] == 1
    with pytest.raises(client.RunFailed, match="no seed"):
        cluster.with_seed({"1": {"inputs": {}}}, 9, {})


def graph() -> dict:
    words = {"colour": "red", "shape": "disc", "direction": "right"}
    sampler = {
        "seed": 0, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
        "model": ["1", 0], "positive": ["2", 0], "negative": ["2", 1], "latent_image": ["3", 0],
    }  # fmt: skip
    size = {"width": 128, "height": 96, "length": 17, "batch_size": 1}
    file = {"unet_name": "video-attention-demo.safetensors", "weight_dtype": "default"}
    return {
        "1": {"class_type": "UNETLoader", "inputs": file},
        "2": {"class_type": "VideoAttentionDemoPrompt", "inputs": words},
        "3": {"class_type": "EmptyLTXVLatentVideo", "inputs": size},
        "4": {"class_type": "KSampler", "inputs": sampler},
        "5": {"class_type": "SaveLatent", "inputs": {"samples": ["4", 0], "filename_prefix": "clip"}},
    }


def test_two_comfyuis_on_ray_and_one_is_killed(tmp_path, monkeypatch):
    """Real: Ray, two workers, each a ComfyUI; the one that is ready first is killed over its second clip."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    # On Linux it is in requirements-dev.txt.
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-cluster.txt")
    folder, lost, started = find_host(), [], []
    shelf, made = cluster.Shelf(tmp_path / "out", graph()), []

    class Deadly(cluster.RayCluster):
        def start(self, slot):
            started.append(slot)
            return super().start(slot)

        def submit(self, worker, clip):
            promise = super().submit(worker, clip)
            if made and not lost:
                lost.append(clip)
                ray.kill(worker)
            return promise

    def keep(seed, files, slot):
        shelf.put(seed, files)
        made.append(seed)

    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        given = (str(folder), None, None, ("--cpu", "--disable-api-nodes"))
        assert Farm(Deadly(ray, graph(), given, gpus=0), 2, keep).run(range(4)) == {}
    finally:
        ray.shutdown()
    # The lost one was made by a worker that took the dead one's place.
    assert len(lost) == 1 and len(started) == 3 and sorted(made) == [0, 1, 2, 3] and all(map(shelf.has, range(4)))
    latents = {next(shelf.folder(seed).glob("*.latent")).read_bytes() for seed in range(4)}
    assert len(latents) == 4
    assert json.loads((shelf.folder(0) / cluster.DONE).read_text())
