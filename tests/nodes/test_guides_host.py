"""Guides of part strength in a real ComfyUI: it does self-attention in two calls, the video's queries and the guides',
each with a mask. Patterns, guidance and maps work on the video's as they do on whole calls."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from guiding import guided
from shaping import CHOSEN, FIXED, error, shaped
from tiny import CASES
from tiny.case import SLOT, parts, sample, with_sites
from witness import given, row_of, with_witness

HALVES = {str(case): case for case in CASES if "half strength" in case.name}
pytestmark = pytest.mark.usefixtures("inference")


@pytest.fixture(scope="module")
def built(pack):
    return functools.cache(lambda build: build())


def by_hand(pack, model, change):
    """The MODEL, each self-attention call of the video's queries done by `change`(run, q, k, v, mask).

    Told by the mask, not by memory: the host gives the guides' queries a mask with a row for each, the video's one for
    all.
    """
    told = with_sites(pack, model)
    site_of = pack.attention.core.site.site_of

    def attend(func, q, k, v, heads, mask=None, **kwargs):
        run = functools.partial(func, heads=heads, **kwargs)
        site = site_of(kwargs["transformer_options"])
        if site is None or site.role != "self" or mask is None or mask.shape[-2] > 1:
            return run(q, k, v, mask=mask)
        return change(run, q, k, v, mask)

    told.model_options["transformer_options"][SLOT] = attend
    return told


def under(pack, model, pattern, grid):
    """The MODEL whose video sees by the pattern's own mask, added to the host's."""
    relation = pack.attention.patterns.spec.relation_of(pattern, grid)
    at = torch.arange(math.prod(grid))

    def change(run, q, k, v, mask):
        seen = torch.ones(len(at), k.shape[1], dtype=torch.bool)
        seen[:, : len(at)] = relation.mask_mod(0, 0, at[:, None], at[None])
        return run(q, k, v, mask=mask.masked_fill(~seen, -torch.inf))

    return by_hand(pack, model, change)


@pytest.mark.parametrize("case", HALVES.values(), ids=str)
@pytest.mark.parametrize("pattern", FIXED)
def test_a_pattern_shapes_the_videos_part(pattern, case, pack, built):
    model = built(case.build)
    patched = shaped(pack, model, pattern).args[0]
    rule = pack.nodes.host.model_rules.pattern_of(patched)
    out = sample(patched, case, steps=2)
    report = pack.nodes.host.run_history.find(out)
    if pack.attention.patterns.density.density(rule, case.grid) == 1.0:
        assert report.fallbacks
        return
    calls = {row.used.split(" (")[0]: row.calls for row in report.rows if row.role == "self"}
    others = {used: n for used, n in calls.items() if used != pattern}
    assert calls[pattern] == sum(others.values()) > 0, "one of the two calls has the video's queries"
    assert not report.fallbacks and not report.unplaced
    truth = sample(under(pack, model, rule, case.grid), case, steps=2)
    effect = error(sample(model, case, steps=2), truth)
    assert effect > 2e-5 and error(out, truth) <= 0.1 * effect


@pytest.mark.parametrize("case", HALVES.values(), ids=str)
@pytest.mark.parametrize("pattern", CHOSEN)
@pytest.mark.parametrize("tail", [True, False])
def test_blocks_are_chosen_for_the_videos_part(tail, pattern, case, pack, built):
    patched = shaped(pack, built(case.build), pattern, choice={"tail": tail}).args[0]
    report = pack.nodes.host.run_history.find(sample(patched, case))
    assert sum(row.calls for row in report.rows if row.used == f"{pattern} (blocks)") > 0 == len(report.fallbacks)


@pytest.mark.parametrize("case", HALVES.values(), ids=str)
def test_a_rule_that_wants_errors_gets_none(case, pack, built):
    sample(shaped(pack, built(case.build), "spatial", on_unsupported="error").args[0], case)


@pytest.mark.parametrize("case", HALVES.values(), ids=str)
@pytest.mark.parametrize("how", ["values", "skip"])
def test_the_extra_pass_weakens_the_videos_part(how, case, pack, built):
    """One block of two: the video's tokens keep their values or nothing, the guides attend as ever."""
    model, tokens = built(case.build), math.prod(case.grid)
    count = {"calls": 0}

    def change(run, q, k, v, mask):
        out, count["calls"] = run(q, k, v, mask=mask), count["calls"] + 1
        return out if count["calls"] % 2 else v[:, :tokens] * (how == "values")

    out = sample(guided(pack, "stg", model, mode=how, blocks="1", audio=False), case)
    report = pack.nodes.host.run_history.find(out)
    assert not report.fallbacks and report.notes[0].startswith("Spatiotemporal guidance: 1 model call more.")
    plain, weak = sample(model, case), sample(by_hand(pack, model, change), case)
    alone = case.options.get("cfg", 1.0) == 1.0
    if alone:
        strong = parts(plain)
        wanted = [s + 10.0 * (s - w) for s, w in zip(strong, parts(weak))]
        for got, right, before in zip(parts(out), wanted, strong):
            effect = (right - before).norm()
            assert (got - right).norm() <= max(0.01 * effect, 1e-5 * right.norm())
    assert error(weak, plain) > 1e-5 < error(out, plain)


@pytest.mark.parametrize("case", HALVES.values(), ids=str)
def test_maps_of_the_videos_part(case, pack, built):
    maps, layout = pack.nodes.runs.attention_maps, pack.attention.core.tensor_layout
    positive, latent = given(case)
    witness, calls = with_witness(built(case.build))
    query = pack.attention.inspect.maps.Query(80, 20, 1)
    patched, watcher = maps.watch_attention(witness, query)
    maps.evaluate(patched, positive, latent, 0.7, 0, True)
    own = [view for view in watcher.views if view.site.role == "self"]
    assert len(own) == 2 and "self" not in watcher.left_out, "one view for each block"
    token = query.tokens(case.grid)
    self_masks = (call for call in calls if call[3] is not None and call[1].shape[-2] == len(own[0].weights))
    video = [call for call in self_masks if call[3].shape[-2] == 1]
    for view, call in zip(own, video, strict=True):
        assert (row_of(call, token, len(view.weights), layout) - view.weights).abs().max() <= 1e-5
        assert view.video_span.part == (0, math.prod(case.grid)) and abs(sum(view.shares.values()) - 1) < 1e-5
        assert view.shares["guide"] > 0 and view.heat.shape == case.grid


@pytest.mark.parametrize("case", HALVES.values(), ids=str)
def test_ties_between_frames_are_of_the_video(case, pack, built):
    """Enhance-A-Video's gain is computed from the video's own queries and keys, wherever the guides are."""
    model, strength = built(case.build), pack.attention.guidance.strength
    out = sample(guided(pack, "enhance", model, weight=500.0), case)

    def change(run, q, k, v, mask):
        heads = run.keywords["heads"]
        split = [
            layout[:, :, : math.prod(case.grid)]
            for layout in pack.attention.core.tensor_layout.to_heads(q, k, v, heads, False)
        ]
        amount = strength.cross_frame_intensity(split[0], split[1], case.grid, None)
        return run(q, k, v, mask=mask) * (amount * (case.grid[0] + 500.0)).clamp(min=1.0)[:, None, None]

    truth = sample(by_hand(pack, model, change), case)
    assert error(sample(model, case), truth) > 1e-3 and error(out, truth) < 1e-5


def test_a_part_that_cannot_be_told_stays_dense_with_the_reason(pack, built):
    """Copies of the queries, two parts of one length: neither memory nor length tells which is which."""
    case = HALVES["LTX-Video 0.9 guide of half strength, as long as the video"]
    patched = shaped(pack, built(case.build), "spatial").args[0]
    router = patched.model_options["transformer_options"][SLOT]

    def copied(func, q, k, v, *args, **kwargs):
        return router(func, q.clone(), k, v, *args, **kwargs)

    patched.model_options["transformer_options"][SLOT] = copied
    report = pack.nodes.host.run_history.find(sample(patched, case))
    reasons = {reason for _, _, reason in report.fallbacks}
    assert reasons == {"self-attention in parts (60 x 120 tokens), which of 2 is not known"}
    once = HALVES["LTX-Video 0.9 guide of half strength"]
    report = pack.nodes.host.run_history.find(sample(patched, once))
    assert not report.fallbacks, "lengths that differ tell it alone"
