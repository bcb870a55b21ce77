"""The first line of a report: how much faster, at which price; or what to do to learn it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from counted_runs import BACKENDS, HOST, add, call, make_stats

from attention.backends import registry
from attention.backends.autotune import AutotuneResult, KernelTrial
from attention.core.site import CROSS, SELF
from attention.inspect.answer import NAMES, answer_of
from attention.inspect.combined_report import combine
from attention.inspect.report import summarise
from attention.inspect.report_text import to_text
from attention.patterns import Spatial
from attention.routing.rules import Asker, Rule, Shape
from attention.routing.run_stats import RunStats

TIMED = Rule("sdpa", timing=True)


def measured(host: float, **others) -> AutotuneResult:
    """What `auto` measured: seconds of a call of the host's own attention and of others; the fastest wins."""
    trials = tuple(KernelTrial(name.replace("_", " "), seconds) for name, seconds in {"host": host, **others}.items())
    return AutotuneResult(min(trials, key=lambda trial: trial.seconds).name, trials, 0.0)


def run(stats: RunStats, seconds: float = 10.0) -> RunStats:
    """Gives a run its time: one step."""
    stats.begun = 0.0
    stats.marks.append((seconds, {}))
    return stats


def answer(stats: RunStats):
    return summarise(stats).answer


def test_measured_by_auto():
    stats = RunStats("LTXVModel", (4, 8, 16), 1)
    add(stats, SELF, 0, "sdpa flash", 100, wanted="auto", choice=measured(0.02, sdpa_flash=0.01))
    add(stats, CROSS, 0, HOST, 100, wanted="auto", of=call(512, 77), choice=measured(0.001, sdpa_flash=0.002))
    report = summarise(run(stats, 9.0))
    assert (
        to_text(report).splitlines()[0]
        == report.answer.sentence
        == ("Self-attention 2.00x as fast as ComfyUI's own (sdpa flash); about 10 % of the run saved, 1.0 s.")
    )
    data = json.loads(json.dumps(report.as_dict()))["answer"]
    assert (data["speedup"], data["saved_seconds"], data["saved_share"]) == (2.0, 1.0, 0.1)
    assert (data["role"], data["calls"], data["measured_calls"], data["turn_on_timing_of"]) == (SELF, 100, 100, [])


def test_seconds_of_measuring_are_not_the_run_s():
    stats = RunStats()
    add(stats, SELF, 0, "sdpa flash", 100, wanted="auto", choice=measured(0.02, sdpa_flash=0.01))
    stats.choosing = 1.0
    said = answer(run(stats, 10.0))
    assert said.share == pytest.approx(0.1) and said.sentence.endswith("saved, 1.0 s (measuring took 1.0 s, once).")


def test_calls_took_no_longer_than_the_steps_they_are_in():
    """Where trials ran on a busy machine, 100 calls of 0.1 s do not fit into steps of 2 s: what they saved shrinks."""
    stats = RunStats()
    add(stats, SELF, 0, "sdpa flash", 100, wanted="auto", choice=measured(0.2, sdpa_flash=0.1))
    found = answer(run(stats, 2.0))
    assert found.speedup == pytest.approx(2.0) and found.saved == pytest.approx(2.0)
    assert found.share == pytest.approx(0.5)


def test_calls_that_ran_the_host_s_own_count_as_they_are():
    stats = RunStats()
    add(stats, SELF, 0, "sdpa flash", 100, wanted="auto", choice=measured(0.02, sdpa_flash=0.01))
    # A failure, and another block without a rule: of the same geometry, whose time is known.
    add(stats, SELF, 1, HOST, 100, wanted="auto", fell_back=100, reason="x", choice=measured(0.02, sdpa_flash=0.01))
    add(stats, SELF, 2, HOST, 100, wanted=None)
    assert answer(stats).speedup == pytest.approx(6 / 5)
    # Another geometry: nothing is known of it.
    add(stats, SELF, 3, "sdpa flash", 50, wanted="auto", of=call(64, 64))
    said = answer(stats)
    assert said.speedup == pytest.approx(6 / 5) and (said.measured, said.calls) == (300, 350)
    assert "in 300 of 350 calls, the others are not timed" in said.sentence


def test_calls_that_nobody_timed_save_and_cost_nothing():
    stats = RunStats()
    add(stats, SELF, 0, "sdpa flash", 100, wanted="auto", choice=measured(0.02, sdpa_flash=0.01))
    add(stats, CROSS, 0, HOST, 100, wanted=None, of=call(512, 77))
    found = answer(run(stats, 9.0))
    assert (found.role, found.speedup, found.saved) == (SELF, pytest.approx(2.0), pytest.approx(1.0))


def test_slower_is_said():
    stats = RunStats()
    add(stats, SELF, 0, "sage", 100, wanted="sage", choice=replace(measured(0.01, sage=0.02), winner="sage"))
    assert answer(run(stats, 10.0)).sentence == (
        "Self-attention 0.50x as fast as ComfyUI's own (sage); about 11 % of the run lost, 1.0 s."
    )


def test_the_host_s_own_is_the_fastest():
    stats = RunStats()
    add(stats, SELF, 0, HOST, 100, wanted="auto", choice=measured(0.01, sdpa=0.02, sdpa_math=0.03))
    assert answer(run(stats)).sentence == (
        "Self-attention: ComfyUI's own is as fast as each of the 2 others that can run here, so nothing is saved."
    )


def test_a_kernel_that_is_out_is_not_counted_as_tried():
    stats, out = RunStats(), KernelTrial("sage", reason="error 0.3 is above 0.02")
    choice = measured(0.01, sdpa=0.02)
    add(stats, SELF, 0, HOST, 1, wanted="auto", choice=replace(choice, trials=(*choice.trials, out)))
    assert "as fast as the other kernel" in answer(stats).sentence


def test_too_little_of_a_run_to_say():
    stats = RunStats()
    add(stats, SELF, 0, "sdpa", 1, wanted="auto", choice=measured(0.02, sdpa=0.01))
    assert answer(run(stats, 100.0)).sentence.endswith("(sdpa); less than 1 % of the run.")
    assert answer_of(summarise(make_stats())).speedup is None


def test_without_steps_nothing_is_said_of_the_run():
    stats = RunStats()
    add(stats, SELF, 0, "sdpa", 1, wanted="auto", choice=measured(0.02, sdpa=0.01))
    assert answer(stats).sentence == "Self-attention 2.00x as fast as ComfyUI's own (sdpa)."


def test_not_timed_names_the_nodes_whose_timing_is_off():
    stats = RunStats()
    backend = Rule("sdpa", asker=Asker("5", "Video Attention Backend", times=True))
    plan = Rule("sdpa", asker=Asker("6", "Video Attention Load Plan"))
    add(stats, SELF, 0, "sdpa", 10, rules=(backend, plan))
    stats.rules = (backend, plan)
    said = answer(stats)
    assert said.timing_off == ("5",) and said.sentence == (
        "Not timed: turn timing on in Video Attention Backend to see how much faster sdpa is."
    )
    stats.rules = (replace(backend, timing=True), plan)
    assert answer(stats).timing_off == ()


def test_the_host_s_own_as_chosen_is_a_baseline():
    stats = RunStats()
    add(stats, SELF, 0, HOST, 80, wanted=registry.HOST, seconds=[2.9])
    said = answer(run(stats, 10.0))
    assert said.sentence == (
        "ComfyUI's own attention, as chosen: 2.9 s, 29 % of the run. Set backend to auto to compare."
    )
    text = to_text(summarise(stats))
    assert "Backend host default: ComfyUI's own attention for all 80 attention calls, as chosen." in text
    assert "0 of 80" not in text


def test_nothing_could_run():
    stats = RunStats()
    add(stats, SELF, 0, HOST, 8, wanted="sage", reason="needs cuda", fell_back=8)
    assert answer(stats).sentence == "No faster than ComfyUI's own: sage cannot run here (needs cuda)."


def test_guidance_is_not_a_question_of_speed():
    from attention.guidance.perturb import VALUES, Perturbation

    stats = RunStats()
    add(stats, SELF, 0, "sdpa", 100, wanted="auto", choice=measured(0.02, sdpa=0.01))
    stg = Rule("", SELF, perturbation=Perturbation("STG", VALUES))
    add(stats, SELF, 0, "STG: values", 100, wanted="STG", rules=(stg,))
    assert answer(stats).sentence == "Self-attention 2.00x as fast as ComfyUI's own (sdpa)."


def test_many_kernels_are_not_all_named():
    stats = RunStats()
    for block in range(NAMES + 2):
        add(stats, SELF, block, f"k{block}", 10 - block, choice=measured(0.02, sdpa=0.01))
    assert "(k0, k1, k2 and 2 more)" in answer(stats).sentence


def test_runs_add_up():
    runs = []
    for block, seconds in enumerate((0.01, 0.005)):
        stats = RunStats()
        add(stats, SELF, block, "sdpa", 100, wanted="auto", choice=measured(0.02, sdpa=seconds))
        runs.append(summarise(run(stats, 5.0)))
    both = combine(runs)
    assert both.answer.speedup == pytest.approx(4 / 1.5) and both.answer.saved == pytest.approx(2.5)
    assert [rule.ran for rule in both.rules] == [200] and both.answer.share == pytest.approx(0.2)


def missing(geometry, used="sdpa", **rule):
    """The hint of a run on such calls."""
    stats = RunStats()
    auto = Rule("auto", **rule)
    add(stats, SELF, 0, used, 10, wanted="auto", of=geometry, rules=(auto,), choice=measured(0.02, sdpa=0.01))
    return answer(stats).sentence


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(registry._LOADED, "sage", registry.Reason("SageAttention is not installed"))
    monkeypatch.setitem(registry._LOADED, "comfy-kitchen int8", registry.Reason("none"))
    geometry = replace(call(4096, 4096), device="cuda", capability=(9, 0), dtype=torch.bfloat16)
    hint = "SageAttention is not installed and may be faster: pip install sageattention."
    assert missing(geometry).endswith(hint)
    assert missing(geometry, max_error=0.001).count("SageAttention") == 0, "who asks for less error than it has"
    assert "SageAttention" not in missing(geometry, used="sage")
    # Where it could not run it is not praised.
    for other in (replace(geometry, device="cpu", capability=None), replace(geometry, capability=(7, 5))):
        assert "SageAttention" not in missing(other)
    assert "SageAttention" not in missing(replace(geometry, head_dim=256))
    assert "SageAttention" not in missing(replace(geometry, kv_len=64))


def test_a_library_that_is_there_is_not_named(monkeypatch):
    monkeypatch.setitem(registry._LOADED, "sage", lambda *args, **kwargs: None)
    geometry = replace(call(4096, 4096), device="cuda", capability=(9, 0), dtype=torch.bfloat16)
    assert "SageAttention" not in missing(geometry)


def test_two_nodes_that_ask_for_the_same_are_told_apart():
    stats = RunStats()
    rules = [Rule("sdpa", SELF, asker=Asker(str(n), "Backend")) for n in (5, 6)]
    add(stats, SELF, 0, "sdpa", 10, rules=(rules[0],))
    add(stats, SELF, 1, HOST, 10, rules=(rules[1],), reason="broken", fell_back=4)
    lines = summarise(stats).as_dict()["rule_lines"]
    assert lines == [
        "Backend sdpa (1st of 2 nodes): 10 of 10 self-attention calls.",
        "Backend sdpa (2nd of 2 nodes): 6 of 10 self-attention calls (broken).",
    ]


def test_a_later_rule_takes_what_it_covers():
    stats, pattern = RunStats(), Rule("", SELF, shape=Shape(Spatial()))
    add(stats, SELF, 0, "spatial (folded)", 10, wanted="spatial", rules=(pattern, BACKENDS["sdpa"]))
    add(stats, CROSS, 0, "sdpa", 10, rules=(BACKENDS["sdpa"], pattern))
    by_label = {rule.label: rule for rule in summarise(stats).rules}
    backend = by_label["backend sdpa"]
    assert (backend.ran, backend.could, backend.others, backend.seen) == (10, 10, 10, 20)
    assert backend.sentence() == "Backend sdpa: 10 of 10 attention calls."
    assert by_label["pattern spatial"].sentence() == "Pattern spatial: 10 of 10 self-attention calls."


def forecast(report, count=5, evaluations=10):
    return replace(report, forecasts=count, evaluations=evaluations)


def test_forecasts_are_part_of_the_answer():
    """5 of 10 computed in 5 s: without forecasts 10 s, and 1 s more without the kernel."""
    stats = RunStats()
    add(stats, SELF, 0, "sdpa", 100, wanted="auto", choice=measured(0.02, sdpa=0.01))
    said = answer_of(forecast(summarise(run(stats, 5.0))))
    assert said.saved == pytest.approx(6.0) and said.sentence == (
        "Self-attention 2.00x as fast as ComfyUI's own (sdpa), 5 of 10 model evaluations forecast; about 55 % of the "
        "run saved, 6.0 s."
    )


def test_forecasts_alone():
    stats = RunStats()
    add(stats, SELF, 0, HOST, 80, wanted=None)
    said = answer_of(forecast(summarise(run(stats, 5.0))))
    assert said.sentence == "5 of 10 model evaluations forecast; about 50 % of the run saved, 5.0 s."
    assert said.speedup is None and said.share == pytest.approx(0.5)


def test_forecasts_beside_what_saves_nothing():
    stats = RunStats()
    add(stats, SELF, 0, HOST, 100, wanted="auto", choice=measured(0.01, sdpa=0.02))
    said = answer_of(forecast(summarise(run(stats, 5.0)))).sentence
    assert "so nothing is saved" not in said and said.endswith("about 50 % of the run saved, 5.0 s.")


@pytest.mark.parametrize("cross, role", [(0.05, SELF), (0.07, CROSS)])
def test_it_is_about_self_attention_where_that_weighs(cross, role):
    stats = RunStats()
    add(stats, SELF, 0, "sdpa", 100, wanted="auto", choice=measured(0.02, sdpa=0.01))
    add(stats, CROSS, 0, "sdpa", 100, wanted="auto", of=call(512, 77), choice=measured(cross, sdpa=0.01))
    assert answer(stats).role == role


@pytest.mark.parametrize("own, words", [(0.0195, "50 ms"), (0.015, "0.50 s"), (0.005, "1.5 s")])
def test_seconds_are_as_long_as_they_need_to_be(own, words):
    stats = RunStats()
    add(stats, SELF, 0, "sdpa", 100, wanted="auto", choice=measured(0.02, sdpa=own))
    assert f"saved, {words}." in answer(run(stats, 5.0)).sentence
