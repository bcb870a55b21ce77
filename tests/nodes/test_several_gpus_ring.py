"""More GPUs than heads: ComfyUI's own model classes, with copies on names of the CPU that stand for the GPUs."""

from __future__ import annotations

from dataclasses import replace

import gpus_here
import guidance_rows
import pytest
import torch
from gpus_here import about_gpus, far, guided, loud, on_gpus, sampled, with_rules
from tiny import CASES, wan
from tiny.case import sample

from attention.families import TABLE
from attention.families.token_share import TokenShare
from attention.guidance.strength import Strength
from attention.parallel.ring import inner_of
from attention.patterns import Radial, TemporalWindow
from attention.reuse import ReuseSettings
from attention.routing.rules import Rule, Shape

EXACT = 1e-5
SDPA = Rule("sdpa flash")
SHARED = {variant.name for row in TABLE if isinstance(row.shared, TokenShare) for variant in row.variants}
PLAIN = {case.variant: case for case in CASES if case.variant in SHARED and not case.name}
KINDS = ("Wan 2.1 T2V", "LTX-2", "HunyuanVideo", "MiniMax-H3")


@pytest.fixture(autouse=True)
def devices(pack, inference, monkeypatch):
    monkeypatch.setattr(gpus_here, "NAMES", (*gpus_here.NAMES, "cpu:3", "cpu:4"))
    gpus_here.stand_in(monkeypatch)


def among(pack, model, count: int) -> str:
    """How so many GPUs share the heads of a MODEL, which has fewer."""
    near = inner_of(count, pack.nodes.host.sharing.fewest_heads(model))
    assert near < count
    return f"{count // near} groups of {near}" if near > 1 else f"all {count}"


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("variant", PLAIN)
def test_every_model(variant, count, pack):
    """With host default: what ComfyUI runs."""
    case = PLAIN[variant]
    model = pack.nodes.host.model_rules.count(loud(case))
    truth, _ = sampled(pack, model, case, steps=1)
    out, report = sampled(pack, on_gpus(pack, model, count), case, steps=1)
    assert far(out, truth) < EXACT and about_gpus(report).startswith(f"On {count} GPUs (cpu, cpu:0, cpu:1")
    assert f"keys went around {among(pack, model, count)}: " in str(report.notes)


@pytest.mark.parametrize("count", [3, 4, 6])
@pytest.mark.parametrize("variant", KINDS)
def test_both_ways(variant, count, pack):
    """Around for torch's own; gathered for auto, which may take another kernel."""
    case = PLAIN[variant]
    for rule, way in ((SDPA, "went around"), (Rule("auto"), "were gathered from")):
        model = with_rules(pack, loud(case), rule)
        said = f"keys {way} {among(pack, model, count)}: "
        truth, _ = sampled(pack, model, case)
        out, report = sampled(pack, on_gpus(pack, model, count), case)
        assert far(out, truth) < EXACT and said in " ".join(report.notes), report.notes
        if rule is SDPA:
            assert any(row.used == "sdpa flash (ring)" for row in report.rows)


@pytest.mark.parametrize("variant", KINDS)
def test_without_talking_the_clip_is_another(variant, pack, monkeypatch):
    """The control: were keys not handed on, the tests above would see it."""
    case, some = PLAIN[variant], pack.attention.parallel.ring.Some
    model = with_rules(pack, loud(case), SDPA)
    truth, _ = sampled(pack, model, case)
    talk = some.begin

    def deaf(self, pieces, shapes):
        wait = talk(self, pieces, shapes)
        # What goes around has five axes.
        return lambda: [c if c.ndim < 5 else torch.zeros_like(c) for c in wait()]

    monkeypatch.setattr(some, "begin", deaf)
    assert far(sampled(pack, on_gpus(pack, model, 4), case)[0], truth) > 1e-3


@pytest.mark.parametrize("variant", ["Wan 2.1 T2V", "HunyuanVideo"])
def test_what_looks_at_a_call_as_a_whole(variant, pack):
    case = PLAIN[variant]
    for extra in (
        Rule(shape=Shape(Radial(), min_tokens=0)),
        Rule(shape=Shape(TemporalWindow(frames=1), min_tokens=0)),
        Rule(strength=Strength(0.8, 9.0)),
    ):
        model = with_rules(pack, loud(case), SDPA, extra)
        truth, alone = sampled(pack, model, case)
        out, report = sampled(pack, on_gpus(pack, model, 4), case)
        assert far(out, truth) < EXACT
        assert {row.used.split(" (")[0] for row in report.rows} == {row.used.split(" (")[0] for row in alone.rows}
        said = " ".join(report.notes)
        told = f"keys and queries were gathered from {among(pack, model, 4)}, "
        assert told in said or "each fetched only what" in said


@pytest.mark.parametrize("row", guidance_rows.NAMES)
def test_guidance_is_the_same(row, pack):
    case = PLAIN["Wan 2.1 T2V"]
    model, truth = guided(pack, case, row)
    for count in (3, 4):
        out, report = sampled(pack, on_gpus(pack, model, count), case, cfg=3.0)
        assert far(out, truth) < EXACT and f"On {count} GPUs" in about_gpus(report)


def test_kept_outputs(pack):
    case = PLAIN["Wan 2.1 T2V"]
    model = with_rules(pack, loud(case), SDPA, Rule(reuse=ReuseSettings()))
    truth, alone = sampled(pack, model, case, steps=6)
    out, report = sampled(pack, on_gpus(pack, model, 4), case, steps=6)
    assert far(out, truth) < EXACT
    assert "each took what it had kept" in " ".join(report.notes) and "keys went around" in " ".join(report.notes)
    assert sum(row.calls for row in report.rows) == sum(row.calls for row in alone.rows)


def test_slices_and_shares_by_speed(pack, monkeypatch):
    case = PLAIN["Wan 2.1 T2V"]
    model = with_rules(pack, loud(case), SDPA)
    truth, _ = sampled(pack, model, case)
    monkeypatch.setattr(pack.nodes.host.several_gpus, "relative_speeds", lambda *_: (1.0, 9.0, 1.0, 9.0))
    made = on_gpus(pack, model, 4, shares="by measured speed", overlap=True)
    out, report = sampled(pack, made, case)
    assert far(out, truth) < EXACT and ", 1 + 1 heads; " in about_gpus(report)


def test_an_error_and_an_interrupt_in_the_ring(pack, monkeypatch):
    import comfy.model_management as management

    case, ring = PLAIN["Wan 2.1 T2V"], pack.attention.parallel.ring.Ring
    model = with_rules(pack, loud(case), SDPA)
    truth, _ = sampled(pack, model, case)
    made, plain = on_gpus(pack, model, 4), ring.steps
    for error in (KeyError("in the ring"), management.InterruptProcessingException()):

        def failing(self, k, v, error=error):
            for n, step in enumerate(plain(self, k, v)):
                if n and self.share.peers.rank == 2:
                    raise error
                yield step

        monkeypatch.setattr(ring, "steps", failing)
        with pytest.raises(type(error)):
            sample(made, case, steps=2)
        monkeypatch.setattr(ring, "steps", plain)
        assert far(sampled(pack, made, case)[0], truth) < EXACT


def test_memory_that_is_missing_in_the_ring(pack, monkeypatch):
    """That evaluation is made on one GPU, and counted."""
    case, ring = PLAIN["Wan 2.1 T2V"], pack.attention.parallel.ring.Seen
    model = with_rules(pack, loud(case), SDPA)
    truth, _ = sampled(pack, model, case)
    made = on_gpus(pack, model, 4)

    def full(self, out, lse):
        raise torch.OutOfMemoryError("CUDA out of memory (a test's)")

    monkeypatch.setattr(ring, "add", full)
    out, report = sampled(pack, made, case)
    assert far(out, truth) < EXACT and "memory was missing (OutOfMemoryError" in about_gpus(report)


def test_the_node_says_how_they_share(pack):
    case, copies = PLAIN["Wan 2.1 T2V"], pack.nodes.host.gpu_copies
    model = with_rules(pack, loud(case), SDPA)
    _, said = copies.on_several(model, 0, "tokens", "even", strict=True)
    assert said.endswith(" More than the model has heads: they share in 3 groups of 2.")
    _, said = copies.on_several(model, 3, "tokens", "even", strict=True)
    assert said.endswith(" More than the model has heads: they share keys among all 3.")
    assert "heads" not in copies.on_several(model, 2, "tokens", "even", strict=True)[1]
    # And what Model Info forecasts counts what goes around.
    latent = {"samples": case.latent()}
    node = pack.nodes.info.VideoAttentionInfo
    assert "On 4 GPUs a step would be about " in node.execute(on_gpus(pack, model, 4), latent).args[0]


@pytest.mark.parametrize(
    "devices, heads, taken",
    [(5, 4, 4), (6, 4, 4), (8, 4, 8), (9, 4, 8), (4, 4, 4), (3, 4, 3), (2, 40, 2), (5, 1, 5), (7, 2, 6), (6, 0, 6)],
)
def test_all_are_those_that_share_heads_best(devices, heads, taken, pack):
    assert pack.nodes.host.gpu_copies.best_of(devices, heads) == taken
    if heads:
        near = min(devices, heads)
        assert inner_of(taken, heads) == near and all(inner_of(n, heads) < near for n in range(taken + 1, devices + 1))


def test_one_too_many_for_the_heads_is_left_out_unless_asked_for(pack, monkeypatch):
    monkeypatch.setattr(gpus_here, "NAMES", gpus_here.NAMES[:5])
    gpus_here.stand_in(monkeypatch)
    case, copies = PLAIN["Wan 2.1 T2V"], pack.nodes.host.gpu_copies
    model = with_rules(pack, loud(case), SDPA)
    made, said = copies.on_several(model, 0, "tokens", "even", strict=True)
    assert said.startswith("On 4 GPUs: ") and len(made.get_additional_models_with_key(copies.COPIES)) == 3
    assert " 5 are here, over which 2 heads share out worse; set gpus to take more." in said
    asked, said = copies.on_several(model, 5, "tokens", "even", strict=True)
    assert said.startswith("On 5 GPUs: ") and "are here" not in said
    out, report = sampled(pack, asked, case, steps=1)
    assert about_gpus(report).startswith("On 5 GPUs") and torch.isfinite(out).all()


def test_the_estimate_counts_all_keys(pack):
    """A kernel may want the keys of every group: no less memory than for the ranks that trade heads."""
    case, sharing = PLAIN["Wan 2.1 T2V"], pack.nodes.host.sharing
    model = with_rules(pack, loud(case), SDPA)
    options = {"transformer_options": model.model_options["transformer_options"]}
    for ranks, part in ((2, 2), (3, 1), (4, 2), (6, 2)):
        assert sharing.sharers(model, {"positive": []}, options, ranks, sharing.TOKENS, 1) == part


@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize("heads", [1, 2])
def test_what_a_rank_holds_is_no_more_than_is_said(heads, gathered, pack, monkeypatch):
    """Measured: the tensors that live at the same time in one of four threads, beside those of one thread for all."""
    build = wan.maker("WAN21_T2V", model_type="t2v", dim=60, num_heads=heads)
    case = replace(gpus_here.WIDE["Wan"], build=build)
    model = with_rules(pack, loud(case), SDPA)
    if gathered:
        monkeypatch.setattr(pack.attention.routing.ring_call, "TORCH", frozenset())
    peaks, report = gpus_here.peaks_of_ranks(pack, case, model, 4, monkeypatch)
    assert ("keys were gathered" if gathered else "keys went around") in " ".join(report.notes)
    said = pack.nodes.host.memory_estimate.part_of(heads)
    assert len(peaks) == 8 and all(0.5 < peak < said for peak in peaks), peaks
