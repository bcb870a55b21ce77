"""auto's choice: measured once for a geometry, never a loss, never above the error bound."""

import time
from types import SimpleNamespace

import pytest
import torch
from kernels_made import SDPA, broken, exact, greedy, wrong

from attention.backends import autotune, registry
from attention.core.tensor_layout import from_heads, to_heads
from attention.inspect import report
from attention.routing.router import Router
from attention.routing.rules import IN_ORDER, MEASURE, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT


def host(q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw):
    host.calls += 1
    time.sleep(host.seconds)
    q, k, v = to_heads(q, k, v, heads, skip_reshape)
    return from_heads(SDPA(q, k, v, attn_mask=mask), skip_output_reshape)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(autotune, "_CHOSEN", {})
    host.calls, host.seconds = 0, 0.0


def use(monkeypatch, **kernels):
    """Only these kernels are open to auto. They stand in for GPU kernels, which cannot run here."""
    loaded = {name.replace("_", " "): kernel for name, kernel in kernels.items()}
    monkeypatch.setattr(registry, "candidates", lambda call: (list(loaded), {}))
    for name, kernel in loaded.items():
        monkeypatch.setitem(registry._LOADED, name, kernel)


def run(rule=None, stats=None, calls=1, length=33):
    router, stats = Router((rule or Rule(),)), stats or RunStats()
    x = torch.randn(2, length, 24)
    for _ in range(calls):
        out = router(host, x, x, x, 3, transformer_options={CONTEXT: stats.context})
    return out, from_heads(SDPA(*to_heads(x, x, x, 3, False)), False), stats


def slow(q, k, v, mask=None, scale=None):
    time.sleep(0.02)
    return SDPA(q, k, v)


def used(stats):
    return {decision.used for decision in stats.decisions.values()}


def test_the_faster_kernel_wins(monkeypatch):
    use(monkeypatch, sage=slow, sdpa=exact)
    host.seconds = 0.01
    out, truth, stats = run()
    assert used(stats) == {"sdpa"}
    torch.testing.assert_close(out, truth)


def test_the_host_wins_when_nothing_is_faster(monkeypatch):
    use(monkeypatch, sage=slow)
    _, _, stats = run()
    (name,) = used(stats)
    assert name.startswith(registry.HOST)
    assert not report.summarise(stats).fallbacks, "choosing the host is a choice, not a fallback"


def test_what_else_the_machine_does_is_not_counted():
    waits = iter((0, 0.05, 0.001, 0.02, 0.03, 0.02))
    found = autotune.time_in_turns({"": lambda: time.sleep(next(waits, 0.02))}, torch.device("cpu"))
    assert 0.001 <= found[""] < 0.02


def test_a_first_time_that_is_out_of_line_does_not_stand_alone():
    """Calls of 1 ms, the first counted one of 0.3 s: more than what all repeats of one may take."""
    waits = iter((0, 0.3, 0.001, 0.001, 0.001, 0.001))
    found = autotune.time_in_turns({"": lambda: time.sleep(next(waits))}, torch.device("cpu"))
    assert found[""] < 0.2


@pytest.mark.parametrize("turn", range(3))
def test_one_that_raises_once_is_never_the_fastest(turn):
    turns = iter(range(99))

    def fails_once():
        if next(turns) == turn:
            raise RuntimeError("busy")

    assert autotune.time_in_turns({"": fails_once}, torch.device("cpu"))[""] == float("inf")


BAD = [(wrong, "error"), (broken, "no such instruction"), (greedy, "it writes into its inputs")]


@pytest.mark.parametrize("bad, reason", BAD)
def test_wrong_and_broken_kernels_are_out(monkeypatch, bad, reason):
    use(monkeypatch, sage=bad, sdpa=exact)
    host.seconds = 0.01
    out, truth, stats = run()
    assert used(stats) == {"sdpa"}
    torch.testing.assert_close(out, truth)
    assert reason in " ".join(report.summarise(stats).measured)


def test_a_kernel_that_writes_is_tried_on_copies(monkeypatch):
    use(monkeypatch, sage=greedy)
    q, k, v = (torch.randn(2, 20, 24) for _ in range(3))
    before = [t.clone() for t in (q, k, v)]
    mask = torch.rand(2, 3, 20, 20) > 0.3
    Router((Rule(),))(host, q, k, v, 3, mask, transformer_options={CONTEXT: RunStats().context})
    assert all(torch.equal(a, b) for a, b in zip(before, (q, k, v)))


def test_a_backend_that_disappears_is_not_remembered(monkeypatch):
    host.seconds = 0.01
    use(monkeypatch, sdpa=exact, sage=slow)
    assert used(run()[2]) == {"sdpa"}
    use(monkeypatch, sage=slow)
    (name,) = used(run()[2])
    assert name.startswith(registry.HOST)
    use(monkeypatch)
    _, _, stats = run()
    assert report.summarise(stats).fallbacks == {("self", "auto", "no backend accepts this call"): 1}


def test_a_kernel_that_fails_on_and_off_is_out(monkeypatch):
    turns = []

    def moody(q, k, v, mask=None, scale=None):
        turns.append(1)
        if len(turns) > 4:
            raise RuntimeError("out of memory")
        return SDPA(q, k, v)

    host.seconds = 0.01
    use(monkeypatch, sage=moody, sdpa=exact)
    _, _, stats = run()
    assert used(stats) == {"sdpa"} and len(turns) == 5
    assert "it fails on and off" in " ".join(report.summarise(stats).measured)


def test_a_busy_moment_slows_all_alike(monkeypatch):
    """The later half of the calls takes ten times as long: one kernel after the other, the faster would lose."""
    monkeypatch.setattr(autotune, "_once", lambda run, device: run())
    load = iter([1.0] * autotune.REPEATS + [10.0] * 99)
    seconds = autotune.time_in_turns({"slow": lambda: 0.002 * next(load), "fast": lambda: 0.001 * next(load)}, None)
    assert seconds["fast"] < seconds["slow"]


def test_a_looser_bound_lets_the_kernel_in(monkeypatch):
    use(monkeypatch, sage=wrong)
    host.seconds = 0.01
    assert used(run(Rule(max_error=0.06))[2]) == {"sage"}
    assert used(run(Rule(max_error=0.04))[2]) != {"sage"}


def test_measured_once_for_a_geometry(monkeypatch):
    use(monkeypatch, sage=slow)
    _, _, first = run(calls=1)
    measured = host.calls
    _, _, second = run(calls=4)
    assert host.calls == measured + 4, "a known geometry is not timed again, not in another run either"
    assert first.choosing > 0 and second.choosing == 0
    run(length=34)
    assert host.calls > measured + 5, "another length is"


def test_table_order_does_not_time(monkeypatch):
    _, _, stats = run(Rule(choice=IN_ORDER))
    assert host.calls == 0
    assert used(stats) == {"sdpa"}
    assert next(iter(stats.decisions.values())).choice is None


def test_masks_and_cross_lengths_are_sampled_right():
    router, stats = Router((Rule(choice=MEASURE),)), RunStats()
    q, k = torch.randn(2, 50, 24), torch.randn(2, 17, 24)
    mask = torch.rand(2, 1, 1, 17) > 0.3
    host.seconds = 0.01
    out = router(host, q, k, k, 3, mask=mask, transformer_options={CONTEXT: stats.context})
    expected = from_heads(SDPA(*to_heads(q, k, k, 3, False), attn_mask=mask), False)
    torch.testing.assert_close(out, expected)
    choice = next(iter(stats.decisions.values())).choice
    assert all(trial.error < 1e-5 for trial in choice.trials), choice


def test_an_override_in_between_is_not_called_to_be_timed(monkeypatch):
    use(monkeypatch, sage=slow)
    seen = []

    def foreign(func, *args, **kwargs):
        seen.append(func)
        return func(*args, **kwargs)

    router, x = Router((Rule(),), previous=foreign), torch.randn(1, 20, 24)
    router(host, x, x, x, 3, transformer_options={CONTEXT: RunStats().context})
    assert len(seen) == 1


def test_a_mask_of_bools_and_one_of_numbers_are_tried_apart(monkeypatch):
    """Kernels turn the one into the other, or take one alone: what was right and fast for one says nothing of both."""
    use(monkeypatch, sdpa=exact)
    x, stats = torch.randn(2, 33, 24), RunStats()
    for mask in (torch.ones(33, 33, dtype=torch.bool), torch.zeros(33, 33), torch.zeros(33, 33)):
        Router((Rule(),))(host, x, x, x, 3, mask=mask, transformer_options={CONTEXT: stats.context})
    assert len(autotune._CHOSEN) == 2 and len({decision.geometry for decision in stats.decisions.values()}) == 1


@pytest.mark.parametrize(("error", "out"), [(0.0, False), (0.02, False), (0.0201, True), (float("nan"), True)])
def test_an_error_up_to_the_bound_is_no_reason(error, out):
    trial = autotune.check_error("kernel", None, SimpleNamespace(error_of_run=lambda run: error), 0.02)
    assert (trial.reason is not None) == out and trial.name == "kernel"
    assert trial.error == pytest.approx(error, nan_ok=True)
    assert not out or trial.reason == f"error {error:.3g} is above 0.02"


def test_how_much_the_winner_gains():
    trial, host = autotune.KernelTrial, autotune.HOST_RUN
    trials = (trial(host, 4.0), trial("fast", 1.0), trial("wrong", 0.5, reason="error 0.3"), trial("untimed"))
    gains = {name: autotune.AutotuneResult(name, trials, 1.0).times for name in ("fast", host, "wrong", "untimed")}
    assert gains == {"fast": 0.25, host: 1.0, "wrong": float("inf"), "untimed": float("inf")}
    assert autotune.AutotuneResult("fast", trials[1:], 1.0).times == float("inf"), "the host was not timed"
    never = (trial(host, float("inf")), *trials[1:])
    assert autotune.AutotuneResult("fast", never, 1.0).times == float("inf"), "nor could it be"
