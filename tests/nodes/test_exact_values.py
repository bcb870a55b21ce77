"""Small rules whose value is known by hand, at the very edge where a slip would first show."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from attention.backends.autotune import AutotuneResult, KernelTrial
from attention.core.geometry import Geometry
from attention.core.site import AttentionSite
from attention.demo import codec, prompt
from attention.inspect.map_summary import percent
from attention.inspect.report import _trials
from attention.inspect.timeline import StepStats, pace
from attention.measure import flow, tracked_region
from attention.patterns import MassBlocks, TopBlocks
from attention.routing.run_stats import Decision
from attention.sampling.seams import seams


def test_the_gradient_of_a_plane():
    rows, columns = torch.arange(5.0)[:, None], torch.arange(7.0)
    across, down = flow._gradients((3 * columns + 5 * rows)[None, None])
    assert across[..., 1:-1].unique().tolist() == [3.0] and down[..., 1:-1, :].unique().tolist() == [5.0]
    assert across[..., [0, -1]].unique().tolist() == [1.5], "one-sided on the border, over the same two pixels"
    assert down[..., [0, -1], :].unique().tolist() == [2.5]


@pytest.mark.parametrize("size", [(150, 450), (160, 416), (101, 390)], ids=str)
@pytest.mark.parametrize("motion", ["pan", "rotation"])
def test_the_flow_at_sizes_that_no_power_of_two_divides(size, motion):
    """Frames are made smaller by uneven factors to be searched; that may not move what is in them."""
    random = torch.rand(1, 1, size[0] // 8 + 4, size[1] // 8 + 4, generator=torch.Generator().manual_seed(3))
    second = 0.1 + 0.8 * torch.nn.functional.interpolate(random, size, mode="bicubic").clamp(0, 1)
    rows, columns = (torch.arange(n) - n / 2 for n in size)
    if motion == "pan":
        true = torch.tensor([5.3, -2.6]).view(1, 2, 1, 1).expand(1, 2, *size)
    else:
        true = torch.stack([-0.017 * rows[:, None].expand(size), 0.017 * columns.expand(size)])[None]
    error = (flow.estimate_flow(flow.warp(second, true, "bicubic"), second) - true).norm(dim=1)
    assert error[:, 12:-12, 12:-12].mean() < 0.13


def still(size, move=0.0):
    return SimpleNamespace(forward=torch.full((1, 2, *size), move), matched=torch.ones(1, 1, *size, dtype=torch.bool))


@pytest.mark.parametrize("move", [0.0, 2.0])
def test_a_region_that_nothing_scales_keeps_its_size_and_place(move):
    mask, picture = torch.zeros(1, 20, 24), torch.rand(1, 3, 20, 24)
    mask[:, 6:12, 8:14] = 1
    masks, _ = tracked_region.prepare_masks(mask, torch.zeros(3, 20, 24, 3))
    track = tracked_region.locate(tracked_region.Track(), masks, 0, None, picture)
    for step in (1, 2):
        track = tracked_region.locate(track, masks, step, still((20, 24), move), picture)
        assert (track.scale, track.offset.tolist()) == (1.0, [step * move] * 2)
        shift = int(step * move)
        assert torch.allclose(track.region, mask[None].roll((shift, shift), (2, 3)), atol=1e-4)


@pytest.mark.parametrize(
    ("pixels", "first", "measured"), [(0, 0, False), (1, 0, True), (1, 100, False), (2, 100, True), (3, 100, True)]
)
def test_when_next_to_nothing_of_a_region_is_left(pixels, first, measured):
    """Two percent of the first pixels are enough, less are not, and none never are."""
    seen = torch.zeros(1, 1, 10, 10)
    seen.view(-1)[:pixels] = 1
    features = torch.tensor([0.6, 0.8]) if first else None
    track = tracked_region.Track(region=seen, pixels=first, first=features, drift=math.nan)
    found = tracked_region.measure_drift(track, torch.rand(1, 3, 10, 10), lambda box: torch.tensor([0.8, 0.6]))
    if first:
        assert math.isnan(found.drift) != measured
        assert not measured or found.drift == pytest.approx(1 - 0.96)
    else:
        assert (found.first is not None) == measured and math.isnan(found.drift)
        assert found.pixels == pixels


@pytest.mark.parametrize("grow", [0.1, -0.05])
def test_a_region_grows_around_its_own_middle(grow):
    """What moves away from a point leaves that point where it was, wherever the region lies in the frame."""
    here = torch.stack(torch.meshgrid(torch.arange(24.0), torch.arange(20.0), indexing="xy"))
    region, middle = torch.zeros(1, 1, 20, 24), torch.tensor([15.0, 6.0])
    region[..., 4:9, 12:19] = 1.0
    away = SimpleNamespace(forward=(grow * (here - middle[:, None, None]))[None], matched=region > 0)
    track = tracked_region.follow(tracked_region.Track(region=region, offset=torch.zeros(2)), away)
    assert track.scale == pytest.approx(1 + grow, abs=1e-5)
    assert torch.allclose(track.scale * middle + track.offset, middle, atol=1e-4)


def test_half_a_mask_is_outside():
    """Where a mask is 0.5, as between its edge and what is around it, is no part of the region anywhere."""
    half = torch.full((1, 1, 10, 10), 0.5)
    masks, notes = tracked_region.prepare_masks(half[0], torch.zeros(3, 10, 10, 3))
    assert masks is None and notes == ["The mask is empty: identity is that of the whole frame."]
    region, picture = half.clone(), torch.rand(1, 3, 10, 10)
    region[..., 2:5, 3:7] = 1.0
    found = tracked_region.measure_drift(tracked_region.Track(region=region), picture, lambda box: box)
    assert found.pixels == 12 and torch.equal(found.first, picture[..., 2:5, 3:7].movedim(1, -1).flatten())
    track = tracked_region.Track(region=half, offset=torch.zeros(2))
    assert tracked_region.follow(track, still((10, 10), 2.0)) is track


def test_the_pace_of_laps():
    timeline = tuple(StepStats(number, seconds, {}, {}) for number, seconds in enumerate((3.0, 1.0, 2.0), 1))
    assert pace(timeline) == "Time: 3 steps in 6.00 s: the first 3.00 s, then 1.50 s each."
    assert pace(timeline[:1]) == "Time: 1 steps in 3.00 s." and pace(()) == ""
    timed = (
        StepStats(1, 3.0, {}, {("self", "a"): 1.0, ("cross", "b"): 0.5}),
        StepStats(2, 1.0, {}, {("self", "a"): 0.5}),
    )
    assert pace(timed).endswith("then 1.00 s each; 2.00 s of it in attention, 50%.")


def test_the_line_of_what_auto_measured():
    call = Geometry(1, 8, 8, 512, 300, 64, torch.float32, "cpu")
    decision = Decision(AttentionSite("", "self", 0), call, None, "auto", "sdpa")
    trials = (
        KernelTrial("host", 0.009),
        KernelTrial("wrong", 0.001, 0.5, "error 0.5 is above 0.02"),
        KernelTrial("sdpa", 0.00812, 3e-7),
    )
    decision.choice = AutotuneResult("sdpa", trials, 0.1)
    assert _trials(decision) == (
        "self 512x300: sdpa 8.12 ms error 3e-07, host 9.00 ms, wrong error 0.5 is above 0.02 -> sdpa"
    )


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100.0 %"), (0.123, "12.3 %"), (0.01, "1.0 %"), (0.00994, "0.99 %"), (0.0012, "0.12 %"), (0.0, "0 %")],
)
def test_percents_have_two_figures(share, text):
    assert percent(share) == text


def test_a_word_of_the_demo_prompt_is_one_number():
    for number, colour in enumerate(prompt.COLOURS):
        tokens, mask = prompt.encode_prompt(colour, prompt.SHAPES[-1], prompt.DIRECTIONS[0])
        assert tokens.shape == (1, 3, prompt.CAPTION_CHANNELS) and mask.tolist() == [[1, 1, 1]]
        at = [number, len(prompt.COLOURS) + len(prompt.SHAPES) - 1, len(prompt.COLOURS) + len(prompt.SHAPES)]
        wanted = torch.zeros(3, prompt.CAPTION_CHANNELS)
        wanted[range(3), at] = 1.0
        assert torch.equal(tokens[0], wanted)


def test_seams_without_a_joint_or_a_step():
    clip = torch.randn(1, 4, 9, 3, 3, generator=torch.Generator().manual_seed(0))
    assert seams(clip, []) == () and seams(clip[:, :, :1], [(1, 2)]) == ()
    (only,) = seams(clip, [(4, 6)])
    assert only.ratio > 0


def test_blocks_by_mass_stop_once_they_hold_it():
    """Four blocks of a quarter each: two hold a half, three hold any more."""
    scores, lengths = torch.zeros(1, 1, 1, 4), torch.full((4,), 64.0)
    for mass, kept in ((24.0, 1), (25.0, 1), (26.0, 2), (50.0, 2), (75.0, 3), (76.0, 4), (100.0, 4)):
        assert int(MassBlocks(mass).select(scores, lengths).sum()) == kept, mass
    # A block of three times the tokens holds three times as much.
    uneven = torch.tensor([32.0, 96.0])
    assert MassBlocks(75).select(scores[..., :2], uneven).tolist() == [[[[False, True]]]]
    assert TopBlocks(50).select(torch.tensor([[[[1.0, 3.0, 2.0, 0.0]]]]), lengths).tolist() == [
        [[[False, True, True, False]]]
    ]


# --- with the host ---------------------------------------------------------------------------------------------------


def test_the_demo_codec_tells_its_own_scale(pack):
    vae = pack.nodes.demo.DemoVAE()
    frames, height, width, _ = vae.decode(torch.zeros(1, codec.CHANNELS, 2, 3, 4)).shape[1:]
    assert vae.spacial_compression_decode() == vae.spacial_compression_encode() == height // 3 == width // 4
    assert vae.temporal_compression_decode() == frames // 2
    assert vae.encode(torch.rand(frames, height, width, 3)).shape == (1, codec.CHANNELS, 2, 3, 4)


def test_a_latent_of_pictures_has_as_many_frames_as_pictures(pack):
    """SVD's latent is a batch of frames: a grid before sampling has to know how many."""
    from tiny import plain

    case = plain()["SVD"]
    model, latent = case.build(), case.latent()
    tokens = pack.nodes.host.model_family.tokens_of_latent(model, latent)
    assert tokens.grid == (len(latent), *latent.shape[2:])
    # As newer hosts have a clip, time an axis of its own.
    clip = latent.transpose(0, 1)[None]
    assert pack.nodes.host.model_family.tokens_of_latent(model, clip).grid == tokens.grid


@pytest.mark.parametrize("own", [None, [1, 0, 1]])
@pytest.mark.parametrize("negative", [None, [1, 1, 0, 0]])
def test_a_mask_of_either_prompt_makes_one_of_both(own, negative, pack, monkeypatch):
    """NAG puts the negative prompt behind the prompt: a prompt without a mask is seen whole, two without need none."""
    prompts, opaque = pack.nodes.host.nag_prompt, pack.attention.routing.compiled_op
    monkeypatch.setattr(prompts, "_wanted", lambda *args: True)
    monkeypatch.setattr(prompts, "_refuses", lambda *args: None)
    mask_of = {name: None if bits is None else torch.tensor([bits]) for name, bits in (("a", own), ("b", negative))}
    options = {pack.attention.routing.step_context.CONTEXT: pack.attention.routing.step_context.StepContext()}
    kwargs = {opaque.OPTIONS: options, "context": torch.randn(1, 3, 8)}
    kwargs |= {} if own is None else {"attention_mask": mask_of["a"]}
    told = prompts.Negative(torch.randn(1, 4, 8), mask_of["b"])
    found = prompts._lengthened(kwargs, {"positive": told}, ["positive"])
    assert torch.equal(found["context"], torch.cat([kwargs["context"], told.context], dim=1))
    if own is None and negative is None:
        assert "attention_mask" not in found
    else:
        assert found["attention_mask"].tolist() == [(own or [1] * 3) + (negative or [1] * 4)]


def test_how_a_region_looks_does_not_depend_on_its_size():
    """Fine grain is averaged, not picked: the same picture at half its size has the same features."""
    fine = torch.rand(1, 328, 328, 3, generator=torch.Generator().manual_seed(4))
    half = fine.unflatten(1, (164, 2)).unflatten(3, (164, 2)).mean((2, 4))
    look = tracked_region.features_of
    assert tracked_region.distance(look(fine).flatten(), look(half).flatten()) < 0.003
