"""The two nodes that measure clips, in a real ComfyUI."""

from __future__ import annotations

import functools
import json
import math

import pytest
import torch
from clips_made import make_object, make_pan, make_still
from prompts import node, prompt, sampler

from attention.core import canvas
from attention.core.canvas import length

pytestmark = pytest.mark.usefixtures("inference")


@pytest.fixture
def measure(pack):
    """Outputs of Temporal Metrics by their names."""
    node = pack.nodes.metrics.VideoAttentionTemporalMetrics
    return lambda *clip, **more: named(node, as_host_runs(node)(*clip, **more))


@pytest.fixture
def compare(pack):
    """Outputs of Compare by their names."""
    node = pack.nodes.metrics.VideoAttentionCompare
    return lambda first, second, split=0.5: named(node, as_host_runs(node)(first, second, split))


def as_host_runs(node):
    """A node's `execute` as ComfyUI calls it: with a copy of the class on which nothing can be set."""
    from comfy_api.internal import lock_class

    node.SCHEMA = None
    return functools.partial(node.execute.__func__, lock_class(node.PREPARE_CLASS_CLONE(None)))


def named(node, output) -> dict:
    ids = [part.id for part in node.GET_SCHEMA().outputs]
    assert len(ids) == len(output.args)
    found = dict(zip(ids, output.args))
    # What the node shows is what it gives, and scripts find every figure that it gives.
    assert output.ui["text"] == (found["report"],)
    (figures,) = output.ui["figures"]
    assert json.loads(found["figures"]) == figures
    for name, value in found.items():
        if isinstance(value, float) and math.isfinite(value):
            assert value in [*figures.values(), *(one["value"] for one in figures["worst"].values())], name
    return found


def is_image(image) -> bool:
    return (
        image.ndim == 4
        and image.shape[3] == 3
        and image.dtype == torch.float32
        and 0 <= image.min() <= image.max() <= 1
    )


FIGURES = ("flicker", "warp_error", "acceleration", "identity_drift", "sharpness")


def test_metrics_of_a_clip(measure):
    clip = make_pan(3, 1)
    clip[1::2] += 0.1
    found = measure(clip)
    assert found["flicker"] == pytest.approx(0.1, rel=0.1) and found["warp_error"] == pytest.approx(0.01, rel=0.1)
    assert all(isinstance(found[name], float) and found[name] > 0 for name in FIGURES)
    assert found["report"].startswith("6 frames of 91 x 70, ") and "warping error" in found["report"]
    assert is_image(found["chart"]) and found["chart"].shape[2] == canvas.WIDTH
    assert found["brightness_flicker"] == pytest.approx(0.1, rel=0.02) and found["motion"] > 4
    assert found["frozen"] == found["loop"] == found["cuts"] == 0
    assert found["worst_flicker"] >= found["flicker"] and 1 <= found["worst_frame"] < len(clip)
    assert found["acceleration_percent"] == pytest.approx(100 * found["acceleration"] / 70)
    worst = json.loads(found["figures"])["worst"]
    assert set(worst) >= {"motion", "flicker", "acceleration", "identity drift", "colour drift", "sharpness"}
    assert worst["flicker"] == {"frame": found["worst_frame"], "value": found["worst_flicker"]}


def test_a_mask_says_whose_identity(measure):
    clip, mask = make_object([3] * 3 + [8] * 3)
    steady, _ = make_object([3] * 6)
    swapped, same = measure(clip, mask)["identity_drift"], measure(steady, mask)["identity_drift"]
    assert same < 0.01 and swapped > 0.1 > 5 * same
    # The default of Load Image's mask: an empty one.
    assert "The mask is empty" in measure(clip, torch.zeros(1, 64, 64))["report"]


@pytest.fixture(scope="module")
def clip_vision(comfy_host):
    """ComfyUI's own CLIP-vision class, tiny, with random weights."""
    import comfy.clip_vision

    config = {
        "hidden_act": "quick_gelu", "hidden_size": 32, "image_size": 28, "intermediate_size": 64, "num_channels": 3,
        "model_type": "clip_vision_model", "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 14,
        "projection_dim": 16,
    }  # fmt: skip
    model = comfy.clip_vision.ClipVisionModel(config)
    random = torch.Generator().manual_seed(0)
    weights = {
        k: torch.randn(v.shape, generator=random) * 0.3 for k, v in model.get_sd().items() if v.is_floating_point()
    }
    model.load_sd(weights)
    return model


def test_clip_vision_compares_identity(measure, clip_vision):
    clip, mask = make_object([3] * 3 + [8] * 3, step=0)
    # Something else moves: frames that equal the one before add nothing.
    clip[1::2, :10] *= 0.5
    mask = mask.expand(6, -1, -1)
    drift = measure(clip, mask, clip_vision)["identity_drift"]
    direct = [
        clip_vision.encode_image(clip[n : n + 1, 20:50, 20:50], crop=False)["image_embeds"][0].double() for n in (0, 5)
    ]
    # Three of five frames show the other object.
    assert drift == pytest.approx(0.6 * (1 - torch.cosine_similarity(*direct, dim=0).item()), rel=1e-4)
    assert drift > 1e-4 and drift != pytest.approx(measure(clip, mask)["identity_drift"], rel=0.01)


def broken():
    clip = make_still(3)
    clip[2, 0, 0, 0] = math.nan
    return clip


def test_what_cannot_be_measured_is_a_sentence(measure):
    one, bad = measure(make_still(1)), measure(broken())
    assert all(math.isnan(one[name]) for name in FIGURES[:4]) and one["sharpness"] > 0
    assert "One frame: only its sharpness can be measured." in one["report"]
    assert all(math.isnan(bad[name]) for name in FIGURES)
    assert bad["report"] == "Frame 2 holds NaN or Inf, so there is nothing to measure."
    assert is_image(bad["chart"])


def test_comparison(compare):
    clip = make_still(3)
    other = clip.clone()
    other[1] = (other[1] + 0.1).clamp(0, 1)
    found = compare(clip, other)
    assert found["psnr"] == pytest.approx(20 + 10 * math.log10(3), abs=0.1) and 0.5 < found["ssim"] < 1
    assert "Worst frame: 1" in found["report"]
    assert found["verdict"].startswith("Far apart: 24.8 dB") and found["verdict"] in found["report"]
    assert found["unsteady"] == pytest.approx(1.0) and found["motion"] < 1e-3
    assert found["reference_motion"] == 0 and found["reference_frozen"] == 1 and found["frozen"] == 0
    assert all(is_image(found[name]) for name in ("chart", "worst_frame", "wipe"))
    assert torch.equal(found["wipe"][0, :, :40], clip[1, :, :40])
    assert torch.equal(found["wipe"][0, :, 50:], other[1, :, 50:])
    assert torch.equal(compare(clip, other, split=0.0)["wipe"][0], other[1])
    # Three frames beside each other, as far apart as the longest of their names needs.
    column = max(91, math.ceil(length("reference, frame 1", 15)))
    assert found["worst_frame"].shape[1:3] == (70 + 38, 3 * column + 32)


def test_equal_clips(compare):
    found = compare(make_still(2), make_still(2))
    assert found["psnr"] == math.inf and found["ssim"] == pytest.approx(1.0, abs=1e-5)
    assert "All pixels are equal." in found["report"]


@pytest.mark.parametrize(
    "other, words",
    [
        (torch.zeros(2, 64, 80, 3), "the reference has 3 frames of 91 x 70, the other 2 frames of 80 x 64."),
        (broken(), "Frame 2 holds NaN or Inf"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(compare, other, words):
    found = compare(make_still(3), other)
    assert words in found["report"] and math.isnan(found["psnr"]) and math.isnan(found["ssim"])
    assert all(is_image(found[name]) for name in ("chart", "worst_frame", "wipe"))


def test_cancelling_stops_the_measuring(measure, monkeypatch):
    import comfy.utils

    class Cancelled(Exception):
        pass

    def stop(value, total, preview, node_id=None):
        assert total == 6
        if value == 3:
            raise Cancelled

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", stop)
    # The host keeps back what follows sooner than 0.1 s, and six frames take less.
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0.0, raising=False)
    with pytest.raises(Cancelled):
        measure(make_still(6))


def test_inputs_stay_as_they_are(measure, compare):
    clip, mask = make_object([3] * 3)
    before = clip.clone(), mask.clone()
    measure(clip, mask)
    compare(clip, clip + 0.1)
    assert torch.equal(clip, before[0]) and torch.equal(mask, before[1])


def test_what_the_samplings_took_stands_below(pack):
    origin = pack.nodes.host.clip_origin
    known, none = origin.Cost(12.5, 4096 << 20, 3 << 20), origin.Cost()
    assert origin.to_table({"reference": none, "images": none}) == ""
    assert origin.to_table({"reference": none, "images": origin.Cost(2.0)}).splitlines() == [
        "| clip | seconds |", "| --- | --- |", "| reference | - |", "| images | 2.00 |",
    ]  # fmt: skip
    assert origin.to_table({"reference": known, "images": none}).splitlines()[0::2] == [
        "| clip | seconds | peak of the run, MiB | peak of a call, MiB |", "| reference | 12.50 | 4,096 | 3 |",
    ]  # fmt: skip


@pytest.fixture
def seconds(pack, queue):
    """Nodes, two clips named `reference` and `images` among them -> what Compare says that each took, in seconds."""

    def run(**nodes):
        links = {name: [name, 0] for name in ("reference", "images")}
        compare = node("VideoAttentionCompare", **links, split=0.5)
        shown = queue.run(prompt(**nodes, compare=compare), ("VideoAttentionCompare",))["compare"]
        (played,) = shown["compare"]
        for one in filter(None, played["seconds"]):
            assert f" {one:.2f} |" in shown["text"][0]
        return played["seconds"]

    return run


@pytest.fixture
def took(pack):
    """Names of samplers -> the seconds of all their steps."""
    known = pack.nodes.host.run_history.known
    return lambda *names: pytest.approx(
        sum(step.seconds for run in known() if run.node in names for step in run.report.timeline)
    )


def decoded(latent: str, **more) -> dict:
    return node("StandInDecode", samples=[latent, 0], **more)


def test_a_clip_took_what_its_sampler_took(seconds, took):
    """Followed through what changes it, and through a switch of any type, up to the sampler that is next."""
    found = seconds(
        reference=decoded("first"), first=sampler("backend", "before", parts=2), before=sampler("backend", seed=2),
        images=node("StandInSwitch", first=["clip", 0], second=["clip", 0], which=0), clip=decoded("cut"),
        cut=node("StandInTrim", samples=["second", 0]), second=sampler("backend", seed=3, windows=2),
    )  # fmt: skip
    assert found == [took("first"), took("second")] and found[0] != found[1]


def test_a_clip_of_two_samplers_took_both_or_is_not_known(seconds, took):
    both = {"a": sampler("backend", seed=2), "joined": node("StandInTrim", samples=["a", 0], other=["b", 0])}
    clips = {"reference": decoded("joined"), "images": decoded("a")}
    assert seconds(**both, **clips, b=sampler("backend", seed=3)) == [took("a", "b"), took("a")]
    # Nobody counted the other.
    assert seconds(**both, **clips, b=sampler("model", seed=3))[0] is None


def test_what_a_clip_is_decoded_with_did_not_make_it(seconds, took):
    """A VAE through a switch of any type, which has a latent at its other input."""
    vae = node("StandInSwitch", first=["none", 0], second=["other", 0], which=0)
    found = seconds(
        reference=decoded("first", vae=["vae", 0]), images=decoded("first"), first=sampler("backend"), vae=vae,
        none=node("StandInMask"), other=sampler("model", seed=2),
    )  # fmt: skip
    assert found == [took("first")] * 2
