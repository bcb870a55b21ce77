"""`auto` and the kernels that it waits for: Video Attention Benchmark sees them right, or they stay out.

On the CPU, where this pack's own kernel cannot run: stand-ins under its names, that accept the CPU and compute with
torch or with exact engines, each spoilt in its own way. test_the_kernel_itself runs the real one in Triton's
interpreter.
"""

from __future__ import annotations

from dataclasses import replace

import interpreted
import pytest
import torch
from kernels_made import broken, exact, greedy, wrong
from open_limits import open_limits
from stand_in_host import sdpa_host
from video_calls import first_runner

from attention import patterns as p
from attention import sparse
from attention.backends import autotune, registry
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.site import SITE, AttentionSite
from attention.core.tensor_layout import to_heads
from attention.core.tokens import BOTH, Tokens, VideoSpan
from attention.plans import bench
from attention.routing.attention_call import AttentionCall
from attention.routing.decide import inspect
from attention.routing.router import Router
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT, StepContext
from attention.sparse import engine_registry
from attention.sparse.gather_blocks import GATHER_BLOCKS
from attention.sparse.gather_tiles import GATHER_TILES
from attention.sparse.runner import plan_of_all

NAME, GRID, HEADS = "video attention int8", (10, 8, 8), 2
PLACE = VideoSpan(GRID, 0, BOTH)


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch):
    monkeypatch.setattr(registry, "_SEEN", {})
    monkeypatch.setattr(autotune, "_CHOSEN", {})
    monkeypatch.setattr(sparse.autotune, "_CHOSEN", {})
    monkeypatch.setitem(registry._LOADED, "flex", Reason("not here: it is slow"))
    plan_of_all.cache_clear()
    yield
    plan_of_all.cache_clear()


@pytest.fixture
def stand_in(monkeypatch):
    """stand_in(kernel, spoil): the backend NAME runs `kernel`, its engine what exact ones give, through `spoil`."""

    def add(kernel=exact, spoil=lambda out, video: out):
        row = replace(registry.get(NAME), limits=open_limits(exact=False), other_reasons=None)
        monkeypatch.setitem(registry._BY_NAME, NAME, row)
        monkeypatch.setitem(registry._LOADED, NAME, kernel)
        monkeypatch.setattr(registry, "TABLE", tuple(row if r.name == NAME else r for r in registry.TABLE))
        engine = next(engine for engine in sparse.TABLE if engine.name == NAME)
        fake = replace(engine, plan=plan, run=lambda video, *rest: spoil(run(video, *rest), video))
        monkeypatch.setattr(engine_registry, "TABLE", tuple(fake if e.name == NAME else e for e in sparse.TABLE))

    return add


def plan(task, device, dtype):
    by = GATHER_BLOCKS if GATHER_BLOCKS.refuses(task, None) is None else GATHER_TILES
    return by, by.plan(task, device, dtype)


def run(video, context_kv, scale, planned, hold):
    by, inner = planned
    return by.run(video, context_kv, scale, inner, *((hold,) if by.selects_blocks else ()))


def measured(length=640, dim=16):
    """What Video Attention Benchmark makes of one self-attention of a video of GRID: a Bench that has seen it."""
    torch.manual_seed(0)
    seen, x = bench.Bench(), torch.randn(1, length, HEADS * dim)
    given = x, x.roll(1, 1), x.roll(2, 1)
    before = [t.clone() for t in given]
    options = {SITE: AttentionSite("", "self", 0), CONTEXT: StepContext(RunStats(), tokens=Tokens(GRID))}
    seen(sdpa_host, *given, HEADS, transformer_options=options)
    assert all(map(torch.equal, given, before)), "a kernel that writes is tried on copies"
    return seen


def call_of(length=640, dim=16, **how):
    q = torch.randn(1, HEADS, length, dim)
    return replace(describe(q, q, q), **how)


def engines(call=None):
    """What `auto` has for a pattern."""
    found = engine_registry.runners(p.TopBlocks(25), PLACE, call or call_of())
    return {name for runner in found for name in runner.engines}


def test_nobody_benchmarked_nothing_changes(stand_in):
    stand_in()
    accepted, reasons = registry.candidates(call_of())
    assert NAME not in accepted and reasons[NAME] == registry.UNSEEN
    assert engines() == {"blocks"}
    # By name it runs as ever.
    assert registry.why_not(NAME, call_of()) is None
    assert first_runner(p.TopBlocks(25), PLACE, call_of(), engine=NAME).engines == (NAME,)


def test_without_a_gpu_nothing_is_said_of_it():
    accepted, reasons = registry.candidates(call_of())
    assert NAME not in accepted and NAME not in reasons
    seen = measured()
    assert registry._SEEN == {} and "`auto`" not in bench.to_text(seen.trials)


def test_seen_right_it_is_a_candidate(stand_in):
    stand_in()
    seen = measured()
    assert NAME in registry.candidates(call_of())[0] and engines() == {"blocks", NAME}
    assert f"- {NAME}: `auto` may take it from now on, for patterns too, until ComfyUI stops." in bench.to_text(
        seen.trials
    )
    # A longer call of the same kernel, but no other code.
    assert NAME in registry.candidates(call_of(length=2048))[0]
    for other in ({"dim": 32}, {"dtype": torch.float64}, {"mask": "key"}, {"capability": (9, 0)}):
        assert NAME not in registry.candidates(call_of(**other))[0], other
    assert engines(call_of(dim=32)) == {"blocks"}


BAD = [
    (broken, "no such instruction"),
    (greedy, "it writes into its inputs"),
    (wrong, "does not take it: it was wrong"),
]


@pytest.mark.parametrize(("bad", "said"), BAD)
def test_a_wrong_kernel_stays_out_for_good(stand_in, bad, said):
    """wrong() is off by 5 %: more than the 2 % of an INT8 kernel."""
    stand_in(bad)
    assert said in bench.to_text(measured().trials)
    stand_in()
    measured()
    assert NAME not in registry.candidates(call_of())[0] and engines() == {"blocks"}


def writes(out, video):
    video[1].mul_(0.5)
    return out


def fails(out, video):
    raise RuntimeError("no such instruction")


SPOILT = [lambda out, video: out * 1.05, lambda out, video: out * float("nan"), writes, fails]


@pytest.mark.parametrize("spoil", SPOILT)
def test_wrong_by_lists_it_is_no_engine(stand_in, spoil):
    stand_in(spoil=spoil)
    text = bench.to_text(measured().trials)
    assert NAME in registry.candidates(call_of())[0] and engines() == {"blocks"}
    assert f"- {NAME}: `auto` may take it from now on, not for patterns, until ComfyUI stops." in text


def test_a_little_wrong_is_what_it_promises(stand_in):
    stand_in(lambda q, k, v, mask=None, scale=None: exact(q, k, v) * 1.015, lambda out, video: out * 1.015)
    measured()
    assert NAME in registry.candidates(call_of())[0] and NAME in engines()


def test_without_the_video_s_grid_no_pattern_is_tried(stand_in):
    stand_in()
    seen, x = bench.Bench(), torch.randn(1, 640, HEADS * 16)
    seen(sdpa_host, x, x, x, HEADS)
    assert NAME in registry.candidates(call_of())[0] and engines() == {"blocks"}
    assert list(registry._SEEN.values()) == [True]


def test_the_next_run_chooses_anew(stand_in, monkeypatch):
    """A choice that was made before is not kept, dense or by a pattern; a run that goes on keeps its own."""
    stand_in()
    x = torch.randn(1, 640, HEADS * 16)
    site, rules = AttentionSite("", "self", 0), (Rule(), Rule("", role="self", shape=Shape(p.Spatial(), "auto")))
    monkeypatch.setattr(autotune, "time_in_turns", lambda runs, device: dict.fromkeys(runs, 2.0) | wins(runs))
    monkeypatch.setattr(sparse.autotune, "time_in_turns", lambda runs, device: dict.fromkeys(runs, 2.0) | wins(runs))

    def wins(runs):
        return {name: 1.0 for name in runs if name == NAME}

    def used(router, context):
        router(sdpa_host, x, x, x, HEADS, transformer_options={SITE: site, CONTEXT: context})
        return [decision.used for decision in context.stats.decisions.values()]

    def runs():
        return [StepContext(RunStats(), tokens=Tokens(GRID)) for _ in rules]

    routers, first = [Router((rule,)) for rule in rules], runs()
    before = [*map(used, routers, first)]
    assert before == [["host default (sdpa_host)"], ["spatial (folded)"]]
    measured()
    assert [*map(used, routers, first)] == before
    assert [*map(used, routers, runs())] == [[NAME], [f"spatial ({NAME})"]]


def test_every_kernel_that_auto_waits_for_has_an_engine():
    """Both rows are one kernel: who promises nothing is never taken."""
    waits = [name for name in registry.names() if registry.get(name).promise]
    assert waits == [engine.name for engine in sparse.TABLE if not engine.auto and engine.name in registry.names()]
    assert not any(registry.get(name).auto for name in waits)


def test_calibrate_tries_it_once_it_is_seen_right(pack, monkeypatch):
    ours = pack.attention.backends.registry
    monkeypatch.setattr(ours, "_SEEN", {})
    monkeypatch.setitem(ours._LOADED, NAME, exact)

    def tried():
        return NAME in {candidate.backend for candidate in pack.nodes.runs.plans.candidates("kernels")}

    assert not tried()
    for right, then in ((True, True), (False, False)):
        ours.note(NAME, call_of(), right)
        assert tried() is then


def test_the_place_of_the_benchmark_is_the_call_s():
    options = {SITE: AttentionSite("", "self", 0), CONTEXT: StepContext(RunStats(), tokens=Tokens(GRID))}
    x = torch.randn(1, 640, HEADS * 16)
    _, video_span, call, malformed = inspect(
        AttentionCall(sdpa_host, x, x, x, HEADS, kw={"transformer_options": options})
    )
    assert malformed is None and (video_span.grid, video_span.start) == (GRID, 0)
    assert call == replace(call_of(), kv_heads=HEADS) and to_heads(x, x, x, HEADS, False)[0].shape == (1, 2, 640, 16)


def test_the_kernel_itself():
    """In Triton's interpreter the real kernel and its engine are seen right; with a wrong scale they are not."""
    found = interpreted.run("triton_proof.py")
    assert found["right"] == {name: [True, True] for name in registry.names() if registry.get(name).promise}
    assert found["spoilt"] == [False, False]
