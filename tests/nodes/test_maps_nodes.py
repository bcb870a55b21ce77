"""Video Attention Maps on real models: right for their layouts, and the model never notices."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from shaping import shaped
from tiny import CASES
from tiny.case import parts
from witness import given, row_of, with_witness

from attention.inspect.draw_maps import foot_of

NAMES = (
    "LTX-Video 0.9", "LTX-Video 0.9 guides", "LTX-Video 0.9 a batch of 2, both prompts at once", "LTX-2",
    "LTX-2 one frame, batch of 2", "Wan 2.1 T2V", "Wan 2.1 I2V", "Wan 2.1 VACE", "Wan 2.1 HuMo", "HunyuanVideo",
    "HunyuanVideo padded prompt", "HunyuanVideo 1.5 I2V", "Mochi 1", "CogVideoX", "Stable Diffusion 1.5",
)  # fmt: skip
# Calls that the model makes for each frame by itself.
LEFT_OUT = {"Wan 2.1 HuMo": {"video to audio"}}
BY_NAME = {str(case): case for case in CASES}
WIDGETS = {"blocks": "", "heads": "", "percent": 0.5, "x": 50.0, "y": 50.0, "frame": 0, "seed": 0, "add_noise": True}

pytestmark = pytest.mark.usefixtures("inference")


@pytest.fixture(scope="module")
def models():
    """Builds each tiny model once: (case) -> MODEL."""
    built = {}
    return lambda case: built.get(case.build) or built.setdefault(case.build, case.build())


@pytest.fixture
def show(pack):
    """Outputs of the node by their names."""
    node = pack.nodes.maps.VideoAttentionMaps

    def run(model, positive, latent, **more):
        output = node.execute(model, positive, latent, **{**WIDGETS, **more})
        found = dict(zip([part.id for part in node.GET_SCHEMA().outputs], output.args))
        assert output.ui["text"] == (found["report"],)
        found["shown"] = output.ui.get("maps", ())
        return found

    return run


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_the_softmax_of_what_the_model_attends_with(name, pack, models):
    case, maps, layout = BY_NAME[name], pack.nodes.runs.attention_maps, pack.attention.core.tensor_layout
    positive, latent = given(case)
    witness, calls = with_witness(models(case))
    query = pack.attention.inspect.maps.Query(80, 20, (case.grid or (1,))[0] - 1)
    patched, watcher = maps.watch_attention(witness, query)
    maps.evaluate(patched, positive, latent, 0.7, 0, True)
    assert watcher.views and set(watcher.left_out) == LEFT_OUT.get(name, set())
    waiting = iter(calls)
    for view in watcher.views:  # in the order of the calls, with others between them
        token = view.video_span.start + query.tokens(view.video_span.grid)
        assert any(
            weights is not None and (weights - view.weights).abs().max() <= 1e-5
            for weights in (row_of(call, token, len(view.weights), layout) for call in waiting)
        )
        assert abs(view.weights.sum().item() - 1) <= 1e-5
        assert not view.shares or abs(sum(view.shares.values()) - 1) <= 1e-5
    blocks = {
        block for _, role, block in pack.nodes.host.model_family.family_of(patched).sites(patched.model.diffusion_model)
    }
    assert {view.site.block for view in watcher.views} <= blocks


@pytest.mark.parametrize("name", NAMES)
def test_the_model_gives_the_same_bits_and_keeps_nothing(name, pack, models):
    case, maps = BY_NAME[name], pack.nodes.runs.attention_maps
    (positive, latent), model = given(case), models(case)
    before = dict(model.model_options.get("transformer_options", {}))
    patched, watcher = maps.watch_attention(model, pack.attention.inspect.maps.Query())
    watched = maps.evaluate(patched, positive, latent, 0.7, 3, True)
    plain = maps.evaluate(model, positive, latent, 0.7, 3, True)
    for ours, theirs in zip(parts(watched), parts(plain)):
        assert torch.equal(ours, theirs) and torch.isfinite(theirs).all()
    assert watcher.views and model.model_options.get("transformer_options", {}) == before
    assert not any(module._forward_pre_hooks for module in model.model.diffusion_model.modules())


@pytest.mark.parametrize("name", ["LTX-Video 0.9", "LTX-2", "Wan 2.1 T2V", "HunyuanVideo"])
def test_the_node_shows_pictures_and_figures(name, show, models):
    import folder_paths

    case = BY_NAME[name]
    positive, latent = given(case)
    clip = torch.rand(9, 96, 128, 3)
    found = show(models(case), positive, latent, frame=1, images=clip)
    frames = case.grid[0]
    assert found["heat"].shape == (frames, 96 * 4 + foot_of(128 * 4), 128 * 4, 3)
    for image in (found["heat"], found["shares"], found["token_heat"]):
        assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1 and image.std() > 0.01
    assert "text: 7 tokens in" in found["report"] and "\nmean of 0-" in found["report"]
    assert (re.search("^block .* text", found["report"], re.M) is not None) == (name == "HunyuanVideo"), (
        "text in the same sequence, or apart"
    )
    assert ("audio: 9 tokens" in found["report"]) == (name == "LTX-2")
    check_shown(found["shown"][0], case.grid, clip, Path(folder_paths.get_temp_directory()))
    mask = torch.zeros(96, 128)
    mask[:48] = 1
    assert (
        "tokens, the first at frame 1, row 0, column 0"
        in show(models(case), positive, latent, frame=1, mask=mask)["report"]
    )


def check_shown(shown: dict, grid, clip, folder: Path) -> None:
    """On the node: heat of the mean and of each block by itself, the clip, what the tokens receive."""
    heat, (frames, rows, columns) = shown["heat"], grid
    assert heat["grid"] == list(grid) and heat["layers"][0].startswith("mean of 0-")
    with Image.open(folder / heat["filename"]) as file:
        assert file.mode == "L" and file.size == (columns * heat["columns"], rows * file.height // rows)
        pixels = np.array(file)
    tiles = pixels.reshape(-1, rows, heat["columns"], columns).swapaxes(1, 2).reshape(-1, rows, columns)
    layers = tiles[: frames * len(heat["layers"])].reshape(len(heat["layers"]), frames, rows, columns)
    # Each by its own brightest token, and no two alike.
    assert (layers.reshape(len(layers), -1).max(1) == 255).all()
    assert all((one != other).any() for one, other in zip(layers, layers[1:]))
    with av.open(str(folder / shown["clips"]["filename"])) as file:
        played = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    height, width = clip.shape[1:3]
    assert len(played) == len(clip) == shown["clips"]["frames"]
    assert (shown["clips"]["height"], shown["clips"]["width"]) == (height, width)
    assert np.abs(played[:, :height, :width].mean((1, 2)) / 255 - clip.numpy().mean((1, 2))).max() < 0.05
    text = next(received for received in shown["tokens"] if received["kind"] == "text")
    assert text["words"] is None and text["why"] == "Connect clip to see words here."
    assert len(text["weights"]["mean"]) == text["count"] == 7


def test_the_words_of_the_demo_s_prompt(lab, show):
    (shown,) = show(lab.model, lab.prompt[0], {"samples": lab.sample()})["shown"]
    (text,) = shown["tokens"]
    assert text["words"] == ["red", "disc", "right"] and not text["why"] and shown["clips"] is None
    assert sum(text["weights"]["mean"]) == pytest.approx(1, abs=1e-4) and set(text["weights"]) == {
        "mean", "block 0", "block 1",
    }  # fmt: skip
    json.dumps(shown)


def test_the_prompt_and_the_step_count(lab, show):
    latent = {"samples": lab.sample()}
    first = show(lab.model, lab.prompt[0], latent)
    assert "LTXV" not in first["report"] and "Noise level" in first["report"]
    for change in ({"percent": 0.9}, {"seed": 1}, {"frame": 1}, {"blocks": "1"}, {"heads": "1"}, {"x": 0.0}):
        assert not torch.equal(show(lab.model, lab.prompt[0], latent, **change)["heat"], first["heat"]), change
    assert not torch.equal(show(lab.model, lab.prompt[1], latent)["token_heat"], first["token_heat"])


def test_a_fast_kernel_has_the_same_maps_and_still_runs(lab, show):
    """Also under a backend; its override runs as before."""
    latent, model = {"samples": lab.sample()}, lab.backend(backend="sdpa")
    ours, plain = (show(m, lab.prompt[0], latent) for m in (model, lab.model))
    assert torch.allclose(ours["heat"], plain["heat"], atol=0.02)
    patched, watcher = lab.pack.nodes.runs.attention_maps.watch_attention(
        model, lab.pack.attention.inspect.maps.Query()
    )
    out = lab.pack.nodes.runs.attention_maps.evaluate(patched, lab.prompt[0], latent, 0.7, 0, True)
    calls = lab.calls_of(lab.report(out))
    assert calls == {("self", "sdpa"): 2, ("cross", "sdpa"): 2} and len(watcher.views) == 4


def test_a_sparse_pattern_has_maps(lab):
    """From the q and k that the kernel gets: exact in the first block, later ones see what the kernel did before."""
    latent, query = {"samples": lab.sample()}, lab.pack.attention.inspect.maps.Query(80, 20, 1)

    def views(model):
        patched, watcher = lab.pack.nodes.runs.attention_maps.watch_attention(model, query)
        out = lab.pack.nodes.runs.attention_maps.evaluate(patched, lab.prompt[0], latent, 0.7, 0, True)
        return watcher.views, lab.report(out)

    exact, _ = views(lab.model)
    sparse, report = views(shaped(lab.pack, lab.model).args[0])
    assert ("self", "spatial (folded)") in lab.calls_of(report), lab.calls_of(report)
    assert len(sparse) == len(exact) == 4
    assert (sparse[0].weights - exact[0].weights).abs().max() <= 1e-6
    assert (sparse[2].weights - exact[2].weights).abs().max() > 1e-6
    # The map is of softmax(QK), not of what the pattern let through: other frames keep their weight.
    assert sum(share for part, share in sparse[0].shares.items() if part != "same frame") > 0.1


@pytest.fixture
def fed(lab):
    """A model, and (input, noise level) of each of its evaluations."""
    model, seen = lab.model.clone(), []

    def look(apply, given):
        seen.append((given["input"].clone(), float(given["timestep"][0])))
        return apply(given["input"], given["timestep"], **given["c"])

    model.set_model_unet_function_wrapper(look)
    return model, seen


def test_the_first_of_sigmas_or_percent_is_the_noise_level(lab, show, fed):
    model, seen = fed
    latent = {"samples": torch.ones(1, 128, 2, 3, 4)}
    report = show(model, lab.prompt[0], latent, sigmas=torch.tensor([0.25, 0.1, 0.0]))["report"]
    show(model, lab.prompt[0], latent, percent=0.0)
    assert [level for _, level in seen] == pytest.approx([0.25, 1.0]) and "Noise level 0.25." in report
    assert seen[1][0].std() > 0.9


def test_a_run_cut_in_two_shows_its_own_step(lab, show, fed):
    """As the help page says: the first part's latent, low_sigmas, no new noise."""
    import comfy.sample
    import comfy.samplers

    (model, seen), (positive, negative) = fed, lab.prompt
    empty, sigmas = torch.zeros(1, 128, 2, 3, 4), torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])
    noise, euler = comfy.sample.prepare_noise(empty, 1), comfy.samplers.sampler_object("euler")
    run = [noise, 1.0, euler, sigmas, positive, negative, empty]
    comfy.sample.sample_custom(model, *run, disable_pbar=True, seed=1)
    run[3] = sigmas[:3]
    half = comfy.sample.sample_custom(lab.model, *run, disable_pbar=True, seed=1)
    show(model, positive, {"samples": half}, sigmas=sigmas[2:], add_noise=False)
    assert len(seen) == 5 and seen[4][1] == seen[2][1] == 0.5
    assert lab.error(seen[4][0], seen[2][0]) < 1e-5


@pytest.mark.parametrize(
    ("widgets", "sentence"),
    [
        ({"blocks": "2"}, "blocks: 2 is not in this model, whose blocks are 0 to 1."),
        ({"blocks": "0-7"}, "blocks: 7 is not in this model, whose blocks are 0 to 1."),
        ({"blocks": "first"}, "blocks: 'first' is not a block or a span of blocks"),
        ({"heads": "all"}, "heads: 'all' is not a head or a span of heads"),
        ({"frame": 2}, "frame: 2 is not in this latent, whose frames are 0 to 1."),
        ({"mask": torch.zeros(1, 8, 8)}, "mask: nothing is marked in it."),
        ({"heads": "2"}, "heads: 2 is not in the self-attention, whose heads are 0 to 1."),
        ({"sigmas": torch.tensor([0.0])}, "sigmas: the first noise level must be above 0"),
        ({"sigmas": torch.tensor([])}, "sigmas: the first noise level must be above 0"),
    ],
)
def test_what_is_not_there_gets_one_sentence(lab, show, widgets, sentence):
    with pytest.raises(ValueError) as told:
        show(lab.model, lab.prompt[0], {"samples": torch.zeros(1, 128, 2, 3, 4)}, **widgets)
    assert str(told.value).startswith(sentence) and "\n" not in str(told.value)
    assert lab.hooks(lab.model) == 0


def test_context_windows_get_a_sentence(lab, show):
    model = lab.model.clone()
    model.model_options["context_handler"] = object()
    with pytest.raises(ValueError, match="model: context windows show the clip in parts"):
        show(model, lab.prompt[0], {"samples": torch.zeros(1, 128, 2, 3, 4)})


def test_a_model_without_placed_attention_says_so(models, show, pack, lab, monkeypatch):
    case = BY_NAME["Stable Video Diffusion"]
    found = show(models(case), *given(case))
    for role in ("spatial", "temporal", "image"):
        assert f"No map of {role}-attention: this model folds frames or places into the batch" in found["report"]
    assert found["heat"].shape == (1, 64, 64, 3) and not found["shown"]
    monkeypatch.setattr(pack.nodes.host.model_family, "family_of", lambda patcher: None)
    report = show(lab.model, lab.prompt[0], {"samples": torch.zeros(1, 128, 2, 3, 4)})["report"]
    assert "nothing is known of this model's tokens" in report


def test_every_noise_level_is_one_the_model_knows(models, pack):
    for name in ("LTX-Video 0.9", "Stable Diffusion 1.5", "Stable Video Diffusion", "Wan 2.1 T2V"):
        model = models(BY_NAME[name])
        levels = [pack.nodes.runs.attention_maps.sigma_at(model, percent) for percent in (0.0, 0.3, 0.6, 1.0)]
        assert levels == sorted(levels, reverse=True) and len(set(levels)) == 4
        assert all(math.isfinite(level) and 0 < level < 1000 for level in levels)
