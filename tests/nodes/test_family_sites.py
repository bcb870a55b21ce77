"""Every attention call of every family, in ComfyUI's own model classes: who announced it, and where the video is."""

from __future__ import annotations

from collections import Counter
from math import prod

import pytest
import torch
from tiny import CASES
from tiny.case import parts, sample, watch, with_sites


@pytest.fixture(scope="session")
def models(pack):
    """Builds each tiny model once: (case) -> MODEL."""
    built = {}

    def model_of(case):
        if case.build not in built:
            built[case.build] = case.build()
        return built[case.build]

    return model_of


@pytest.fixture
def announced(pack, models, inference):
    """(case) -> (sites, placed, output): what each attention call of one evaluation was announced as."""

    def look(case):
        model = models(case)
        watched, seen = watch(with_sites(pack, model))
        out = sample(watched, case)
        locate = pack.attention.routing.step_context.locate
        return [(call, *locate(call.options, call.q_len, call.kv_len, call.begin)) for call in seen], out

    return look


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_call_is_announced_and_placed(case, pack, announced, models):
    calls, out = announced(case)
    assert calls, "no attention call came through"
    assert all(site.family for _, site, _ in calls), "a call that nobody announced"
    assert Counter(site.role for _, site, _ in calls) == case.calls
    for call, site, video_span in calls:
        if site.role != "self":
            continue
        if case.unplaced is not None:
            assert case.unplaced in video_span
            continue
        assert not isinstance(video_span, str), f"{call.q_len} x {call.kv_len}: {video_span}"
        assert video_span.grid == case.grid
        assert tuple((span.kind, span.length) for span in video_span.before) == case.before
        after = tuple((span.kind, span.length) for span in video_span.after)
        own = prod(case.grid) + sum(length for _, length in (*case.before, *case.after))
        assert after == case.after + (case.guests if call.kv_len > own else ())
        assert (video_span.part is None) == (call.q_len == call.kv_len)
    for ours, plain in zip(parts(out), parts(sample(models(case), case))):
        assert torch.equal(ours, plain) and torch.isfinite(plain).all()
    assert not any(m._forward_pre_hooks for m in models(case).model.diffusion_model.modules())
