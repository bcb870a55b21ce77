"""Plans of several models, Save Plan and Load Plan in a real ComfyUI."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from calibrating import LATENT, UNITS, start


@pytest.fixture
def bench(lab, monkeypatch, tmp_path):
    return start(lab, monkeypatch, tmp_path)


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
    rules = lab.pack.nodes.host.model_rules.rules_of
    assert rules(first["model"]) == first["plan"].rules() and rules(other["model"]) == other["plan"].rules()
    assert lab.error(lab.sample(first["model"], seed=1), plain) == pytest.approx(first["plan"].realised, rel=1e-3)
    # What was measured on one is not taken for the other.
    assert first["plan"].error != other["plan"].error


def test_a_model_that_is_not_as_loaded_is_refused(bench, lab):
    with pytest.raises(ValueError, match="put Video Attention Clear in"):
        bench.calibrate(lab.backend())
    assert bench.calibrate(lab.clear(lab.backend()))["plan"].model == "LTXVModel"


def test_a_model_that_nobody_knows_is_refused(bench, lab, monkeypatch):
    monkeypatch.setattr(lab.pack.nodes.host.model_family, "find", lambda name: None)
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
    assert len(lab.pack.nodes.host.model_rules.rules_of(model)) == applied


def test_a_kernel_that_is_not_here_stays_exact(bench, lab, plain, saved, tmp_path):
    steps = [{**step, "pattern": None, "backend": "flash attention 4"} for step in saved_steps(tmp_path)]
    change(tmp_path, steps=steps)
    model, _, info = load(bench)
    assert "flash attention 4 cannot run here (" in info and info.endswith("its parts stay exact.")
    assert torch.equal(lab.sample(model, seed=1), plain)


def saved_steps(tmp_path):
    return json.loads((tmp_path / "video_attention_plans" / "mine.json").read_text())["steps"]


BAD_NAMES = {
    "may hold letters": ["", ".json", "../x", "a/b", "a\\b", ".hidden", "nul\x00", "C:x", "sub\\plan.json", "a\nb"],
    "Windows takes off": ["plan ", " plan", "plan.", "plan. .json"],
    "a device's name on Windows": ["CON", "nul", "aux.v2", "com1", "Lpt9.json", "prn .x", "COM\u00b2"],
    "more than the 200 that a name may have": ["x" * 201, "\u65e5" * 100],
    "is not a name": [5, True, None, ["a"], {"a": 1}],
}


@pytest.mark.parametrize(("why", "name"), [(why, name) for why, names in BAD_NAMES.items() for name in names])
def test_a_name_that_some_system_cannot_keep_is_a_sentence(bench, why, name):
    for node, first in (
        (bench.plan.VideoAttentionSavePlan, None),
        (bench.plan.VideoAttentionLoadPlan, bench.lab.model),
    ):
        with pytest.raises(ValueError, match=f"^filename: .*{why}") as said:
            node.execute(first, name)
        assert len(str(said.value)) < 200
    # Judged before anything runs: Calibrate in front of it takes minutes.
    for node in (bench.plan.VideoAttentionSavePlan, bench.plan.VideoAttentionLoadPlan):
        assert name is None or why in node.validate_inputs(name)


@pytest.mark.parametrize("name", ["plan", "fast 0.1", "\u65e5\u672c", "contact", "console.log", "x" * 200])
def test_other_names_are_taken(bench, saved, name):
    bench.plan.VideoAttentionSavePlan.execute(saved["plan"], name)
    assert load(bench, name=f"{name}.json")[1] == saved["plan"]
    assert bench.plan.VideoAttentionSavePlan.validate_inputs(name) is True


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_file_that_an_editor_has_saved_is_read(bench, saved, tmp_path, encoding, ending):
    file = tmp_path / "video_attention_plans" / "mine.json"
    file.write_bytes(file.read_text().replace("\n", ending).encode(encoding))
    assert load(bench)[1] == saved["plan"]


def test_writers_of_one_name_leave_one_whole_plan(bench, saved, tmp_path):
    plans, path = bench.lab.pack.nodes.runs.plans, tmp_path / "video_attention_plans" / "mine.json"
    wanted = [replace(saved["plan"], steps=saved["plan"].steps * many, sampling=str(many)) for many in (1, 100)]

    def work(plan):
        for _ in range(30):
            plans.write(plan, path)
            assert plans.read(path) in wanted

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, wanted * 2))
    assert [file.name for file in path.parent.iterdir()] == ["mine.json"]


def test_a_plan_that_cannot_be_written_leaves_the_old_one_and_nothing_else(bench, saved, tmp_path, monkeypatch):
    plans, path = bench.lab.pack.nodes.runs.plans, tmp_path / "video_attention_plans" / "mine.json"

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(ValueError, match=r"^filename: mine.json cannot be written in user/.*: No space left on device"):
        plans.write(replace(saved["plan"], sampling="other"), path)
    assert plans.read(path) == saved["plan"] and [file.name for file in path.parent.iterdir()] == ["mine.json"]


def test_what_a_killed_writer_left_is_removed_once_it_is_old(bench, saved, tmp_path):
    folder = tmp_path / "video_attention_plans"
    for name, age in (("old.part", 7200), ("new.part", 0)):
        (folder / name).write_text("x")
        os.utime(folder / name, (time.time() - age,) * 2)
    bench.plan.VideoAttentionSavePlan.execute(saved["plan"], "mine")
    assert sorted(file.name for file in folder.iterdir()) == ["mine.json", "new.part"]


def test_what_is_half_written_is_told_from_plans(bench, saved, tmp_path, monkeypatch):
    """A writer that is killed before it has put its file in place: the rest goes once it is old, and is no plan."""
    plans, folder = bench.lab.pack.nodes.runs.plans, tmp_path / "video_attention_plans"
    killed = {"replace": lambda self, target: 1 / 0, "unlink": lambda self, missing_ok=False: None}
    with monkeypatch.context() as now:
        for name, act in killed.items():
            now.setattr(type(folder), name, act)
        with pytest.raises(ZeroDivisionError):
            plans.write(saved["plan"], folder / "other.json")
    (left,) = [file for file in folder.iterdir() if file.name != "mine.json"]
    assert left.stat().st_size and left.suffix != ".json"
    os.utime(left, (time.time() - 7200,) * 2)
    plans.write(saved["plan"], folder / "mine.json")
    assert [file.name for file in folder.iterdir()] == ["mine.json"]


def test_no_plan_is_written_that_could_not_be_read(bench, saved, tmp_path):
    plans, path = bench.lab.pack.nodes.runs.plans, tmp_path / "video_attention_plans" / "mine.json"
    with pytest.raises(ValueError, match="steps is not a list of at most 1024"):
        plans.write(replace(saved["plan"], steps=saved["plan"].steps[:1] * 1025), path)
    assert plans.read(path) == saved["plan"]


class Control:
    """What ComfyUI's ControlNet is to a condition: an object with numbers on it."""

    def __init__(self, strength):
        self.strength, self.hint = strength, torch.ones(2)


def test_what_was_measured_with_another_control_is_not_taken(bench):
    def known(control):
        (positive, _), *others = bench.lab.prompt[0]
        job = bench.plan._job(
            bench.lab.model, [[positive, {"control": control}]], bench.lab.prompt[1], {"samples": LATENT}, 0, 2, 1.0,
            "euler", "simple",
        )[0]  # fmt: skip
        return bench.plans.remembered(job)

    control = Control(0.1)
    known(control)["found"] = True
    assert known(control)
    control.strength = 0.9
    assert not known(control)
    control.strength, control.hint = 0.1, torch.zeros(2)
    assert not known(control)
    # A freed object's place in memory is given to the next one.
    for _ in range(20):
        found = known(Control(0.5))
        assert not found
        found["found"] = True


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
    node, file = bench.plan.VideoAttentionLoadPlan, tmp_path / "video_attention_plans" / "mine.json"
    before = node.fingerprint_inputs("mine.json")
    os.utime(file, ns=(1, 1))
    assert node.fingerprint_inputs("mine.json") != before and node.fingerprint_inputs("none.json") == 0
