"""Memory that is missing anywhere on a call's way, for every backend and every engine: the render goes on, counted."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import prod

import engines_here
import pytest
import torch
from faulty_kernels import only
from memory_missing import FailsAt, Limited
from open_limits import open_limits
from pattern_rows import default
from stand_in_host import ON_CPU, sdpa_host

from attention import patterns, sparse
from attention.backends import registry
from attention.core.geometry import describe
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.site import SELF, SITE, AttentionSite
from attention.core.tokens import Span, Tokens
from attention.inspect.report import summarise
from attention.inspect.report_text import to_text
from attention.routing import decide as decide_module
from attention.routing.router import Router
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT
from attention.sparse import engine_registry, own_triton
from attention.sparse.gather_tiles import GATHER_TILES

torch.set_num_threads(1)
HEADS, DIM, GRID, TEXT = 4, 64, (4, 5, 7), 5
SITE_0, TOKENS = AttentionSite("LTXV", SELF, 0), Tokens(GRID, suffix=(Span("text", TEXT),))


def copying(q, k, v, mask=None, scale=None):
    """Stands in for a kernel of a library that is not here: copies first, as those that quantise do, then attends."""
    return scaled_dot_product_attention(q.clone(), k.clone(), v.clone(), mask, scale)


@pytest.fixture
def backend(request, monkeypatch):
    """The name of a backend that runs here: itself, or a stand-in under its name."""
    name = request.param
    if name not in ON_CPU:
        made = replace(registry.get(name), limits=open_limits(), other_reasons=None, promise=0.0)
        monkeypatch.setitem(registry._BY_NAME, name, made)
        monkeypatch.setitem(registry._LOADED, name, copying)
    return name


def as_tiles(row):
    """Our own Triton kernel's row, run by the engine that gathers: there is no GPU here."""

    def run(video, context_kv, scale, plan, cache):
        return GATHER_TILES.run(tuple(t.clone() for t in video), context_kv, scale, plan)

    return replace(row, refuses=lambda task, geometry: None, plan=GATHER_TILES.plan, run=run, gqa=False)


@contextmanager
def able(row, monkeypatch):
    """The Shape of the first pattern that an engine runs here, by itself or with a stand-in."""
    way = engines_here.way_of(row)
    if row in (own_triton.INT8, own_triton.HALF, own_triton.FLOAT8):
        row = as_tiles(row)
    monkeypatch.setattr(engine_registry, "TABLE", tuple(row if row.name == one.name else one for one in sparse.TABLE))
    monkeypatch.setattr(decide_module, "describe", lambda *call, **how: way.told(describe(*call, **how)))
    tokens = TOKENS
    with way.here():
        for pattern in map(default, patterns.TABLE):
            for tokens in (TOKENS, Tokens(GRID)):
                stats = RunStats()
                answer(Rule("", SELF, shape=Shape(pattern, row.name)), draw(tokens), stats, tokens)
                decision = next(iter(stats.decisions.values()))
                if decision.kernel is not None:
                    yield Shape(pattern, row.name), tokens
                    return
        pytest.fail(f"{row.name} ran no pattern: {decision.unshaped}, {decision.reason}")


def draw(tokens=TOKENS):
    length = prod(GRID) + sum(span.length for span in tokens.suffix)
    return [torch.randn(1, length, HEADS * DIM) for _ in range(3)]


def answer(rule, tensors, stats, tokens=TOKENS):
    options = {CONTEXT: stats.context.but(tokens=tokens), SITE: SITE_0}
    return Router((rule,))(sdpa_host, *tensors, HEADS, transformer_options=options)


def two(rule, tensors, tokens=TOKENS, around=None):
    """Two calls of one run: their outputs, and the stats."""
    router, stats = Router((rule,)), RunStats()
    options = {CONTEXT: stats.context.but(tokens=tokens), SITE: SITE_0}
    with ExitStack() as stack, torch.inference_mode():
        if around is not None:
            stack.enter_context(around)
        return [router(sdpa_host, *tensors, HEADS, transformer_options=options) for _ in range(2)], stats


def right(outs, wanted, loose) -> bool:
    """Whether each output is the kernel's, or that of ComfyUI's own attention, which ran in its place."""
    dense = wanted[1]
    return all(min(relative_l2(out, wanted[0]), relative_l2(out, dense)) < loose for out in outs)


def reasons(stats) -> str:
    """All that a report says of why something else than usual was done."""
    report = summarise(stats)
    said = [*map(str, report.fallbacks), *map(str, report.chunked), *report.notes]
    text = to_text(report)
    assert all(str(why[-1]) in text for why in (*report.fallbacks, *report.chunked))
    return " ".join(said)


def try_everywhere(rule, tokens=TOKENS, loose=1e-4):
    tensors = draw(tokens)
    (usual, *_), stats = two(rule, tensors, tokens)
    heads = [t.unflatten(-1, (HEADS, DIM)).transpose(1, 2).double() for t in tensors]
    wanted = usual, scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    places = FailsAt(None)
    two(rule, tensors, tokens, places)
    assert places.seen > 3
    for times, step in ((1, 1), (3, 4)):
        for number in range(0, places.seen, step):
            around = FailsAt(number, times)
            outs, stats = two(rule, tensors, tokens, around)
            assert right(outs, wanted, loose) and around.raised, f"{times} times from allocation {number} on"
            decision = only(stats)
            # What helps at once, as our copies moved aside or a look in parts, is no news; what ran otherwise is.
            otherwise = decision.fell_back or decision.chunked or decision.unshaped
            assert not otherwise or "emory" in reasons(stats)
    return wanted, tensors


def try_limits(rule, wanted, tensors, tokens=TOKENS, loose=1e-4):
    """As much memory as the render takes, and less and less: it goes on, first in chunks, then on ComfyUI's own."""
    whole, floor, seen = Limited(1 << 40), Limited(1 << 40), set()
    two(rule, tensors, tokens, whole)
    two(Rule("host default"), tensors, tokens, floor)
    least = floor.peak * 1.3
    for part in (1.0, 0.8, 0.6, 0.4, 0.2):
        limit = int(max(least, whole.peak * part))
        around = Limited(limit)
        outs, stats = two(rule, tensors, tokens, around)
        assert right(outs, wanted, loose), f"{limit} of {whole.peak} bytes"
        decision = only(stats)
        seen |= {"chunks"} if decision.chunked else {"fell back"} if decision.fell_back else {"usual"}
        assert "usual" in seen
        if decision.chunked or decision.fell_back:
            assert "memory" in reasons(stats)
    return seen


@pytest.mark.parametrize("backend", registry.names(), indirect=True)
def test_every_backend(backend):
    rule = Rule(backend)
    wanted, tensors = try_everywhere(rule)
    seen = try_limits(rule, wanted, tensors)
    # torch's fused kernels take hardly more than ComfyUI's own attention, which is one of them.
    assert "chunks" in seen or (backend in ON_CPU and not registry.get(backend).scores)


@pytest.mark.parametrize("row", sparse.TABLE, ids=lambda row: row.name)
def test_every_engine(row, monkeypatch):
    with able(row, monkeypatch) as (shape, tokens):
        rule = Rule("", SELF, shape=shape)
        wanted, tensors = try_everywhere(rule, tokens)
        try_limits(rule, wanted, tensors, tokens)


@pytest.mark.parametrize("backend", ["reference", "sdpa math"])
def test_a_rules_memory_is_kept(backend):
    """Counted: as much as the rule says beside q, k and v, the same numbers, and the report says so."""
    # 2 MiB of scores for each of eight heads.
    q = torch.randn(1, 740, 8 * DIM)
    rule = Rule(backend, memory=8)
    with torch.inference_mode():
        stats, counter = RunStats(), Limited(1 << 40)
        answer(Rule(backend), [q] * 3, RunStats())
        router, options = Router((rule,)), {CONTEXT: stats.context, SITE: SITE_0}
        first = router(sdpa_host, q, q, q, 8, transformer_options=options)
        with counter:  # the first call holds copies of ours
            out = router(sdpa_host, q, q, q, 8, transformer_options=options)
        whole = Router((Rule(backend),))(sdpa_host, q, q, q, 8)
    assert counter.peak <= 8 << 20 and out.equal(whole) and first.equal(whole)
    decision = only(stats)
    assert decision.chunked == 2 and decision.chunks.heads < 8 and decision.used == backend
    report = summarise(stats)
    how = f"{decision.chunks.text}: memory: at most 8 MiB a call"
    assert f"  2 calls, self-attention, {backend}, {how}" in to_text(report).splitlines()
    assert report.as_dict()["in_chunks"] == [{"role": "self", "used": backend, "how": how, "calls": 2}]


def test_a_rules_memory_is_kept_by_patterns():
    shape = Shape(patterns.TemporalWindow(1), "tiles")
    tensors, stats = draw(), RunStats()
    whole, chunked = (
        two(Rule("", SELF, shape=shape, memory=memory), tensors)[0] for memory in (0, 1)
    )  # fmt: skip
    assert all(map(torch.equal, whole, chunked))
    answer(Rule("", SELF, shape=shape, memory=1), tensors, stats)
    assert only(stats).chunks is not None and "temporal window" in str(list(summarise(stats).chunked))
    answer(Rule("", SELF, shape=shape, memory=1 << 20), tensors, stats := RunStats())
    assert only(stats).chunks is None and not summarise(stats).chunked


def test_blocks_of_one_kind_learn_from_each_other():
    """What one block found out about memory the next one begins with, in this run; the next run begins anew."""
    kernel_calls, stats = [], RunStats()

    def kernel(q, k, v, mask=None, scale=None):
        kernel_calls.append(q.shape[1])
        if q.shape[1] > 1:
            raise torch.OutOfMemoryError("no")
        return scaled_dot_product_attention(q, k, v)

    made = replace(registry.get("reference"), name="hungry", limits=open_limits(), load=lambda: kernel, scores=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BY_NAME, "hungry", made)
        patch.setitem(registry._LOADED, "hungry", kernel)
        for block in range(3):
            options = {CONTEXT: stats.context.but(tokens=TOKENS), SITE: AttentionSite("LTXV", SELF, block)}
            Router((Rule("hungry"),))(sdpa_host, *draw(), HEADS, transformer_options=options)
        assert kernel_calls == [4, 4, 1, 1, 1, 1] + 2 * [1, 1, 1, 1]
        assert [decision.chunked for decision in stats.decisions.values()] == [1, 1, 1]
        answer(Rule("hungry"), draw(), RunStats())
        assert kernel_calls[14:16] == [4, 4]


def test_heads_with_percentages_of_their_own_keep_them_in_chunks():
    pattern = patterns.TopBlocks(keep=60, by_heads=(60, 15))
    tensors = draw()
    whole, chunked = (
        two(Rule("", SELF, shape=Shape(pattern, "blocks"), memory=memory), tensors)[0] for memory in (0, 1)
    )
    assert all(relative_l2(a, b) < 1e-6 for a, b in zip(whole, chunked))
