"""Calibrate, Save Plan, Load Plan and Verify in a real ComfyUI, on the tiny LTX-Video model."""

from __future__ import annotations

import json
import math

import pytest
import torch

HOW = {
    "candidates": "patterns", "budget": "custom", "custom_budget": 0.05, "block_groups": 2, "step_ranges": 2,
    "end_error": "every choice", "seeds": 1, "seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler",
    "scheduler_name": "simple",
}  # fmt: skip
LATENT = torch.zeros(1, 128, 2, 3, 4)
# The two blocks of the tiny model, its two parts of four steps: what there is to decide about for one role.
UNITS = 4


class Interrupted(Exception):
    pass


class Bench:
    """The nodes of plans, and how often and with what the model was sampled."""

    def __init__(self, lab, monkeypatch):
        nodes = lab.pack.nodes
        self.lab, self.plan, self.plans, self.calibration = lab, nodes.plan, nodes._plans, nodes._calibration
        self.probe = lab.pack.attention.probe
        self.patterns = lab.pack.attention.patterns
        self.candidate = lab.pack.attention.plan.Candidate
        self.samplings, self.stop_after = [], math.inf
        run = nodes._repeat._sampling.run

        def counted(job, callback):
            if len(self.samplings) >= self.stop_after:
                raise Interrupted
            self.samplings.append(job)
            return run(job, callback)

        monkeypatch.setattr(nodes._repeat._sampling, "run", counted)
        self.set = monkeypatch.setattr
        self.offer(self.patterns.Spatial(), self.patterns.Temporal())

    def offer(self, *candidates) -> None:
        """What is tried from now on: patterns, or names of backends. The tiny model's calls are all overhead, so times
        are made up: the less a candidate sees, the faster."""
        made = [self.candidate(c) if isinstance(c, str) else self.candidate(pattern=c) for c in candidates]
        seconds = {"host": 1.0, "temporal": 0.05}
        self.set(self.plans, "candidates", lambda kind: made)
        self.set(self.calibration, "WORTH", 0.0)
        self.set(self.probe, "race", lambda runs, device: {name: seconds.get(name, 0.1) for name in runs})

    def calibrate(self, model=None, latent=None, **other):
        """{output: value} of a Calibrate node."""
        node, (positive, negative) = self.plan.VideoAttentionCalibrate, self.lab.prompt
        samples = {"samples": LATENT if latent is None else latent}
        output = node.execute(model or self.lab.model, positive, negative, samples, **{**HOW, **other})
        return dict(zip((part.id for part in node.GET_SCHEMA().outputs), output.args)) | {"model": output.args[0]}


@pytest.fixture
def bench(lab, monkeypatch, tmp_path):
    import folder_paths

    lab.pack.nodes._plans._MEASURED.clear()
    monkeypatch.setattr(folder_paths, "get_user_directory", lambda: str(tmp_path))
    return Bench(lab, monkeypatch)


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
    assert lab.error(planned, plain) == pytest.approx(plan.realised, rel=1e-3) == pytest.approx(plan.error, rel=1e-3)
    assert not any("host" in used for role, used in lab.counted(found["model"], seed=1) if role == "self")


def test_the_effect_on_the_block_is_what_the_block_gives(bench, lab):
    """Measured once more by hand: the first block in the first step, where its input is still the exact one."""
    bench.offer(bench.patterns.Spatial())
    step = bench.calibrate(custom_budget=10.0, step_ranges=4)["plan"].steps[0]
    assert step.blocks == (0, 0) and step.start == 0.0
    block, outputs = lab.model.model.diffusion_model.transformer_blocks[0], []
    for rules in ([], [step.rule()]):
        hook = block.register_forward_hook(lambda module, args, out: outputs.append(out.clone()))
        lab.sample(lab.pack.nodes._host.install_all(lab.model, rules), seed=1)
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
    assert not lab.pack.nodes._host.rules_of(lab.model)


def test_the_probing_run_gives_the_exact_latent(bench, lab, plain):
    given = []
    run = bench.lab.pack.nodes._repeat._sampling.run
    bench.set(bench.lab.pack.nodes._repeat._sampling, "run", lambda *args: given.append(run(*args)) or given[-1])
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
    assert bench.calibrate(custom_budget=0.3)["plan"] == whole
    assert len(bench.samplings) == total


def test_an_interrupt_within_the_probing_keeps_its_calls(bench, lab):
    """Calls that were tried before the interrupt are not tried again."""
    judge, judged, stop = bench.probe.judge, [], [3]

    def counting(run, truth):
        if len(judged) == stop[0]:
            raise Interrupted
        judged.append(run)
        return judge(run, truth)

    bench.set(bench.probe, "judge", counting)
    with pytest.raises(Interrupted):
        bench.calibrate()
    stop[0] = math.inf
    bench.calibrate()
    # 2 blocks, 2 steps, 2 patterns; the call in which the interrupt came is tried anew, its first pattern twice.
    assert len(judged) == UNITS * 2 + 1


def test_the_hosts_interrupt_stops_it(bench):
    import comfy.model_management as management

    management.interrupt_current_processing(True)
    try:
        with pytest.raises(management.InterruptProcessingException):
            bench.calibrate()
    finally:
        management.interrupt_current_processing(False)


def test_the_bar_moves_on_to_its_end(bench, monkeypatch):
    import comfy.utils

    seen = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *a, **k: seen.append((value, total)))
    bench.calibrate(custom_budget=0.3)
    values = [value for value, _ in seen]
    # The host leaves out what comes too fast.
    assert values == sorted(values) and len(values) > len(bench.samplings)
    assert all(value <= total for value, total in seen) and seen[-1][0] >= 0.8 * seen[-1][1]


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
    registry = lab.pack.attention.registry
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
    registry, calls = lab.pack.attention.registry, []
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


def test_a_candidate_that_is_no_faster_is_not_worth_a_sampling(bench, lab):
    bench.set(bench.probe, "race", lambda runs, device: dict.fromkeys(runs, 1.0))
    assert bench.calibrate(custom_budget=10.0)["plan"].steps == ()
    assert len(bench.samplings) == 2


def test_one_sampling_for_each_part_scales_the_others(bench):
    each = bench.calibrate(custom_budget=10.0)["plan"]
    first = len(bench.samplings)
    one = bench.calibrate(custom_budget=10.0, end_error="one choice for each part", seed=2)["plan"]
    assert len(bench.samplings) - first < first
    assert len(one.steps) == len(each.steps) and all(0 < step.error < 3 for step in one.steps)


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def second(tiny_file, comfy_host, inference):
    """The tiny model once more, with weights of its own."""
    import comfy.sd

    model = comfy.sd.load_diffusion_model(str(tiny_file))
    for parameter in model.model.diffusion_model.parameters():
        parameter.data = parameter.data * 1.2
    return model


def test_two_models_keep_their_own_plans(bench, lab, second, plain):
    first = bench.calibrate(custom_budget=0.02)
    other = bench.calibrate(second, custom_budget=10.0)
    assert len(bench.plans._MEASURED) == 2
    assert first["plan"].steps != other["plan"].steps
    rules = lab.pack.nodes._host.rules_of
    assert rules(first["model"]) == first["plan"].rules() and rules(other["model"]) == other["plan"].rules()
    assert lab.error(lab.sample(first["model"], seed=1), plain) == pytest.approx(first["plan"].realised, rel=1e-3)
    # What was measured on one is not taken for the other.
    assert first["plan"].error != other["plan"].error


def test_a_model_that_is_not_as_loaded_is_refused(bench, lab):
    with pytest.raises(ValueError, match="put Video Attention Clear in between"):
        bench.calibrate(lab.backend())
    assert bench.calibrate(lab.clear(lab.backend()))["plan"].model == "LTXVModel"


def test_a_model_that_nobody_knows_is_refused(bench, lab, monkeypatch):
    monkeypatch.setattr(lab.pack.nodes._sites, "find", lambda name: None)
    with pytest.raises(ValueError, match="its blocks are unknown to this pack"):
        bench.calibrate()


def test_memory_of_measurements_is_bounded(bench):
    for seed in range(6):
        bench.plans.remembered(bench.plan._job(bench.lab.model, *bench.lab.prompt, {"samples": LATENT}, seed, 2, 1.0,
                                               "euler", "simple")[0])["x"] = seed  # fmt: skip
    assert [found["x"] for _, _, found in bench.plans._MEASURED] == [2, 3, 4, 5]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(bench):
    found = bench.calibrate(custom_budget=10.0)
    bench.plan.VideoAttentionSavePlan.execute(found["plan"], "mine")
    return found


def load(bench, model=None, name="mine.json", latent=None):
    return bench.plan.VideoAttentionLoadPlan.execute(model or bench.lab.model, name, latent).args


def test_a_saved_plan_does_what_the_calibrated_model_does(bench, lab, saved, tmp_path):
    file = tmp_path / "video_attention_plans" / "mine.json"
    assert [path.name for path in file.parent.iterdir()] == ["mine.json"]
    assert str(tmp_path) not in file.read_text()
    model, plan, info = load(bench, latent={"samples": LATENT})
    assert plan == saved["plan"] and info == f"{UNITS} of {UNITS} rules applied."
    assert torch.equal(lab.sample(model, seed=1), lab.sample(saved["model"], seed=1))


def change(tmp_path, **other):
    file = tmp_path / "video_attention_plans" / "mine.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **other}))


@pytest.mark.parametrize(
    ("other", "latent", "applied", "words"),
    [
        ({"model": "WanModel"}, LATENT, 0, "The plan is for WanModel, this is LTXVModel: not applied."),
        ({"device": "NVIDIA H100"}, LATENT, UNITS, "It was measured on NVIDIA H100, this is cpu"),
        ({"blocks": 48}, LATENT, UNITS, "its errors need not hold"),
        ({}, torch.zeros(1, 128, 3, 3, 4), UNITS, "calibrated on 24 video tokens, these are 36"),
    ],
)
def test_a_plan_for_something_else_is_applied_where_it_fits(bench, lab, saved, tmp_path, other, latent, applied, words):
    change(tmp_path, **other)
    model, _, info = load(bench, latent={"samples": latent})
    assert words in info and len(info.splitlines()) == 2
    assert len(lab.pack.nodes._host.rules_of(model)) == applied


def test_a_kernel_that_is_not_here_stays_exact(bench, lab, plain, saved, tmp_path):
    steps = [{**step, "pattern": None, "backend": "flash attention 4"} for step in saved_steps(tmp_path)]
    change(tmp_path, steps=steps)
    model, _, info = load(bench)
    assert "flash attention 4 cannot run here (" in info and info.endswith("its parts stay exact.")
    assert torch.equal(lab.sample(model, seed=1), plain)


def saved_steps(tmp_path):
    return json.loads((tmp_path / "video_attention_plans" / "mine.json").read_text())["steps"]


@pytest.mark.parametrize("name", ["", ".json", "../x", "a/b", "a\\b", ".hidden", "x" * 101, "nul\x00", "C:x"])
def test_a_name_cannot_leave_the_folder(bench, name):
    for node, first in (
        (bench.plan.VideoAttentionSavePlan, None),
        (bench.plan.VideoAttentionLoadPlan, bench.lab.model),
    ):
        with pytest.raises(ValueError, match=r"filename: .* may hold letters"):
            node.execute(first, name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00", "mine.json is not text"),
        (b"{}", "not a video attention plan"),
        (b" " * ((1 << 20) + 1), "more than the 1048576 bytes"),
    ],
)
def test_a_damaged_file_is_a_sentence(bench, saved, tmp_path, content, words):
    (tmp_path / "video_attention_plans" / "mine.json").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        load(bench)


def test_a_file_that_is_not_there_is_a_sentence(bench):
    with pytest.raises(ValueError, match=r"there is no mine\.json in user/video_attention_plans"):
        load(bench)


def test_a_changed_file_is_read_again(bench, saved, tmp_path):
    import os

    node, file = bench.plan.VideoAttentionLoadPlan, tmp_path / "video_attention_plans" / "mine.json"
    before = node.fingerprint_inputs("mine.json")
    os.utime(file, ns=(1, 1))
    assert node.fingerprint_inputs("mine.json") != before and node.fingerprint_inputs("none.json") == 0


# --- verify -----------------------------------------------------------------------------------------------------------


def verify(lab, model, vae=None, steps=4):
    node, (positive, negative) = lab.pack.nodes.verify.VideoAttentionVerify, lab.prompt
    output = node.execute(
        model, positive, negative, {"samples": LATENT}, 1, steps, 1.0, "euler", "simple", vae=vae
    )  # fmt: skip
    return dict(zip((part.id for part in node.GET_SCHEMA().outputs), output.args))


def test_verify_compares_with_the_exact_model(lab, plain):
    spatial = lab.pack.attention.patterns.Spatial()
    rule = lab.pack.attention.plan.Candidate(pattern=spatial).rule("self", (), 0.0, 1.0)
    model = lab.pack.nodes._host.install_all(lab.model, [rule])
    found = verify(lab, model, lab.pack.nodes.demo.DemoVAE())
    assert torch.equal(found["exact"]["samples"], plain)
    assert torch.equal(found["planned"]["samples"], lab.sample(model, seed=1))
    assert found["error"] == pytest.approx(lab.error(found["planned"]["samples"], plain), rel=1e-6)
    assert 0 < found["floor"] < 1e-4 < found["error"]
    planned, floor = (
        line.split(" | ") for line in found["report"].splitlines() if line.startswith(("| pl", "| exact, "))
    )
    assert 0 < float(planned[2]) < float(floor[2]) and float(planned[3]) < float(floor[3]) <= 1
    assert "times the noise floor" in found["report"] and "spatial (" in found["report"]
    assert found["picture"].shape[2:] == (960, 3)
    # The planned latent can be looked up by the Report node.
    assert lab.report(found["planned"]["samples"]).rows


def test_verify_of_a_model_without_rules(lab, plain):
    found = verify(lab, lab.model)
    assert found["error"] == 0.0 and "within the noise floor" in found["report"]
    assert "planned ran on nothing of this pack." in found["report"] and "| - | - |" in found["report"]
