"""Guides of part strength on several GPUs: the host attends in two calls with a mask each, each GPU with its heads."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import guidance_rows
import pytest
import torch
from gpus_here import WIDE, about_gpus, far, guided, loud, on_gpus, sampled, stand_in, with_rules
from tiny import CASES

from attention.core.query_parts import QueryParts
from attention.families import token_share
from attention.families.token_share import LTX2, LTXV
from attention.patterns import LongVideo, Radial, TemporalWindow, TopBlocks
from attention.reuse import ReuseSettings
from attention.routing.rules import Rule, Shape

EXACT, SDPA = 1e-5, Rule("sdpa")
# With as many heads as no number of GPUs divides.
GUIDED = {
    str(case): replace(case, build=WIDE[case.variant.removesuffix(" 0.9").replace("LTX-Video", "LTXV")].build)
    for case in CASES
    if "half strength" in case.name
}


@pytest.fixture(autouse=True)
def devices(pack, inference, monkeypatch):
    stand_in(monkeypatch)


def told(report, times=1):
    return [(row.role, row.used.split(" (")[0], times * row.calls) for row in report.rows]


def prompts(case):
    """How many there are: one process evaluates both at once, several GPUs one after the other."""
    return 2 if "cfg" in case.options else 1


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("name", GUIDED)
def test_it_is_the_clip_of_one(name, overlap, count, pack):
    case = GUIDED[name]
    model = with_rules(pack, loud(case), SDPA)
    truth, alone = sampled(pack, model, case)
    out, report = sampled(pack, on_gpus(pack, model, count, overlap=overlap), case)
    assert far(out, truth) < EXACT and f"On {count} GPUs" in about_gpus(report)
    assert told(report) == told(alone, prompts(case))
    # The strength matters.
    weak = {**case.conditioning(), "guide_attention_entries": [
        {**entry, "strength": 0.1} for entry in case.conditioning()["guide_attention_entries"]
    ]}  # fmt: skip
    assert far(sampled(pack, model, replace(case, conditioning=lambda: weak))[0], truth) > EXACT


PATTERNS = {
    "radial": Radial(),
    "temporal window": TemporalWindow(frames=1),
    "top blocks": TopBlocks(30.0),
    "frames in turn": LongVideo(frames=1),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", GUIDED)
def test_patterns_run_below_as_ever(name, pattern, pack):
    case = GUIDED[name]
    model = with_rules(pack, loud(case), SDPA, Rule(shape=Shape(PATTERNS[pattern], min_tokens=0)))
    truth, alone = sampled(pack, model, case)
    out, report = sampled(pack, on_gpus(pack, model, 3), case)
    assert far(out, truth) < EXACT and "On 3 GPUs" in about_gpus(report) and told(report) == told(alone, prompts(case))


@pytest.mark.parametrize("row", guidance_rows.NAMES)
@pytest.mark.parametrize("name", GUIDED)
def test_guidance_is_the_same(row, name, pack):
    case = GUIDED[name]
    model, truth = guided(pack, case, row)
    out, report = sampled(pack, on_gpus(pack, model, 2), case, cfg=3.0)
    assert far(out, truth) < EXACT and "On 2 GPUs" in about_gpus(report)


@pytest.mark.parametrize("kept", [False, True])
def test_more_gpus_than_heads(kept, pack):
    """Groups then trade heads, and each gathers the whole sequence for what is done in parts."""
    case = next(case for case in CASES if "half strength" in case.name)
    rules = [SDPA, Rule("", "self", reuse=ReuseSettings(2, 64))][: 1 + kept]
    model = with_rules(pack, loud(case), *rules)
    truth, _ = sampled(pack, model, case, steps=4)
    out, report = sampled(pack, on_gpus(pack, model, 4), case, steps=4)
    assert far(out, truth) < EXACT and "On 4 GPUs" in about_gpus(report) and "groups" in " ".join(report.notes)


@pytest.mark.parametrize("name", GUIDED)
def test_kept_outputs_too(name, pack):
    case = GUIDED[name]
    model = with_rules(pack, loud(case), SDPA, Rule("", "self", reuse=ReuseSettings(2, 64)))
    truth, _ = sampled(pack, model, case, steps=4)
    out, report = sampled(pack, on_gpus(pack, model, 2), case, steps=4)
    assert far(out, truth) < EXACT and "each took what it had kept, and nothing was traded." in " ".join(report.notes)


def test_a_mask_that_tells_it_otherwise_is_refused():
    """Of a newer host, say: then the step runs on one GPU."""
    told = SimpleNamespace(guide_start=3, tracked_count=2, noisy_mask=torch.zeros(1, 1, 1, 5), tracked_mask=None)
    for rule in (LTXV, LTX2):
        assert rule.refuses((), {"self_attention_mask": object()}) == token_share.GUIDES
        for known in (None, torch.zeros(1, 1, 5, 5), told):
            assert rule.refuses((), {"self_attention_mask": known}) is None


def test_parts_are_all_queries_in_order():
    masks = torch.zeros(1, 1, 1, 6), torch.zeros(1, 1, 2, 6)
    parts = QueryParts(((0, 0, None), (0, 3, masks[0]), (3, 5, masks[1]), (5, 6, None)), masks[0])
    assert [part[:2] for part in parts.parts] == [(0, 3), (3, 5), (5, 6)]
    q = torch.arange(6.0).view(1, 1, 6, 1)
    assert torch.equal(parts.each(lambda first, last, mask: q[:, :, first:last] * (mask is not None)),
                       q * (torch.arange(6) < 5).view(1, 1, 6, 1))  # fmt: skip
