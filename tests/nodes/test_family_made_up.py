"""A family that nobody knew yesterday: every consumer of a row follows what it says, or refuses in its words.

No consumer is told of it otherwise: its model has no attribute that another family's has.
"""

from __future__ import annotations

import dataclasses
import functools

import gpus_here
import made_up
import pytest
import torch
from forecasting import forecast, made_steps, sampled
from guiding import NODES, error, guided, prompted, run, same
from made_up import CASE, MASK, MOOD, NAME
from studio import Studio
from tiny.case import prompt, sample

from attention.blocks import TemporalBlocks, TemporalConfig, weights
from attention.families import TABLE
from attention.families.spec import Family

FULL, BARE, REFUSING = range(3)
# Fields of a row that say where its model attends, not what others make of it.
WHERE = {
    "name", "models", "variants", "sites", "tokens", "roles_by_length", "release_name", "forward_methods",
    "prompt_aliases", "unreachable", "unsupported",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(comfy_host):
    return functools.cache(CASE.build)


@pytest.fixture
def known(pack, monkeypatch, inference):
    """Adds one of the three rows to the pack's table."""
    families = pack.attention.families

    def add(which: int) -> Family:
        row = made_up.rows(families)[which]
        monkeypatch.setattr(families, "TABLE", (*families.TABLE, row))
        return row

    return add


def refusal(pack, kind, model) -> str:
    with pytest.raises(ValueError) as told:
        run(pack, kind, model)
    return str(told.value)


def test_the_full_row_says_all_that_a_row_can(pack):
    """So that a field which is added to Family is tried here too."""
    full, bare, _ = made_up.rows(pack.attention.families)
    said = {field.name for field in dataclasses.fields(full) if getattr(full, field.name) != getattr(bare, field.name)}
    assert said == {field.name for field in dataclasses.fields(Family)} - WHERE


def test_without_a_row_it_is_unknown(pack, built, inference):
    assert "is no family this pack knows" in refusal(pack, "stg", built())
    assert "it is not known which of its frequencies" in refusal(pack, "riflex", built())


@pytest.mark.parametrize("which", [FULL, BARE, REFUSING])
def test_its_calls_are_placed(pack, known, built, which):
    known(which)
    out = sample(pack.nodes.host.model_rules.add_rule(built(), pack.attention.routing.rules.Rule("sdpa")), CASE)
    rows = pack.nodes.host.run_history.find(out).rows
    assert {row.role: row.calls for row in rows} == CASE.calls
    assert pack.nodes.host.model_family.tokens_of_latent(built(), CASE.latent()).grid == CASE.grid


@pytest.mark.parametrize(("which", "block"), [(FULL, 3), (BARE, 2), (REFUSING, 2)])
def test_guidance_takes_the_block_that_its_row_names(pack, known, built, which, block):
    known(which)
    on, text = run(pack, "stg", built())
    assert f"block {block} of 0-3" in text and "block 2 of 0-3" in run(pack, "pag", built())[1]
    assert not same(sample(on, CASE), sample(built(), CASE))


def test_a_negative_prompt_goes_behind_the_prompt(pack, known, built):
    known(FULL)
    rule = pack.attention.routing.rules.Rule("", "all", nag=pack.attention.guidance.nag.Nag(0.0, 1e9, 1.0))
    positive, negative = prompt(CASE, 1), prompt(CASE, 2)
    on = pack.nodes.host.nag_prompt.install_negative(built(), rule, negative)
    swapped, truth = prompted(on, CASE, positive), prompted(built(), CASE, positive)
    assert error(swapped, truth) > 1e-4, "attention to the negative prompt alone"
    assert not same(sample(guided(pack, "nag", built()), CASE), sample(built(), CASE))


@pytest.mark.parametrize(("which", "what"), [(FULL, "what goes into the model's last"), (BARE, "model's output")])
def test_forecasts_are_of_what_its_row_names(pack, known, built, which, what):
    known(which)
    model = built()
    out, report = sampled(pack, forecast(pack, model), CASE)
    assert made_steps(report) == [3, 5, 7] and out.isfinite().all()
    assert any(what in note for note in report.notes)
    told = pack.nodes.host.forecast_memory.text(model, pack.nodes.host.forecast.ForecastSettings())
    assert ("1000 tokens" in told) == (which == FULL) and ("the latent" in told) == (which == BARE)


@pytest.mark.parametrize("which", [BARE, REFUSING])
def test_what_a_row_refuses_is_said_in_its_words(pack, known, built, which, tmp_path):
    row = known(which)
    assert f"cannot guide {NAME}: {row.mixed_prompt}. Bypass this node." in refusal(pack, "nag", built())
    assert f"cannot lengthen the clips of {NAME}: {row.rotary}. Bypass this node." in refusal(pack, "riflex", built())
    with pytest.raises(ValueError, match=f"no blocks can be added to {NAME}. They can to Cog.* {NAME}: {row.stream}."):
        pack.nodes.host.temporal_grafts.add_blocks(built(), blocks_file(tmp_path))
    words = (row.mixed_prompt, row.rotary, row.stream)
    assert all("not known" in said if which == BARE else "of its own" in said for said in words)


def test_longer_clips_turn_slower(pack, known, built):
    row = known(FULL)
    on, text = run(pack, "riflex", built(), frequency=0, trained_frames=0)
    assert "frequency 1 of 2, in clips of more than 9 frames" in text
    assert row.clips(None).latent_frames == 3 < made_up.FRAMES
    assert not same(sample(on, CASE), sample(built(), CASE))
    longer = guided(pack, "riflex", built(), trained_frames=4 * made_up.FRAMES)
    assert same(sample(longer, CASE), sample(built(), CASE)), "a clip of trained length"


def blocks_file(folder):
    torch.manual_seed(0)
    blocks = TemporalBlocks(TemporalConfig(NAME, made_up.HEADS * made_up.HEAD, 2, 8, 16, (0, 3)))
    for block in blocks.blocks.values():
        torch.nn.init.normal_(block.feed_forward.outward.weight, std=0.5)
    weights.save(blocks, folder / "blocks.safetensors")
    return folder / "blocks.safetensors"


def test_blocks_are_added_between_its_own(pack, known, built, tmp_path):
    known(FULL)
    patched, chosen = pack.nodes.host.temporal_grafts.add_blocks(built(), blocks_file(tmp_path))
    assert chosen == (0, 3) and not same(sample(patched, CASE), sample(built(), CASE))


@pytest.mark.parametrize(("which", "scheduler"), [(FULL, "karras"), (BARE, "simple")])
def test_samplers_take_its_scheduler(pack, known, built, which, scheduler):
    known(which)
    report = Studio(pack, CASE).sample(scheduler_name="auto", steps=1)[2]
    assert f"Scheduler: {scheduler}, usual for {NAME}" in report


class Seen:
    """What the model is given of its own conditions, and the frames of each call."""

    def __init__(self, monkeypatch):
        self.calls, forward = [], made_up.MadeUpModel.forward

        def look(module, x, *args, **kwargs):
            window = kwargs["transformer_options"].get("context_window")
            self.calls.append((x.shape[2], kwargs.get(MOOD), kwargs.get(MASK), window))
            return forward(module, x, *args, **kwargs)

        monkeypatch.setattr(made_up.MadeUpModel, "forward", look)


def long_run(pack, monkeypatch, method, frames=11, references=0, **widgets):
    """(report, calls) of Long Sampler on a clip of `frames` latent frames with a mood for each half of them."""
    mood = torch.arange(2.0 * frames).view(1, -1, 1)
    case = dataclasses.replace(CASE, conditioning=lambda: {MOOD: mood, "made_up_references": references})
    studio, seen = Studio(pack, case), Seen(monkeypatch)
    node = pack.nodes.long_sampler.VideoAttentionLongSampler
    latent = {"samples": torch.zeros(1, made_up.CHANNELS, frames, 3, 4)}
    given = {"unit": "latent frames", "window": 0.0, "overlap": 1.0, "steps": 1, "cfg": 1.0, "method": method}
    report = node.execute(studio.model, **studio.values(node, latent, **{**given, **widgets})).args[3]
    return report, seen.calls


@pytest.mark.parametrize("method", ["blend", "extend"])
def test_long_clips_are_cut_as_its_row_says(pack, known, built, method, monkeypatch):
    known(FULL)
    report, calls = long_run(pack, monkeypatch, method)
    # 6 latent frames hold 9 pictures; a window that ends with the clip and begins with a single one has 5.
    assert "windows of 5 latent frames over 11" in report
    assert "this model was trained with 9 pictures at 12 a second" in report
    assert "no condition that this pack knows" not in report
    for frames, mood, mask, window in calls:
        at = [2 * frame + half for frame in window.index_list for half in (0, 1)]
        assert frames == 5 and mood.flatten().tolist() == at, "learned positions: no frame before a window"
        assert (mask is not None) == (method == "extend")


def test_references_are_in_every_window(pack, known, built, monkeypatch):
    known(FULL)
    _, calls = long_run(pack, monkeypatch, "blend", references=2, window=4.0)
    assert len(calls) > 2 and all(window.index_list[:2] == [0, 1] for *_, window in calls)


def test_a_bare_row_is_sampled_long_with_what_is_usual(pack, known, built, monkeypatch):
    known(BARE)
    monkeypatch.setattr(made_up.MadeUpModel, "mood_matters", False)
    report, calls = long_run(pack, monkeypatch, "extend", frames=41, window=40.0)
    assert f"{MOOD} (1, 82, 1) is no condition that this pack knows: it is the same in every window" in report
    assert {frames for frames, *_ in calls} > {40} and all(mask is None for _, _, mask, _ in calls)


@pytest.mark.parametrize("which", [FULL, BARE])
def test_its_width_is_measured_by_its_row(pack, known, built, which):
    row, network = known(which), built().model.diffusion_model
    width = made_up.HEADS * made_up.HEAD
    # In a block: q, k, v and the output of self-attention, q and the output of attention to the text, one layer more.
    met, beside = 7 * width**2, 3 * width * made_up.TEXT
    assert pack.attention.inspect.info.weights_per_token(network, row) == met + (0 if which == FULL else beside)


@pytest.mark.parametrize(("which", "heads"), [(FULL, made_up.HEADS), (BARE, 0)])
def test_its_heads_are_counted_by_its_row(pack, known, built, which, heads):
    row = known(which)
    found = pack.attention.inspect.info.examine(built().model.diffusion_model, row, None)
    assert (found.heads, found.head_dim) == (heads, made_up.HEAD if heads else 0)


@pytest.mark.parametrize("family", TABLE, ids=lambda family: family.name)
def test_every_row_says_of_each_thing_what_it_is_or_why_not(family, pack):
    """Of the table itself: what a consumer is handed is an answer or a sentence that fits behind a colon."""
    from attention.core.reason import Reason
    from attention.families.facts import BlockStream, TimeRotary

    assert isinstance(family.stream, (BlockStream, Reason)) and isinstance(family.rotary, (TimeRotary, Reason))
    for said in (family.stream, family.rotary, family.mixed_prompt):
        if isinstance(said, str):
            assert isinstance(said, Reason) and said and "\n" not in said and not said.endswith(".")
    assert all(size >= 1 for size in family.frame_sizes)
    assert 0 <= family.pattern_range[0] < family.pattern_range[1] <= 1
    assert NODES and family.scheduler in pack.nodes.runs.sampling_job.SCHEDULERS


@pytest.mark.parametrize(
    ("module", "block"),
    [
        ("blocks.3.self_attn", "blocks.3"),
        ("blocks.3", "blocks.3"),
        ("stages.0.blocks.12.attn.core", "stages.0.blocks.12"),
        ("attn", ""),
    ],
)
def test_a_module_belongs_to_the_innermost_numbered_one(pack, module, block):
    assert pack.nodes.host.site_tags._root(module) == block


@pytest.mark.parametrize("which", [FULL, BARE, REFUSING])
def test_its_tokens_are_shared_out_as_its_row_says(pack, known, which, monkeypatch):
    gpus_here.stand_in(monkeypatch)
    row, model = known(which), gpus_here.loud(CASE)
    copies = pack.nodes.host.gpu_copies
    if which != FULL:
        with pytest.raises(ValueError, match="model: its tokens cannot be shared out") as told:
            copies.on_several(model, 2, "tokens", "even", strict=True)
        assert str(row.shared) in str(told.value)
        return
    truth = sample(pack.nodes.host.model_rules.count(model), CASE)
    assert gpus_here.far(sample(gpus_here.on_gpus(pack, model, 2), CASE), truth) < 1e-5
