"""Calibrate in a real ComfyUI: what it measures, chooses, leaves out, and keeps through an interrupt."""

from __future__ import annotations

import math

import pytest
import torch
from calibrating import UNITS, Interrupted, start, untimed


@pytest.fixture
def bench(lab, monkeypatch, tmp_path):
    return start(lab, monkeypatch, tmp_path)


def test_what_is_measured_and_chosen(bench, lab, plain):
    found = bench.calibrate(custom_budget=10.0)
    plan = found["plan"]
    assert (plan.model, plan.blocks, plan.heads, plan.head_dim, plan.tokens) == ("LTXVModel", 2, 2, 24, 24)
    assert len(plan.fingerprint) == 16 and dict(plan.versions)["torch"] == torch.__version__
    assert plan.sampling.startswith("euler, cfg 1, Scheduler: simple")
    # No budget to speak of: self-attention runs by the fastest pattern, cross-attention stays.
    assert len(plan.steps) == UNITS and plan.seconds == pytest.approx(0.525 * plan.exact_seconds)
    for step in plan.steps:
        assert (
            step.role == "self"
            and step.candidate.name == "temporal"
            and step.seconds == pytest.approx(step.exact_seconds / 20)
        )
        assert 0 < step.effect < step.local < 2 and 0 < step.error < 2
    # What was predicted is what the model gives, with its own seed and without any help of the node.
    planned = lab.sample(found["model"], seed=1)
    assert lab.error(planned, plain) == pytest.approx(plan.realised, rel=1e-3)
    # With the margin that one prompt asks for.
    predict = lab.pack.attention.plans.spread.predict_quantile
    assert plan.error == pytest.approx(predict([plan.realised])) and plan.quantile == 0.95
    assert plan.whole_exact_seconds > plan.exact_seconds
    assert plan.whole_exact_seconds - plan.whole_seconds == pytest.approx(plan.exact_seconds - plan.seconds)
    assert not any("host" in used for role, used in lab.counted(found["model"], seed=1) if role == "self")


def test_the_effect_on_the_block_is_what_the_block_gives(bench, lab):
    """Measured once more by hand: the first block in the first step, where its input is still the exact one."""
    bench.offer(bench.patterns.Spatial())
    step = bench.calibrate(custom_budget=10.0, step_ranges=4)["plan"].steps[0]
    assert step.blocks == (0, 0) and step.start == 0.0
    block, outputs = lab.model.model.diffusion_model.transformer_blocks[0], []
    for rules in ([], [step.rule()]):
        hook = block.register_forward_hook(lambda module, args, out: outputs.append(out.clone()))
        lab.sample(lab.pack.nodes.host.model_rules.add_rules(lab.model, rules), seed=1)
        hook.remove()
    assert step.effect == pytest.approx(lab.error(outputs[4], outputs[0]), rel=1e-3)


@pytest.mark.parametrize("budget", [0.0, 1e-4, 0.02, 0.3])
def test_the_budget_is_kept(bench, lab, plain, budget):
    found = bench.calibrate(custom_budget=budget)
    plan = found["plan"]
    assert plan.budget == budget and plan.error <= budget
    assert lab.error(lab.sample(found["model"], seed=1), plain) <= max(budget, 1e-6)
    assert bool(plan.steps) == (plan.seconds < plan.exact_seconds)


def test_budgets_have_names(bench):
    assert bench.calibrate(budget="fast")["plan"].budget == 0.1
    assert bench.calibrate(budget="lossless")["plan"].budget == 0.01


def test_measuring_changes_nothing(bench, lab, plain):
    hooks = lab.hooks(lab.model)
    bench.calibrate()
    assert torch.equal(lab.sample(seed=1), plain) and lab.hooks(lab.model) == hooks
    assert not lab.pack.nodes.host.model_rules.rules_of(lab.model)


def test_the_probing_run_gives_the_exact_latent(bench, lab, plain):
    given = []
    run = bench.lab.pack.nodes.runs.repeated_sampling.sampling_job.run
    bench.set(
        bench.lab.pack.nodes.runs.repeated_sampling.sampling_job,
        "run",
        lambda *args: given.append(run(*args)) or given[-1],
    )
    bench.calibrate()
    # The first run is timed, the second probes.
    assert all(torch.equal(latent, plain) for latent in given[:2])


def test_another_budget_measures_nothing_again(bench):
    bench.calibrate(custom_budget=0.3)
    first = len(bench.samplings)
    again = bench.calibrate(custom_budget=0.3)["plan"]
    assert len(bench.samplings) == first
    assert bench.calibrate(custom_budget=0.0)["plan"].steps == () != again.steps
    assert len(bench.samplings) == first
    bench.calibrate(custom_budget=0.3, seed=2)
    assert len(bench.samplings) >= 2 * first - 2


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_an_interrupt_keeps_what_was_measured(bench, after):
    whole = bench.calibrate(custom_budget=0.3)["plan"]
    total = len(bench.samplings)
    assert total > 5
    bench.plans._MEASURED.clear()
    bench.samplings.clear()
    bench.stop_after = after
    with pytest.raises(Interrupted):
        bench.calibrate(custom_budget=0.3)
    bench.stop_after = math.inf
    assert untimed(bench.calibrate(custom_budget=0.3)["plan"]) == untimed(whole)
    assert len(bench.samplings) == total


def test_an_interrupt_within_the_probing_keeps_its_calls(bench, lab):
    """Calls that were tried before the interrupt are not tried again."""
    trial_of, tried, stop = bench.probe.trial_of, [], [3]

    def counting(*given):
        if len(tried) == stop[0]:
            raise Interrupted
        tried.append(given)
        return trial_of(*given)

    bench.set(bench.probe, "trial_of", counting)
    with pytest.raises(Interrupted):
        bench.calibrate()
    stop[0] = math.inf
    bench.calibrate()
    # 2 blocks, 2 steps, 2 patterns; the call in which the interrupt came is tried anew, its first pattern twice.
    assert len(tried) == UNITS * 2 + 1


def test_the_hosts_interrupt_stops_it(bench):
    import comfy.model_management as management

    management.interrupt_current_processing(True)
    try:
        with pytest.raises(management.InterruptProcessingException):
            bench.calibrate()
    finally:
        management.interrupt_current_processing(False)


def test_the_bar_moves_on_to_its_end(bench):
    seen = []
    # Not the host's own bar: that leaves out what comes too fast.
    bench.set(bench.plan, "_bar", lambda: lambda done, total: seen.append((done, total)))
    bench.calibrate(custom_budget=0.3)
    assert [done for done, _ in seen] == list(range(1, 4 * len(bench.samplings) + 1))
    assert all(done <= total for done, total in seen) and seen[-1][0] >= 0.8 * seen[-1][1]


# --- candidates that fail ---------------------------------------------------------------------------------------------


def breaking(kind: str):
    def kernel(q, k, v, mask=None, scale=None):
        if kind == "raises":
            raise RuntimeError("no such instruction\nat line 7")
        return torch.full_like(q, math.nan if kind == "NaN" else math.inf)

    return kernel


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("raises", "RuntimeError: no such instruction"), ("NaN", "NaN or Inf in the output"), ("Inf", "NaN or Inf")],
)
def test_a_candidate_that_fails_is_left_out_with_its_reason(bench, lab, plain, kind, reason):
    registry = lab.pack.attention.backends.registry
    registry.load_all()
    bench.set(registry, "_LOADED", {**registry._LOADED, "sdpa math": breaking(kind)})
    bench.offer("sdpa math", bench.patterns.Spatial())
    found = bench.calibrate(custom_budget=10.0)
    assert f"sdpa math as self-attention, sdpa math as cross-attention: {reason}" in found["info"].replace(
        "sdpa math as cross-attention, sdpa math as self-attention",
        "sdpa math as self-attention, sdpa math as cross-attention",
    )
    assert {step.candidate.name for step in found["plan"].steps} == {"spatial"}
    assert torch.isfinite(lab.sample(found["model"], seed=1)).all()


def test_a_candidate_that_fails_later_is_left_out_too(bench, lab):
    """In the probe it works; in the sampling it does not."""
    registry, calls = lab.pack.attention.backends.registry, []
    registry.load_all()
    good = registry.load("sdpa math")

    def tired(*args, **named):
        calls.append(1)
        return good(*args, **named) if len(calls) <= 16 else math.nan * good(*args, **named)

    bench.set(registry, "_LOADED", {**registry._LOADED, "sdpa math": tired})
    bench.offer("sdpa math")
    found = bench.calibrate(custom_budget=10.0)
    assert "sdpa math in self, block 0, 0-50 %" in found["info"] and "NaN or Inf" in found["info"]
    assert found["plan"].steps == ()


def test_a_candidate_that_cannot_be_prepared_is_left_out(bench, lab):
    def decide(*args):
        raise MemoryError("no room for tiles")

    bench.set(bench.probe, "decide", decide)
    found = bench.calibrate(custom_budget=10.0)
    assert "spatial as self-attention, temporal as self-attention: MemoryError: no room for tiles" in found["info"]
    assert found["plan"].steps == ()


def test_a_candidate_that_is_no_faster_is_not_worth_a_sampling(bench, lab):
    bench.set(bench.probe, "time_in_turns", lambda runs, device: dict.fromkeys(runs, 1.0))
    assert bench.calibrate(custom_budget=10.0)["plan"].steps == ()
    assert len(bench.samplings) == 2


def test_one_sampling_for_each_part_scales_the_others(bench):
    each = bench.calibrate(custom_budget=10.0)["plan"]
    first = len(bench.samplings)
    one = bench.calibrate(custom_budget=10.0, end_error="one choice for each part", seed=2)["plan"]
    assert len(bench.samplings) - first < first
    assert len(one.steps) == len(each.steps) and all(0 < step.error < 3 for step in one.steps)


def easy(model):
    from comfy_extras.nodes_easycache import EasyCacheNode

    return EasyCacheNode.execute(model, 10.0, 0.0, 1.0, False).args[0]


def lazy(model):
    from comfy_extras.nodes_easycache import LazyCacheNode

    return LazyCacheNode.execute(model, 10.0, 0.0, 1.0, False).args[0]


def of_another_pack(model):
    """As TeaCache and its kin: the model's forward gives what it gave, in every step but the first and the last."""
    from comfy.patcher_extension import WrappersMP

    kept, clone = [], model.clone()

    def wrapper(executor, *args, **kwargs):
        if not kept or len(kept) > 2:
            kept.append(executor(*args, **kwargs))
            return kept[-1]
        kept.append(None)
        return kept[0].clone()

    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "another pack", wrapper)
    return clone


@pytest.mark.parametrize("cache", [easy, lazy, of_another_pack])
def test_a_step_cache_in_front_is_refused(bench, lab, cache):
    """It would answer for the model: nothing would take time, and nothing would make an error."""
    with pytest.raises(ValueError, match="of 8 steps something else answered for the model.*from before it"):
        bench.calibrate(cache(lab.model), steps=8, sampler_name="euler")
    assert len(bench.samplings) == 1, "said after the first sampling"


@pytest.mark.parametrize("method", ["heun", "dpmpp_2s_ancestral", "uni_pc", "seeds_3"])
def test_methods_of_several_calls_a_step_are_no_cache(bench, lab, method):
    assert bench.calibrate(lab.model, steps=4, sampler_name=method, custom_budget=10.0)["plan"].steps


@pytest.mark.parametrize("cfg", [float("nan"), float("inf")])
def test_a_cfg_that_is_no_number_is_said(bench, lab, cfg):
    with pytest.raises(ValueError, match=f"cfg: {cfg} is no strength"):
        bench.calibrate(lab.model, cfg=cfg)


def test_a_model_that_gives_nan_is_said(bench, lab):
    from comfy.patcher_extension import WrappersMP

    model = lab.model.clone()
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "nan", lambda run, *args: run(*args) * float("nan"))
    with pytest.raises(ValueError, match="it gives NaN or Inf with ComfyUI's own attention already"):
        bench.calibrate(model)


def test_the_bar_s_length_is_known_before_the_last_samplings(bench):
    """Each time Calibrate knows how many samplings are to come, the bar is as long as all of their steps."""
    sampling = bench.lab.pack.nodes.runs.repeated_sampling.Sampling
    seen, expect = [], sampling.expect

    def told(self, samplings):
        expect(self, samplings)
        seen.append((self.done, samplings, self.total, self.job.steps))

    bench.set(sampling, "expect", told)
    bench.calibrate(custom_budget=0.3)
    assert len(seen) >= 3
    assert all((total - done) == samplings * steps > samplings for done, samplings, total, steps in seen)
