"""Plans as entries that plain ComfyUI reads: what can be said, that its own reading understands it, and back.

The host's reading is a stand-in, see naming_host.py; the LoRA loader of ComfyUI 0.30 is real.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from naming_host import NAMED_CALLS, Holder, Kernel, Naming, load_lora
from tiny import plain
from tiny.case import sample

from attention import patterns
from attention.plans import preferences
from attention.plans.plan import Candidate, Plan, PlanRule
from attention.plans.plan_file import BadPlan

PLAIN = plain()
INT8 = "comfy-kitchen int8"
KEYS = "diffusion_model.blocks.{}.{}.comfy_attention.config"
PLACES = [(f"blocks.{b}.{n}", role, b) for b in range(4) for n, role in (("self", "self"), ("cross", "cross"))]
BLANK = Plan("Net", "0" * 16, 4, 2, 16, "cpu", 0)


def step(backend=INT8, role="self", blocks=(0, 3), start=0.0, end=1.0, pattern=None):
    candidate = Candidate(pattern=pattern) if pattern else Candidate(backend)
    return PlanRule(candidate, role, blocks, start, end, 0.0, None, None, 0.0, 0.0)


def entries(*steps):
    return preferences.entries_of(replace(BLANK, steps=steps), PLACES)


def named(found):
    return {key: json.loads(bytes(entry.tolist())) for key, entry in found.items()}


def test_a_kernel_that_the_host_has():
    found, said = entries(step(blocks=(1, 2)), step(role="cross", blocks=(3, 3)))
    want = [KEYS.format(1, "self"), KEYS.format(2, "self"), KEYS.format(3, "cross")]
    assert named(found) == {key: [{"attention": "comfy_kitchen_int8"}] for key in want} and said == []


@pytest.mark.parametrize(
    "later, reason",
    [
        (step("sage"), "no file can name sage"),
        (step(start=0.25), "in some of the steps alone"),
        (step(pattern=patterns.Spatial()), "spatial: plain ComfyUI has no such pattern"),
        (step(pattern=patterns.AdaptiveBlocks(1.0, "tile", True)), "plain ComfyUI has no such pattern"),
        (step(pattern=patterns.Spatial(), end=0.5), "in some of the steps alone"),
    ],
    ids=["kernel", "steps", "pattern", "blocks in another order", "pattern in steps"],
)
def test_what_cannot_be_said(later, reason):
    """Nothing is written for a module of which a file would say something else than the plan."""
    found, said = entries(step(role="all", blocks=(0, 3)), replace(later, blocks=(2, 3)))
    assert {key.split(".")[2] for key in found if ".self." in key} == {"0", "1"}
    assert len(said) == 1 and said[0].startswith("self, blocks 2-3: ") and reason in said[0]
    assert sum(".cross." in key for key in found) == 4


def test_the_last_rule_for_all_steps_decides():
    """What came before it has no effect, so it is no obstacle; host default is no entry and nothing to tell."""
    for earlier in (step("sage"), step("sage", end=0.5), step(pattern=patterns.Spatial(), end=0.5)):
        found, said = entries(earlier, step())
        assert (len(found) == 4) == (earlier.candidate.pattern is None) and bool(said) == (len(found) == 0)
    assert entries(step(), step("host default", blocks=(1, 3)))[0].keys() == {KEYS.format(0, "self")}


def test_a_module_with_calls_of_two_roles():
    both = [("blocks.0.attn", "cross", 0), ("blocks.0.attn", "image", 0)]
    assert preferences.entries_of(replace(BLANK, steps=(step(role="cross"),)), both)[0]
    found, said = preferences.entries_of(replace(BLANK, steps=(step(role="image"),)), both)
    assert not found and "several roles" in said[0]


SOL = patterns.AdaptiveBlocks(1.3, "raster", True)


def test_adaptive_blocks_and_what_runs_where_they_cannot():
    found, said = entries(step(blocks=(0, 1)), step(pattern=SOL, blocks=(1, 2)))
    sol, int8 = {"attention": "comfy_kitchen_sol", "tau": 1.3}, {"attention": "comfy_kitchen_int8"}
    want = {KEYS.format(0, "self"): [int8], KEYS.format(1, "self"): [sol, int8], KEYS.format(2, "self"): [sol]}
    assert named(found) == want and said == []
    read, said = preferences.plan_of(BLANK, found, PLACES)
    assert set(read.steps) == {step(blocks=(0, 1)), step(pattern=SOL, blocks=(1, 2))} and said == []
    assert named(preferences.entries_of(read, PLACES)[0]) == want


def test_back_and_forth():
    steps = (step(blocks=(0, 1)), step(blocks=(3, 3)), step(role="cross", blocks=(1, 2)))
    found, _ = entries(*steps)
    read, said = preferences.plan_of(BLANK, found, PLACES)
    assert read.steps == steps and said == []
    assert named(preferences.entries_of(read, PLACES)[0]) == named(found)


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "model.diffusion_model."])
def test_what_others_write(prefix):
    """A turbo LoRA or a checkpoint: one choice instead of a list, choices that this pack does not have, other keys."""
    int8, odd = {"attention": "comfy_kitchen_int8"}, {"attention": "sol", "tau": 2}
    given = {
        f"{prefix}blocks.0.self.comfy_attention.config": preferences.encode(int8),
        f"{prefix}blocks.1.self.comfy_attention.config": preferences.encode([odd, int8]),
        f"{prefix}blocks.2.self.comfy_attention.config": preferences.encode([odd]),
        f"{prefix}blocks.2.cross.comfy_attention.config": preferences.encode([{"attention": "comfy_kitchen_sol"}]),
        f"{prefix}blocks.3.self.comfy_attention.config": preferences.encode([{"attention": "comfy_kitchen_sol"}]),
        f"{prefix}refiner.attn.comfy_attention.config": preferences.encode([int8]),
        f"{prefix}blocks.0.self.q.lora_A.weight": torch.zeros(2, 2),
    }
    read, said = preferences.plan_of(BLANK, given, PLACES)
    default = patterns.AdaptiveBlocks(1.0, "raster", True)
    assert read.steps == (step(blocks=(0, 1)), step(pattern=default, blocks=(3, 3)))
    assert said == [
        "sol, tau 2 in 2 places: this pack has no kernel that is the same, left out.",
        "comfy_kitchen_sol in 1 places: this pack has no kernel that is the same, left out.",
        "1 of 6 entries are for modules that this pack does not find in this model.",
    ]


BAD = {
    "no entry": {},
    "float": {"blocks.0.self" + preferences.SUFFIX: torch.zeros(3)},
    "empty": {"blocks.0.self" + preferences.SUFFIX: torch.zeros(0, dtype=torch.uint8)},
    "long": {"blocks.0.self" + preferences.SUFFIX: torch.full((9999,), 32, dtype=torch.uint8)},
    "no text": {"blocks.0.self" + preferences.SUFFIX: torch.full((9,), 255, dtype=torch.uint8)},
    "no JSON": {"blocks.0.self" + preferences.SUFFIX: torch.full((9,), 123, dtype=torch.uint8)},
    "no table": {"blocks.0.self" + preferences.SUFFIX: preferences.encode([7])},
    "no name": {"blocks.0.self" + preferences.SUFFIX: preferences.encode([{"attention": 7}])},
}


@pytest.mark.parametrize("given", BAD.values(), ids=BAD)
def test_what_is_no_entry_is_refused(given):
    with pytest.raises(BadPlan, match="plan: "):
        preferences.plan_of(BLANK, given, PLACES)


def test_as_many_entries_as_a_plan_has_rules():
    places = [(f"blocks.{n}.self", "self", n) for n in range(0, 2 * 1025, 2)]
    given = {
        f"{name}{preferences.SUFFIX}": preferences.encode([{"attention": "comfy_kitchen_int8"}]) for name, *_ in places
    }
    with pytest.raises(BadPlan, match="the file has 1025 entries .*, not 1 to 1024"):
        preferences.plan_of(BLANK, given, places)
    del given[f"{places[-1][0]}{preferences.SUFFIX}"]
    assert len(preferences.plan_of(BLANK, given, places)[0].steps) == 1024


# --- on models -------------------------------------------------------------------------------------------------------


class Saved:
    """A tiny model on a newer host, the nodes, and what they write."""

    def __init__(self, lab, monkeypatch, family):
        import folder_paths

        self.lab, self.case, self.nodes = lab, PLAIN[family], lab.pack.nodes.plan
        self.host = Naming(monkeypatch)
        self.model = self.case.build()
        self.kernel = Kernel(self.host.real)
        monkeypatch.setattr(Holder, "KNOWN", {"comfy_kitchen_int8": self.kernel.function, "comfy_kitchen_sol": None})
        family = lab.pack.nodes.host.model_family.family_of(self.model)
        self.host.furnish({module for module, *_ in family.sites(self.model.model.diffusion_model)})
        # As main.py does it: what is saved to output/loras is among the LoRAs.
        self.folder = f"{folder_paths.get_output_directory()}/loras"
        folder_paths.add_model_folder_path("loras", self.folder)

    def plan(self, *steps):
        return replace(self.lab.pack.nodes.runs.plans.blank(self.model), steps=tuple(self.ours(one) for one in steps))

    def ours(self, one):
        """Of the pack as ComfyUI imported it."""
        kind = self.lab.pack.attention.plans.plan
        return kind.PlanRule(kind.Candidate(one.candidate.backend), *list(vars(one).values())[1:])

    def count(self, model):
        self.kernel.calls = 0
        sample(model, self.case, steps=2)
        return self.kernel.calls


@pytest.mark.parametrize("family", NAMED_CALLS)
def test_plain_comfyui_runs_a_saved_plan(lab, monkeypatch, family):
    """The file behind the host's own loader, without a node of ours; read back, it is the same plan."""
    it = Saved(lab, monkeypatch, family)
    plan = it.plan(step(blocks=(1, 1)), *([] if family == "MiniMax-H3" else [step(role="cross", blocks=(0, 0))]))
    out = it.nodes.VideoAttentionSavePlan.execute(plan, "kitchen", it.model)
    text = out.args[1]
    assert "kitchen.attention.safetensors in output/loras: " in text and "attention modules" in text
    file = safetensors.torch.load_file(f"{it.folder}/kitchen.attention.safetensors")
    patched, lost = load_lora(it.model, file)
    assert not lost and it.count(it.model) == 0
    assert it.count(patched) == 2 * len(file) == 2 * len(plan.steps)
    assert it.count(load_lora(it.model, file, strength=0.0)[0]) == 0
    assert it.count(lab.backend(patched, blocks="0")) == 2, "ours leaves block 1 to it"
    loaded = it.nodes.VideoAttentionLoadPlan.execute(it.model, "kitchen.attention.safetensors").args
    assert {(s.candidate.backend, s.role, s.blocks) for s in loaded[1].steps} == {
        (s.candidate.backend, s.role, s.blocks) for s in plan.steps
    }
    count = len(plan.steps)
    assert loaded[2].startswith(f"{count} of {count} rules applied.") and "cannot run here" in loaded[2]


def test_a_host_that_cannot_read_it_is_unharmed(lab, monkeypatch):
    """ComfyUI 0.30's own loader: a warning for each key, and the model as it was."""
    import comfy.sd

    it = Saved(lab, monkeypatch, "LTXV")
    it.nodes.VideoAttentionSavePlan.execute(it.plan(step()), "older", it.model)
    file = safetensors.torch.load_file(f"{it.folder}/older.attention.safetensors")
    patched, _ = comfy.sd.load_lora_for_models(it.model, None, file, 1.0, 0.0)
    assert not patched.patches and not patched.object_patches


def test_the_nodes_words(lab, monkeypatch):
    import folder_paths

    it = Saved(lab, monkeypatch, "LTXV")
    save, load = it.nodes.VideoAttentionSavePlan, it.nodes.VideoAttentionLoadPlan
    assert save.execute(it.plan(step()), "quiet").args[1] == "quiet.json in user/video_attention_plans"
    text = save.execute(it.plan(step("sage")), "nothing", it.model).args[1]
    assert "Nothing of this plan can be said to plain ComfyUI" in text and "no file can name sage" in text
    assert folder_paths.get_full_path("loras", "nothing.attention.safetensors") is None
    with pytest.raises(ValueError, match="the plan is for Other, this is LTXVModel"):
        save.execute(replace(it.plan(step()), model="Other"), "other", it.model)
    with pytest.raises(ValueError, match="no gone.safetensors among"):
        load.execute(it.model, "gone.safetensors")
    assert load.validate_inputs("sub/turbo.safetensors") is True and load.fingerprint_inputs("gone.safetensors") == 0
    with open(f"{it.folder}/junk.safetensors", "wb") as file:
        file.write(b"junk")
    with pytest.raises(ValueError, match="is no safetensors file"):
        load.execute(it.model, "junk.safetensors")
