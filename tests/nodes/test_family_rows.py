"""Every row of the table on the tiny model of its family: consumers follow what it says, or refuse in its words."""

from __future__ import annotations

import contextlib
import functools
import re

import guidance_rows
import pytest
import torch
from guiding import PLAIN, guided, run, same
from tiny import CASES
from tiny.case import parts, sample

from attention.core.reason import Reason
from attention.core.site import CROSS, SELF
from attention.families import TABLE

ROWS = pytest.mark.parametrize("row", [row for row in TABLE if row.name in PLAIN], ids=lambda row: row.name)


@pytest.fixture(scope="module")
def built(pack):
    return functools.cache(lambda name: PLAIN[name].build())


def refusal(pack, kind, model) -> str:
    with pytest.raises(ValueError) as told:
        run(pack, kind, model)
    return str(told.value)


def roles(row, model) -> list[str]:
    return [role for role, _ in row.roles_of(model.model.diffusion_model)]


@ROWS
def test_a_negative_prompt_goes_behind_the_prompt_or_the_row_says_why_not(row, pack, built, inference):
    model, case = built(row.name), PLAIN[row.name]
    if CROSS not in roles(row, model):
        assert f"{row.name} has no cross-attention to guide" in refusal(pack, "nag", model) or row.mixed_prompt
    elif row.mixed_prompt is not None:
        assert f"cannot guide {row.name}: {row.mixed_prompt}. Bypass" in refusal(pack, "nag", model)
    else:
        assert not same(sample(guided(pack, "nag", model), case), sample(model, case))


@ROWS
def test_longer_clips_turn_slower_or_the_row_says_why_not(row, pack, built, inference):
    model, case = built(row.name), PLAIN[row.name]
    if isinstance(row.rotary, Reason):
        said = f"cannot lengthen the clips of {row.name}: {row.rotary}. Bypass"
        assert said in refusal(pack, "riflex", model)
        return
    network = model.model.diffusion_model
    text = run(pack, "riflex", model, frequency=1, trained_frames=0)[1]
    assert f"frequency 1 of {row.rotary.count(network)}" in text
    assert f"clips of more than {row.rotary.clips(network).pictures} frames" in text
    changed = not same(sample(guided(pack, "riflex", model), case), sample(model, case))
    assert changed == (case.grid[0] > 1)


@ROWS
def test_the_weakened_block_is_the_one_that_the_row_names(row, pack, built, inference):
    model = built(row.name)
    if SELF not in roles(row, model):
        return
    blocks = max(block for role, block in row.roles_of(model.model.diffusion_model) if role == SELF) + 1
    taken = int(re.search(r"block (\d+) of 0-", run(pack, "stg", model)[1])[1])
    known = row.skipped_block(model.model.diffusion_model)
    assert taken == (known if known is not None and known < blocks else blocks * 2 // 3)


@ROWS
def test_auto_takes_the_scheduler_of_the_row(row, pack, built, inference):
    latent = {"samples": PLAIN[row.name].latent()}
    sigmas, line = pack.nodes.runs.sampling_job.sigmas_of(built(row.name), "euler", "auto", 3, 1.0, latent)
    assert f"Scheduler: {row.scheduler}, usual for {row.name}" in line and len(sigmas) == 4
    named, _ = pack.nodes.runs.sampling_job.sigmas_of(built(row.name), "euler", row.scheduler, 3, 1.0, latent)
    assert torch.equal(sigmas, named)


@ROWS
def test_trained_clips_are_told_in_the_host_s_latent_frames(row, pack, built, inference):
    model = built(row.name)
    clips, format = row.clips(model.model.diffusion_model), model.model.latent_format
    assert clips.rate > 0 and (clips.pictures or 1) >= 1
    told = getattr(format, "temporal_downscale_ratio", 1)
    if clips.pictures and told > 1:
        assert clips.ratio == told
        assert clips.latent_frames == pack.attention.sampling.lengths.latent_frames(clips.pictures, told) or (
            (clips.pictures - 1) % told
        ), "a clip of whole latent frames"


# Pictures and pictures a second of a trained clip, as their makers tell: papers, model cards and pipelines.
TRAINED = {
    "CogVideoXTransformer3DModel": (49, 8.0), "GeneralDIT": (121, 24.0), "MiniTrainDIT": (93, 16.0),
    "HunyuanVideo": (129, 24.0), "Kandinsky5": (121, 24.0), "LTXAVModel": (None, 24.0), "LTXVModel": (None, 24.0),
    "MiniMaxH3Model": (124, 24.0), "AsymmDiTJoint": (163, 30.0), "WanModel": (81, 16.0), "VaceWanModel": (81, 16.0),
    "HumoWanModel": (97, 25.0), "WanModel_S2V": (77, 16.0), "AnimateWanModel": (77, 30.0),
    "WanDancerModel": (149, 30.0),
}  # fmt: skip


def test_trained_clips_are_the_makers(pack, inference):
    told = {}
    for case in (case for case in CASES if case.name == "" or "Wan" in case.variant):
        network = case.build().model.diffusion_model
        name = type(network).__name__
        if name in TRAINED and name not in told and getattr(network, "out_dim", 16) == 16:
            clips = pack.attention.families.find(name).clips(network)
            told[name] = (clips.pictures, clips.rate)
    assert told == TRAINED


@ROWS
@pytest.mark.parametrize("name", guidance_rows.NAMES)
def test_a_guidance_guides_the_family_or_says_why_not(name, row, pack, built, inference):
    """Every guidance of the table, its node's widgets as they come."""
    model, case = built(row.name), PLAIN[row.name]
    try:
        on, text = guidance_rows.execute(guidance_rows.nodes_of(pack)[name], model)
    except ValueError as refused:
        assert str(refused).startswith("model: ") and row.name in str(refused)
        return
    out = sample(on, case)
    report = pack.nodes.host.run_history.find(out)
    assert text and all(part.isfinite().all() for part in parts(out))
    assert report is None or not report.fallbacks, report.fallbacks
    # Some act over time alone.
    assert not same(out, sample(model, case)) or case.grid[0] == 1


def test_every_guidance_has_a_node_and_guides_some_family(pack, built, inference):
    nodes = guidance_rows.nodes_of(pack)
    assert set(nodes) == set(guidance_rows.NAMES) and len(nodes) == len(pack.nodes.guidance.NODES)
    for name, node in nodes.items():
        guides = []
        for family in PLAIN:
            with contextlib.suppress(ValueError):
                guides.append(guidance_rows.execute(node, built(family)))
        assert guides, name


def test_later_models_of_a_family_are_told_by_their_latent(pack, inference):
    """Wan 2.2 5B has latents of 48 channels; Wan 2.1 Fun Control takes as many, three times 16, and has 16."""
    from tiny import hunyuan, wan

    pictures = {}
    for case in (*wan.CASES, *hunyuan.CASES):
        if case.variant not in pictures:
            model = case.build()
            row = pack.nodes.host.model_family.family_of(model)
            rotary = row.rotary
            if not isinstance(rotary, pack.attention.core.reason.Reason):
                clips = rotary.clips(model.model.diffusion_model)
                pictures[case.variant] = clips.pictures, case.latent().shape[1]
    assert pictures["Wan 2.1 Fun Control"] == (81, 16) and pictures["Wan 2.2 TI2V 5B"] == (121, 48)
    assert all(found == 121 for found, channels in pictures.values() if channels in (32, 48))
