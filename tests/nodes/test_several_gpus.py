"""One clip over several GPUs: ComfyUI's own model classes, copies and threads; names of the CPU stand for the GPUs."""

from __future__ import annotations

import guidance_rows
import pytest
import torch
from gpus_here import WIDE, about_gpus, far, guided, loud, on_gpus, sampled, stand_in, with_rules
from tiny import CASES

from attention.families import TABLE
from attention.families.token_share import TokenShare
from attention.patterns import LongVideo, Radial, SlidingTile, TemporalWindow, TopBlocks
from attention.routing.rules import Rule, Shape

EXACT = 1e-5
SHARED = {
    variant.name
    for row in TABLE
    for variant in row.variants
    if isinstance(row.shared, TokenShare) and row.name != "HunyuanVideo"
}
SDPA = Rule("sdpa")


@pytest.fixture(autouse=True)
def devices(pack, inference, monkeypatch):
    stand_in(monkeypatch)


@pytest.mark.parametrize("case", [case for case in CASES if case.variant in SHARED], ids=str)
def test_every_case_of_a_family_is_exact(case, pack):
    model = pack.nodes.host.model_rules.count(loud(case))
    truth, _ = sampled(pack, model, case, steps=1)
    out, report = sampled(pack, on_gpus(pack, model, 2), case, steps=1)
    assert far(out, truth) < EXACT
    assert about_gpus(report).startswith("On 2 GPUs (cpu, cpu:0): ")


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", WIDE)
def test_wide_models_on_any_number(name, count, pack, monkeypatch):
    case = WIDE[name]
    model = with_rules(pack, loud(case), SDPA)
    truth, alone = sampled(pack, model, case)
    made = on_gpus(pack, model, min(count, 4) if name != "LTX-2" else count)
    out, report = sampled(pack, made, case)
    assert far(out, truth) < EXACT
    assert f"On {count} GPUs" in about_gpus(report)
    # The first GPU's calls are counted as one process' are.
    assert [(row.role, row.used, row.calls) for row in report.rows] == [
        (row.role, row.used, row.calls) for row in alone.rows
    ]
    # Nothing is left, on no copy; and the model as it came is as it was.
    for each in (made, *made.get_additional_models_with_key("multigpu")):
        assert not [key for key in vars(each.model.diffusion_model) if "video_attention" in key]
    assert far(sampled(pack, model, case)[0], truth) == 0.0


@pytest.mark.parametrize("name", ["Wan", "LTX-2", "HunyuanVideo"])
def test_heads_in_slices_are_the_same(name, pack):
    case = WIDE[name]
    model = with_rules(pack, loud(case), SDPA)
    truth, alone = sampled(pack, model, case)
    out, report = sampled(pack, on_gpus(pack, model, 2, overlap=True), case)
    assert far(out, truth) < EXACT and "The heads were traded in 2 slices." in report.notes
    assert [(row.role, row.used, row.calls) for row in report.rows] == [
        (row.role, row.used, row.calls) for row in alone.rows
    ]


@pytest.mark.parametrize("name", WIDE)
def test_without_talking_the_clip_is_another(name, pack, monkeypatch):
    """The control: what the tests above call exact they could have found wrong."""
    case = WIDE[name]
    model = with_rules(pack, loud(case), SDPA)
    truth, _ = sampled(pack, model, case)
    peers = pack.attention.parallel.peers.ThreadPeers
    talk = peers.all_to_all

    def deaf(self, pieces, shapes):
        came = talk(self, pieces, shapes)
        attention = len(shapes[0]) == 4
        return [c if s == self.rank or not attention else torch.zeros_like(c) for s, c in enumerate(came)]

    monkeypatch.setattr(peers, "all_to_all", deaf)
    assert far(sampled(pack, on_gpus(pack, model, 2), case)[0], truth) > 1e-3


PATTERNS = {
    "radial": Radial(),
    "sliding tile": SlidingTile(),
    "top blocks": TopBlocks(30.0),
    "top blocks of the last step": TopBlocks(30.0, refresh=2),
    "frames in turn": LongVideo(frames=3),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", ["Wan", "LTX-2", "HunyuanVideo"])
def test_patterns_run_below_as_ever(name, pattern, pack):
    case = WIDE[name]
    shape = Rule(shape=Shape(PATTERNS[pattern], min_tokens=0))
    model = with_rules(pack, loud(case), SDPA, shape)
    truth, alone = sampled(pack, model, case)
    out, report = sampled(pack, on_gpus(pack, model, 2), case)
    assert far(out, truth) < EXACT
    # On whichever engine was faster where it was measured.
    assert {row.used.split(" (")[0] for row in report.rows} == {row.used.split(" (")[0] for row in alone.rows}


def test_a_window_of_frames_fetches_what_it_sees(pack):
    """Fewer bytes than trading heads, and the report says so; beside text in the sequence heads are traded."""
    shape = Rule(shape=Shape(TemporalWindow(frames=3), min_tokens=0))
    for name, fetched in (("Wan", True), ("HunyuanVideo", False)):
        case = WIDE[name]
        truth, _ = sampled(pack, with_rules(pack, loud(case), SDPA, shape), case)
        out, report = sampled(pack, on_gpus(pack, with_rules(pack, loud(case), SDPA, shape), 2), case)
        said = "In 4 of 4 attention calls each fetched only what its tokens may see."
        assert far(out, truth) < EXACT and (said in report.notes) == fetched
        assert ("heads; each handed" in about_gpus(report)) != fetched


@pytest.mark.parametrize("row", guidance_rows.NAMES)
@pytest.mark.parametrize("name", ["Wan", "LTX-2"])
def test_guidance_is_the_same(row, name, pack):
    case = WIDE[name]
    model, truth = guided(pack, case, row)
    out, report = sampled(pack, on_gpus(pack, model, 2), case, cfg=3.0)
    assert far(out, truth) < EXACT
    assert "On 2 GPUs" in about_gpus(report)
    # And from the other side of the node.
    behind = on_gpus(pack, pack.nodes.host.model_rules.count(loud(case)), 2)
    behind, _ = guidance_rows.execute(guidance_rows.nodes_of(pack)[row], behind)
    assert far(sampled(pack, behind, case, cfg=3.0)[0], truth) < EXACT


def test_prompts_go_to_gpus_of_their_own_and_the_rest_share_tokens(pack):
    case = WIDE["Wan"]
    model = with_rules(pack, loud(case), SDPA)
    truth, _ = sampled(pack, model, case, cfg=3.0)
    two, report = sampled(pack, on_gpus(pack, model, 2, split="prompts, then tokens"), case, cfg=3.0)
    assert far(two, truth) < EXACT and "one prompt each" in about_gpus(report)
    four, report = sampled(pack, on_gpus(pack, model, 4, split="prompts, then tokens"), case, cfg=3.0)
    assert far(four, truth) < EXACT and "in each of 2 groups, one for each prompt" in about_gpus(report)
    # At cfg 1 there is one prompt: all share its tokens.
    truth, _ = sampled(pack, model, case)
    four, report = sampled(pack, on_gpus(pack, model, 4, split="prompts, then tokens"), case)
    assert far(four, truth) < EXACT and "groups" not in about_gpus(report)


def test_shares_by_measured_speed(pack, monkeypatch):
    case = WIDE["Wan"]
    model = with_rules(pack, loud(case), SDPA)
    truth, _ = sampled(pack, model, case)
    seen = []
    monkeypatch.setattr(
        pack.nodes.host.several_gpus, "relative_speeds", lambda devices, dtype: seen.append(devices) or (3.0, 1.0)
    )
    out, report = sampled(pack, on_gpus(pack, model, 2, shares="by measured speed"), case)
    assert far(out, truth) < EXACT and "236 + 79 tokens, 4 + 1 heads" in about_gpus(report) and len(seen) == 1


def test_info_says_whether_it_is_worth_it(pack):
    case = WIDE["Wan"]
    node = pack.nodes.info.VideoAttentionInfo
    model = loud(case)
    latent = {"samples": case.latent()}
    assert "GPUs" not in node.execute(model, latent).args[0]
    said = node.execute(on_gpus(pack, model, 2), latent).args[0]
    assert "On 2 GPUs a step would be about " in said and "GB/s here" in said
    assert "GPUs" not in node.execute(on_gpus(pack, model, 2)).args[0]


def test_heads_of_a_pattern_keep_their_numbers(pack):
    case = WIDE["Wan"]
    apart = TopBlocks(80.0, by_heads=(80.0, 60.0, 40.0, 20.0, 10.0))
    model = with_rules(pack, loud(case), SDPA, Rule(shape=Shape(apart, min_tokens=0)))
    truth, _ = sampled(pack, model, case)
    assert far(sampled(pack, on_gpus(pack, model, 2), case)[0], truth) < EXACT


def test_what_turns_with_the_steps_turns_alike_beside_an_extra_pass(pack):
    """STG evaluates the model once more in each step: no step of the run."""
    case = WIDE["Wan"]
    row = next(name for name in guidance_rows.NAMES if name.startswith("Spatiotemporal"))
    model = with_rules(pack, loud(case), SDPA, Rule(shape=Shape(LongVideo(frames=3), min_tokens=0)))
    model, _ = guidance_rows.execute(guidance_rows.nodes_of(pack)[row], model)
    truth, _ = sampled(pack, model, case, steps=4)
    assert far(sampled(pack, on_gpus(pack, model, 2), case, steps=4)[0], truth) < EXACT
