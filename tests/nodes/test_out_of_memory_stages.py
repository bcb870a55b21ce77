"""Memory that is missing at any stage of a sampling or of a node that measures: the render finishes, and says so.

No stage is named: a first run shows which functions of this pack allocate at all, and memory is taken from each of them
in turn, once and for good. What is sampled follows the tables of kernels, patterns and guidance.
"""

from __future__ import annotations

from pathlib import Path

import calibrating
import guidance_rows
import pytest
import torch
from memory_missing import FailsIn
from reusing import reuse
from shaping import shaped

from attention.plans.plan_file import PATTERNS

ALWAYS = 1 << 30
# Rooms of what measures; Compare tries those of clips.
MEASURING = tuple(str(Path(*room)) for room in (("attention", "plans"), ("nodes", "runs"), ("nodes", "verify")))


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def everywhere(run, good, times=(1, ALWAYS), rooms=("",)) -> set[str]:
    """Take memory from each function that allocates while `run` runs; each time `good` must hold of what it gives.

    times: how often each of them finds none.
    rooms: whose functions these are, where others are tried by themselves and a run takes long.
    Gives the files of these functions.
    """
    run()  # what is made once and kept
    with FailsIn() as usual:
        assert good(run())
    assert usual.seen
    for place in (place for place in usual.seen if place[0].startswith(rooms)):
        for often in times:
            with FailsIn(place, often) as missing:
                out = run()
            assert missing.raised, f"{place} did not allocate again"
            assert good(out), f"memory missing in {place}, {'once' if often == 1 else 'always'}"
    return {file for file, _ in usual.seen}


@pytest.fixture
def fresh(lab):
    """Lets every run choose anew."""

    def forget():
        lab.pack.attention.backends.autotune._CHOSEN.clear()
        lab.pack.attention.sparse.autotune._CHOSEN.clear()

    return forget


def near(lab, exact, loose=0.9):
    """Finite, and no other clip than the pattern or the guidance makes: zeros are off by 1, another clip by 1.4."""

    def check(latent) -> bool:
        return bool(latent.isfinite().all()) and lab.error(latent, exact) < loose

    return check


def clip(lab, model, before=lambda: None, **more):
    def run():
        before()
        return lab.sample(model, **{"steps": 3, **more})

    return run


@pytest.mark.parametrize("choice", ["measure", "table order"])
def test_kernels(lab, fresh, choice):
    """auto's choice, its spot check by the exact reference, and what it chose."""
    model = lab.backend(lab.model, backend="auto", auto_choice=choice, timing=True)
    files = everywhere(clip(lab, model, fresh), near(lab, lab.sample(steps=3), 1e-3))
    met = {Path(file).stem for file in files}
    assert choice != "measure" or {"spot_check", "reference", "input_copies"} <= met


@pytest.mark.parametrize("row", PATTERNS.values(), ids=lambda row: row.name)
def test_patterns(lab, fresh, row):
    """Tiles, gathered blocks, lists and the choice between engines, for every pattern."""
    model = shaped(lab.pack, lab.model, row.name, auto_choice="measure").args[0]
    ran = {used.split(" (")[0] for _, used in lab.counted(model, steps=3)}
    files = everywhere(clip(lab, model, fresh), near(lab, lab.sample(steps=3)))
    assert row.name not in ran or any(Path(file).parent.name == "sparse" for file in files)


@pytest.mark.parametrize("row", guidance_rows.NAMES)
def test_guidance(lab, row):
    try:
        model = guidance_rows.execute(guidance_rows.nodes_of(lab.pack)[row], lab.model)[0]
    except ValueError as not_for_it:
        pytest.skip(str(not_for_it))
    out = lab.sample(model, steps=3, cfg=2.0)
    everywhere(clip(lab, model, cfg=2.0), near(lab, out))


def test_strength(lab):
    model = lab.pack.nodes.pattern.VideoAttentionStrength.execute(lab.model, 0.7, 2.0, "self", "", 0.0, 1.0).args[0]
    everywhere(clip(lab, model), near(lab, lab.sample(model, steps=3)))


def test_kept_outputs(lab):
    everywhere(clip(lab, reuse(lab.pack, lab.model)), near(lab, lab.sample(steps=3)))


def test_forecasts(lab):
    host = lab.pack.nodes.host.forecast
    settings = host.ForecastSettings(in_a_row=1, warm_up=2, last=1, max_error=0.0)
    model, steps = host.install(lab.model, settings), 6
    everywhere(lambda: lab.sample(model, steps=steps), near(lab, lab.sample(steps=steps)))


def test_maps(lab):
    node = lab.pack.nodes.maps.VideoAttentionMaps
    latent = {"samples": lab.sample(steps=2)}

    def run():
        return node.execute(lab.model, lab.prompt[0], latent, "", "", 0.5, 50.0, 50.0, 0, 1, True).args[3]

    everywhere(run, lambda text: "Noise level" in text or "memory was missing" in text, (1,))


def test_benchmark(lab):
    node = lab.pack.nodes.benchmark.VideoAttentionBenchmark
    latent = {"samples": torch.zeros(1, 128, 2, 3, 4)}

    def run():
        return node.execute(lab.model, lab.prompt[0], latent, 1).args[0]

    everywhere(run, lambda text: "| ComfyUI |" in text or "memory was missing" in text, (1,))


def test_verify(lab):
    node, (positive, negative) = lab.pack.nodes.verify.VideoAttentionVerify, lab.prompt
    model, latent = lab.backend(lab.model, backend="sdpa math"), {"samples": torch.zeros(1, 128, 2, 3, 4)}
    vae = lab.pack.nodes.demo.DemoVAE()

    def run():
        return node.execute(model, positive, negative, latent, 1, 1, 1.0, "euler", "simple", vae=vae).args[5]

    everywhere(run, lambda report: "The planned latent is" in report, (1,), MEASURING)


def test_calibrate(lab, monkeypatch, tmp_path):
    bench = calibrating.start(lab, monkeypatch, tmp_path)
    bench.offer(bench.patterns.Spatial(), "sdpa math")

    def run():
        bench.plans._MEASURED.clear()
        how = {"block_groups": 1, "step_ranges": 1, "steps": 1, "custom_budget": 10.0, "memory_budget": 64}
        return bench.calibrate(**how)

    files = everywhere(run, lambda found: "Whole sampling" in found["info"], (1,), MEASURING)
    assert {"distance", "input_copies"} <= {Path(file).stem for file in files}


def test_compare(lab):
    node = lab.pack.nodes.metrics.VideoAttentionCompare
    clips = [torch.rand(2, 16, 24, 3) for _ in range(2)]
    everywhere(lambda: node.execute(*clips, 0.5).args[0], lambda psnr: psnr > 0, (1,))
