"""Packs that split a module's heads over several calls: each head keeps its number, the module's call counts once."""

from __future__ import annotations

import pytest
from newer_host import chunked_heads
from tiny import CASES
from tiny.case import build, parts, sample
from tiny.minimax import CONFIG, latents

from attention.core.head_chunks import HeadChunks, pattern_of_heads, spans_of_heads
from attention.core.site import SELF, AttentionSite
from attention.patterns.blocks import MassBlocks, TopBlocks, split_heads

HEADS = 4


@pytest.fixture(scope="module")
def case():
    plain = next(case for case in CASES if str(case) == "MiniMax-H3")
    build_it = lambda: build("MiniMaxH3", {**CONFIG, "num_attention_heads": HEADS})  # noqa: E731
    return type(plain)(
        plain.variant,
        build_it,
        latents(3, 24, 24),
        plain.text,
        plain.calls,
        (3, 12, 12),
        plain.before,
        name="four heads",
    )


def test_heads_are_counted_in_their_order():
    site, chunks = AttentionSite("", SELF, 0, heads=7), HeadChunks()
    assert (
        chunks.of(site, 7) is None and chunks.of(AttentionSite("", SELF, 0), 3) is None and chunks.of(None, 3) is None
    )
    for _ in range(2):
        assert [chunks.of(site, count) for count in (3, 2, 2)] == [0, 3, 5]
    chunks.of(site, 3)
    chunks.begin(site)
    assert chunks.of(site, 3) == 0, "a module that was left by an error begins anew"


@pytest.mark.parametrize(
    "pattern", [TopBlocks(40.0, by_heads=(40.0, 10.0, 20.0)), MassBlocks(90.0, by_heads=(90.0, 50.0))]
)
@pytest.mark.parametrize("sizes", [(12,), (6, 6), (4, 4, 4), (5, 4, 3), (1,) * 12, (7, 5)])
def test_each_head_keeps_its_number(pattern, sizes):
    """Against the numbers of all heads, one by one."""
    own = [number for number in pattern.by_heads for _ in range(12 // len(pattern.by_heads))]
    first = 0
    for size in sizes:
        groups = split_heads(pattern_of_heads(pattern, first, size, 12))
        found = [getattr(group, pattern.amount) for group in groups for _ in range(size // len(groups))]
        assert found == own[first : first + size]
        first += size
    assert pattern_of_heads(TopBlocks(20.0), 0, 3, 12) == TopBlocks(20.0)
    assert pattern_of_heads(pattern, 0, 2, 11).startswith("11 heads, the pattern is for")


def test_spans_of_heads():
    assert spans_of_heads(((0, 1), (5, None)), 0, 4, 8) == ((0, 1),)
    assert spans_of_heads(((0, 1), (5, None)), 4, 4, 8) == ((1, 3),)
    assert spans_of_heads(((0, 1),), 4, 4, 8) == ()


@pytest.mark.parametrize("chunks", [2, 3, 4])
@pytest.mark.parametrize("timing", [False, True])
def test_calls_count_once_for_each_module(pack, inference, case, chunks, timing):
    model = case.build()
    truth, rule = sample(model, case, steps=2), pack.attention.routing.rules.Rule("sdpa", timing=timing)
    out = sample(chunked_heads(pack.nodes.host.model_rules.add_rule(model, rule), chunks), case, steps=2)
    report = pack.nodes.host.run_history.find(out)
    for ours, theirs in zip(parts(out), parts(truth), strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    assert [(row.role, row.used, row.calls, row.blocks) for row in report.rows] == [("self", "sdpa", 4, {0, 1})]
    assert report.ruled == 4 and not report.notes and not report.fallbacks
    assert [sum(lap.calls.values()) for lap in report.timeline] == [2, 2]
    assert bool(report.seconds) == timing


def test_two_of_ours_around_another_pack_s_override(pack, inference, case):
    """Each sees the chunks; the module's call counts once, where it ran."""
    install, rule = pack.nodes.host.model_rules.add_rule, pack.attention.routing.rules.Rule
    middle = install(case.build(), rule("reference"))
    options = middle.model_options["transformer_options"]
    below = options["optimized_attention_override"]
    options["optimized_attention_override"] = lambda func, *args, **kwargs: below(func, *args, **kwargs)
    report = pack.nodes.host.run_history.find(
        sample(chunked_heads(install(middle, rule("sdpa", blocks=((1, 1),))), 4), case, seed=91)
    )
    assert {(row.used, row.calls) for row in report.rows} == {("reference", 1), ("sdpa", 1)} and report.calls == 2


def test_what_falls_back_counts_once_too(pack, inference, case):
    rule = pack.attention.routing.rules.Rule("sage")
    report = pack.nodes.host.run_history.find(
        sample(chunked_heads(pack.nodes.host.model_rules.add_rule(case.build(), rule), 4), case, steps=2, seed=71)
    )
    assert report.calls == sum(report.fallbacks.values()) == 4 and report.ruled == 0


@pytest.mark.parametrize("chunks", [2, 3, 4])
def test_a_pattern_with_a_number_for_each_group_takes_the_right_heads(pack, inference, case, chunks):
    """As without chunks: the same latent."""
    blocks, rules = pack.attention.patterns.blocks, pack.attention.routing.rules
    pattern = blocks.TopBlocks(60.0, by_heads=(60.0, 20.0))
    rule = rules.Rule(shape=rules.Shape(pattern, "blocks"), role="self")
    model = pack.nodes.host.model_rules.add_rule(case.build(), rule)
    whole, plain = sample(model, case, seed=81), sample(case.build(), case, seed=81)
    out = sample(chunked_heads(model, chunks), case, seed=81)
    report = pack.nodes.host.run_history.find(out)
    for ours, theirs, without in zip(parts(out), parts(whole), parts(plain), strict=True):
        assert (ours - theirs).norm() <= 1e-2 * (theirs - without).norm()
    assert report.calls == 2 and all(row.used.startswith("top blocks") for row in report.rows)


def test_every_family_s_modules_have_as_many_heads_as_they_are_said_to(pack, inference, monkeypatch):
    """Or a whole call would be taken for a part of one."""
    seen = []
    monkeypatch.setattr(
        pack.attention.core.head_chunks.HeadChunks, "of", lambda self, site, heads, asked: seen.append((site, heads))
    )
    for each in {each.variant: each for each in CASES if not each.name}.values():
        sample(pack.nodes.host.model_rules.add_rule(each.build(), pack.attention.routing.rules.Rule("sdpa")), each)
    assert not seen
