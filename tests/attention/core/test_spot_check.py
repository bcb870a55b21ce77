"""What an output is compared with: every batch entry, head and end of the sequence, whoever asks.

A kernel that is wrong in one of them alone was trusted once: the positive and the negative prompt are one batch.
"""

from __future__ import annotations

import time

import pytest
import torch
import truth
from open_limits import open_limits
from stand_in_host import exact, to_host
from video_calls import first_runner

from attention import patterns, sparse
from attention.backends import autotune, registry
from attention.backends.spec import Backend
from attention.core import spot_check
from attention.core.geometry import describe
from attention.core.input_copies import WRITES
from attention.core.site import SELF, SITE, AttentionSite
from attention.core.spot_check import SpotCheck, query_rows
from attention.core.tokens import BOTH, Tokens, VideoSpan
from attention.plans import bench, probe
from attention.plans.plan import Candidate
from attention.routing.router import Router
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT, StepContext
from attention.sparse import engine_registry

torch.set_num_threads(1)


def draw(batch=2, heads=4, kv=4, q_len=40, kv_len=40, dim=8):
    return [torch.randn(batch, h, n, dim) for h, n in ((heads, q_len), (kv, kv_len), (kv, kv_len))]


@pytest.mark.parametrize("chunk", [1, 3000, 1 << 24])
@pytest.mark.parametrize(("heads", "kv"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("mask", ["none", "key", "dense bool", "each head", "bias"])
def test_the_truth_is_float64_s(monkeypatch, chunk, heads, kv, mask):
    monkeypatch.setattr(spot_check, "CHUNK", chunk)
    monkeypatch.setattr(spot_check, "SAMPLED", 64)
    q, k, v = draw(3, heads, kv, 50, 37)
    masks = {
        "none": None,
        "key": torch.rand(3, 1, 1, 37) < 0.6,
        "dense bool": torch.rand(1, 1, 50, 37) < 0.6,
        "each head": torch.rand(3, heads, 50, 37) < 0.6,
        "bias": torch.randn(1, heads, 50, 37),
    }
    given = masks[mask]
    if given is not None and given.dtype == torch.bool:
        given[..., 0] = True
    expected = truth.attention(q, k, v, given, 0.3).out
    made = SpotCheck(q, k, v, given, 0.3)
    torch.testing.assert_close(made.truth, spot_check.gather_rows(expected, made.rows).float())
    assert made(expected.float()) < 1e-6


SIZES = [(1, 1, 5000), (2, 40, 75600), (1, 24, 3), (2, 3, 129), (9, 500, 17)]


@pytest.mark.parametrize(("batch", "heads", "length"), SIZES)
def test_both_ends_of_every_head_and_others_between(batch, heads, length):
    rows = query_rows(batch, heads, length, "cpu")
    number = min(length, max(spot_check.FEWEST, min(spot_check.MOST, spot_check.SAMPLED // (batch * heads))))
    assert rows.shape == (batch, heads, number) and rows.min() == 0 and rows.max() == length - 1
    assert (rows == 0).any(-1).all() and (rows == length - 1).any(-1).all()
    if length > 128:
        gaps = rows.flatten().unique().diff()
        assert gaps.max() < 0.06 * length, "no stretch that no head looks at"
    if batch * heads > 1 and length > number:
        assert len(rows.flatten(0, 1).unique(dim=0)) > 1, "not the same of each head"


@pytest.mark.parametrize(("batch", "heads", "length"), [(2, 40, 75600), (1, 24, 6000), (32, 8, 1000)])
def test_the_cost_is_bounded(batch, heads, length):
    number = query_rows(batch, heads, length, "cpu").numel()
    assert number <= max(spot_check.SAMPLED, spot_check.FEWEST * batch * heads) <= 0.02 * batch * heads * length
    one = length * (2 * 128 + 3 * number // (batch * heads))
    q, k = (torch.empty(1).expand(batch, heads, length, 128) for _ in range(2))
    for b, _, keys in spot_check.chunks(q, k, number // (batch * heads)):
        held = one * len(range(*b.indices(batch))) * len(range(*keys.indices(heads)))
        assert held <= max(one, spot_check.CHUNK)


def spoil(out, entry, head, rows=slice(None), factor=1.3):
    out[entry, head, rows] *= factor
    return out


PLACES = [(entry, head) for entry in (0, 1, 2) for head in (0, 3, 5)]


@pytest.mark.parametrize(("entry", "head"), PLACES)
@pytest.mark.parametrize("small", [1.0, 1e-3])
def test_the_error_is_that_of_the_worst_entry(entry, head, small):
    """Also where the entry is small beside the others, which drown it in a norm over all."""
    q, k, v = draw(3, 6, 2, 64, 48)
    v[entry] *= small
    right = truth.attention(q, k, v).out.float()
    wrong = spoil(right.clone(), entry, head)
    real = ((wrong - right)[entry].norm() / right[entry].norm()).item()
    assert SpotCheck(q, k, v)(wrong) == pytest.approx(real, rel=0.15) and SpotCheck(q, k, v)(right) < 1e-5
    nan = wrong.clone()
    nan[entry, head, -1, 0] = float("nan")
    assert SpotCheck(q, k, v)(nan) != SpotCheck(q, k, v)(nan)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(-1, None)])
def test_either_end_alone_is_seen(rows):
    q, k, v = draw(2, 4, 4, 3000, 16)
    right = truth.attention(q, k, v).out.float()
    assert SpotCheck(q, k, v)(spoil(right.clone(), 1, 3, rows, 9.0)) > 10 * SpotCheck(q, k, v)(right)


def test_many_entries_are_told_in_parts():
    q, k, v = draw(200, 2, 2, 5, 5)
    right = truth.attention(q, k, v).out.float()
    assert SpotCheck(q, k, v)(right) < 1e-5 and SpotCheck(q, k, v)(spoil(right.clone(), 171, 1, factor=0)) > 0.2


def test_no_norm_no_division():
    q, k, v = draw()
    v.zero_()
    assert SpotCheck(q, k, v)(torch.zeros_like(q)) == 0.0 and SpotCheck(q, k, v)(torch.ones_like(q)) > 1


# --- whoever asks ----------------------------------------------------------------------------------------------------

GRID, HEADS = (4, 8, 8), 4
TOKENS = Tokens(GRID)


def kernel_of(entry, head):
    return lambda q, k, v, mask=None, scale=None: spoil(exact(q, k, v).to(q.dtype), entry, head, factor=0.0)


def slow_host(q, k, v, heads, mask=None, skip_output_reshape=False, **kw):
    time.sleep(0.05)
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return to_host(exact(q, k, v).to(q.dtype), skip_output_reshape)


def tensors_of(batch=3):
    return [torch.randn(batch, 256, HEADS * 8) for _ in range(3)]


@pytest.fixture
def only_test(monkeypatch):
    def add(kernel):
        row = Backend("test", "A test's.", open_limits(), lambda: kernel)
        monkeypatch.setattr(registry, "TABLE", (row,))
        monkeypatch.setattr(registry, "_BY_NAME", {"test": row})
        monkeypatch.setitem(registry._LOADED, "test", kernel)
        monkeypatch.setattr(autotune, "_CHOSEN", {})

    return add


@pytest.mark.parametrize(("entry", "head"), [(0, 1), (1, 0), (2, 3)])
def test_auto_and_the_benchmark_see_every_entry_and_head(only_test, entry, head):
    only_test(kernel_of(entry, head))
    given, stats = tensors_of(), RunStats()
    out = Router((Rule(),))(slow_host, *given, HEADS, transformer_options={CONTEXT: stats.context})
    assert torch.equal(out, slow_host(*given, HEADS))
    (decision,) = stats.decisions.values()
    assert "is above" in decision.choice.trials[-1].reason
    (rows,) = _benched(given).values()
    assert next(row for row in rows if row.name == "test").error > 0.3


def _benched(given):
    seen = bench.Bench()
    seen(slow_host, *given, HEADS, transformer_options={CONTEXT: StepContext(RunStats())})
    return seen.trials


@pytest.mark.parametrize(("entry", "head"), [(0, 1), (1, 0), (2, 3)])
def test_so_does_the_choice_of_an_engine(monkeypatch, entry, head):
    def broken(row):
        spoilt = lambda *a: spoil(row.run(*a), entry, head, factor=0.0)  # noqa: E731
        return type(row)(**{**{n: getattr(row, n) for n in row.__dataclass_fields__}, "run": spoilt})

    first = sparse.TABLE.index(sparse.reshape.RESHAPE)
    table = [*sparse.TABLE]
    table[first] = broken(table[first])
    monkeypatch.setattr(engine_registry, "TABLE", tuple(table))
    monkeypatch.setattr(sparse.autotune, "_CHOSEN", {})
    stats, given = RunStats(), tensors_of()
    options = {CONTEXT: stats.context.but(tokens=TOKENS), SITE: AttentionSite("LTXV", SELF, 0)}
    Router((Rule("", SELF, shape=Shape(patterns.Spatial())),))(slow_host, *given, HEADS, transformer_options=options)
    (decision,) = stats.decisions.values()
    errors = {trial.name: trial.reason for trial in decision.choice.trials}
    assert "is above" in errors["folded"] and errors["slabs"] is errors["tiles"] is None


@pytest.mark.parametrize(("entry", "head"), [(0, 1), (1, 0), (2, 3)])
def test_so_does_the_proof(entry, head):
    video_span, given = VideoSpan(GRID, 0, BOTH), draw(3, HEADS, 2, 256, 256, 16)
    ours = first_runner(patterns.Neighbourhood(3, 60, 60), video_span, describe(*given))
    for factor, least, most in ((1.0, 0.0, 1e-5), (0.0, 0.3, 1.0), (float("nan"), float("inf"), float("inf"))):
        out = spoil(ours(*given), entry, head, factor=factor)
        assert least <= sparse.proof._error(ours, ours, lambda kernel, out=out: out, given, None) <= most


@pytest.mark.parametrize("factor", [1.0, float("nan"), None], ids=["right", "NaN", "raises"])
def test_what_an_engine_writes_in_the_proof_is_undone(factor):
    """Whatever comes of it: the tensors are the model's."""
    video_span, given = VideoSpan(GRID, 0, BOTH), draw(3, HEADS, 2, 256, 256, 16)
    before = [t.clone() for t in given]
    ours = first_runner(patterns.Neighbourhood(3, 60, 60), video_span, describe(*given))

    def run(kernel):
        out = kernel(*given)
        given[1].mul_(0.5)
        if factor is None:
            raise RuntimeError("no image")
        return out * factor

    assert sparse.proof._error(ours, ours, run, given, None) == float("inf")
    assert all(map(torch.equal, given, before))


def test_the_pattern_s_truth_knows_the_scale():
    video_span, given = VideoSpan(GRID, 0, BOTH), draw(1, 2, 2, 256, 256, 16)
    runner = first_runner(patterns.Spatial(), video_span, describe(*given))
    made, fixed = sparse.autotune.spot_check_of(*given, runner, None, 0.9)
    assert fixed and made(runner(*given, 0.9)) < 1e-5 and made(runner(*given)) > 0.1


def test_a_kernel_that_writes_on_all_heads_alone_is_undone(only_test, monkeypatch):
    """Of one head it would have gone unnoticed: what auto, Benchmark and Calibrate run is the call itself."""

    def kernel(q, k, v, mask=None, scale=None):
        out = exact(q, k, v).to(q.dtype)
        if q.shape[0] > 1 and q.shape[1] == HEADS:
            k.mul_(2)
        return out

    only_test(kernel)
    given = tensors_of()
    before = [t.clone() for t in given]
    stats = RunStats()
    Router((Rule(),))(slow_host, *given, HEADS, transformer_options={CONTEXT: stats.context})
    assert next(iter(stats.decisions.values())).choice.trials[-1].reason == WRITES
    (rows,) = _benched(given).values()
    assert next(row for row in rows if row.name == "test").reason == WRITES
    wanted, trials = {(SELF, None, 0): (Candidate(backend="test"),)}, {}
    watching = probe.Probe(wanted, trials)
    watching.step = 0
    watching(slow_host, *given, HEADS)
    assert next(t for n, t in trials[SELF, None, 0].items() if n != autotune.HOST_RUN).reason == WRITES
    assert all(map(torch.equal, given, before))


def test_out_of_memory_beside_our_copies_is_tried_without_them():
    q, k, v = draw()
    made, tries = SpotCheck(q, k, v), []

    def run():
        tries.append(1)
        if len(tries) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return exact(q, k, v).float()

    assert made.error_of_run(run) < 1e-5 and len(tries) == 2
    assert "no image" in made.error_of_run(lambda: (_ for _ in ()).throw(RuntimeError("no image")))


@pytest.mark.parametrize("length", [1, 40, 5000])
def test_rows_are_made_where_the_call_is(length):
    """torch's stand-ins of a GPU's tensors refuse to be mixed with those of the CPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert query_rows(2, 3, length, torch.device("cuda")).device.type == "cuda"
