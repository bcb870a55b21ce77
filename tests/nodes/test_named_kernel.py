"""A kernel that the model's file names runs wherever no rule of ours asks for another one. The host: naming_host.py."""

from __future__ import annotations

import functools

import pytest
import torch
from naming_host import NAMED_CALLS, Holder, Kernel, Naming
from shaping import shaped
from tiny import plain
from tiny.case import parts, prompt, sample
from widget_defaults import defaults

PLAIN = plain()
SLOT = "optimized_attention_override"
NAMED = "host default (comfy_kitchen_int8, named by the model's file)"


class Named:
    """A tiny model of a family whose file names a kernel for every attention module."""

    def __init__(self, lab, monkeypatch, family="LTXV", closing=False, known=True, modules=None):
        self.lab, self.case = lab, PLAIN[family]
        self.host = Naming(monkeypatch, closing)
        self.model = self.case.build()
        self.kernel = Kernel(self.host.real)
        network = self.model.model.diffusion_model
        found = [m for m, *_ in lab.pack.nodes.host.model_family.family_of(self.model).sites(network)]
        self.modules = modules(network) if modules else found + self.others(network, found)
        self.host.furnish(self.modules, self.kernel.function)
        if not known:
            monkeypatch.setattr(lab.pack.nodes.host.model_family, "find", lambda name: None)

    @staticmethod
    def others(network, found):
        """Attention modules that no family announces: H3's refiner of the prompt is one of the host's own class."""
        kinds = {type(module) for module in found}
        return [m for m in network.modules() if type(m) in kinds and m not in found]

    def run(self, model=None, **more):
        """(calls of the named kernel, latent) of two steps."""
        self.kernel.calls = 0
        latent = sample(self.model if model is None else model, self.case, steps=2, **more)
        return self.kernel.calls, latent

    def used(self, latent):
        return {(row.role, row.used): row.calls for row in self.lab.report(latent).rows}


@pytest.fixture
def named(lab, monkeypatch):
    return lambda *args, **more: Named(lab, monkeypatch, *args, **more)


@pytest.mark.parametrize("closing", [False, True], ids=["tensors", "containers"])
@pytest.mark.parametrize("family", NAMED_CALLS)
def test_the_table(lab, named, family, closing):
    it = named(family, closing=closing)
    free, cross, second, host, cleared = NAMED_CALLS[family]
    calls, plain = it.run()
    assert calls == free
    for widgets, count in (({"role": "cross"}, cross), ({"blocks": "1"}, second), ({"backend": "host default"}, host)):
        calls, latent = it.run(lab.backend(it.model, **widgets))
        assert calls == count, widgets
        assert max(lab.error(a, b) for a, b in zip(parts(latent), parts(plain))) <= 1e-4
        assert {used for _, used in it.used(latent)} <= {NAMED, "sdpa"}
    model = lab.clear(lab.backend(it.model))
    assert not model.model_options["transformer_options"] and not any(map(bool, model.callbacks.values()))
    calls, latent = it.run(model)
    assert calls == cleared and all(torch.equal(a, b) for a, b in zip(parts(latent), parts(plain)))


@pytest.mark.parametrize("closing", [False, True], ids=["tensors", "containers"])
@pytest.mark.parametrize("family", NAMED_CALLS)
def test_a_model_of_no_known_family(lab, named, family, closing):
    """Nobody says which role a call has; which module makes it is known all the same."""
    it = named(family, known=False, closing=closing)
    free, _ = it.run()
    for widgets in ({"role": "cross"}, {"backend": "host default"}):
        calls, latent = it.run(lab.backend(it.model, **widgets))
        covered = sum(n for (_, used), n in it.used(latent).items() if used == "sdpa")
        assert calls == free - covered and calls > 0, widgets
        assert {used for _, used in it.used(latent)} <= {NAMED, "sdpa"}
    assert it.run(lab.clear(lab.backend(it.model)))[0] == free


def test_the_file_names_a_kernel_for_some_blocks(lab, named):
    """As Turbo's files do. A function bound to arguments has no name of its own."""
    it = named(modules=lambda network: [network.transformer_blocks[1].attn1, network.transformer_blocks[1].attn2])
    it.modules[1].comfy_attention.function = functools.partial(it.kernel.function, tau=1.25)
    calls, latent = it.run(lab.backend(it.model, "sdpa", blocks="0", role="self"))
    bound = "host default (comfy_kitchen_int8, tau 1.25, named by the model's file)"
    assert calls == 4 and it.used(latent) == {
        ("self", "sdpa"): 2, ("cross", "host default (pytorch)"): 2, ("self", NAMED): 2, ("cross", bound): 2,
    }  # fmt: skip


@pytest.mark.parametrize("closing", [False, True], ids=["tensors", "containers"])
def test_a_kernel_that_fails_falls_back_to_it(lab, named, monkeypatch, closing):
    def fails(q, k, v, mask=None, scale=None):
        raise RuntimeError("no image available")

    it = named(closing=closing)
    monkeypatch.setitem(lab.pack.attention.backends.registry._LOADED, "sdpa", fails)
    calls, latent = it.run(lab.backend(it.model))
    assert calls == 8 and {used for _, used in it.used(latent)} == {NAMED}
    assert lab.report(latent).fallbacks.total() == 8


def test_what_no_backend_accepts_falls_back_to_it(lab, named):
    it = named()
    calls, latent = it.run(lab.backend(it.model, "flash attention 2"))
    assert calls == 8 and {used for _, used in it.used(latent)} == {NAMED}


def test_auto_measures_it_as_the_hosts_own(lab, named):
    """A host that takes long loses; the kernel that the file names is what it is compared with."""
    it = named()
    calls, _ = it.run(lab.backend(it.model, "auto"))
    assert calls > 0
    choose = lab.pack.attention.backends.autotune
    assert any("comfy_kitchen_int8" in map(str, key) for key in choose._CHOSEN)


def test_another_override_below_takes_the_calls(lab, named):
    """Without us that one would get ComfyUI's function, whatever the file names."""
    it, seen = named(), []

    def foreign(func, *args, **kw):
        seen.append(func)
        return func(*args, **kw)

    it.model.model_options["transformer_options"][SLOT] = foreign
    calls, latent = it.run(lab.backend(it.model, role="cross"))
    assert calls == 0 and len(seen) == 4
    cleared = lab.clear(lab.backend(it.model))
    assert cleared.model_options["transformer_options"][SLOT] is foreign and it.run(cleared)[0] == 0


@pytest.mark.parametrize("closing", [False, True], ids=["tensors", "containers"])
@pytest.mark.parametrize("then", ["ours", "cleared", "compiled after clear"])
def test_behind_torch_compile(lab, named, compiled, then, closing):  # noqa: F811
    it = named(closing=closing)
    _, plain = it.run()
    ours = lab.backend(it.model, role="cross")
    if then == "ours":
        model, count = compiled(ours), 4
    elif then == "cleared":
        model, count = compiled(ours), 8
        it.run(model)
        model = lab.clear(model)
    else:
        it.run(compiled(ours))
        model, count = compiled(lab.clear(ours)), 8
    for _ in range(2):
        calls, latent = it.run(model)
        assert calls == count and lab.error(latent, plain) <= 1e-4


def run_node(node, model, **more):
    """What a node of ours makes of a MODEL, its widgets as they come unless given."""
    return node.execute(model=model, **{**defaults(node), **more}).args


def test_strength_and_guidance_leave_the_kernel_to_the_file(lab, named):
    nodes, it = lab.pack.nodes, named()
    negative = prompt(it.case, 2)
    strong = run_node(nodes.pattern.VideoAttentionStrength, it.model, temperature=0.9)[0]
    assert it.run(strong)[0] == 8
    nag = run_node(nodes.guidance.VideoAttentionNormalizedAttentionGuidance, it.model, negative=negative)[0]
    # The cross-attention of each block once more for the negative prompt.
    assert it.run(nag)[0] == 12
    stg = run_node(nodes.guidance.VideoAttentionSpatiotemporalGuidance, it.model, blocks="0")[0]
    calls, latent = it.run(stg)
    skipped = sum(n for (_, used), n in it.used(latent).items() if used != NAMED)
    assert skipped and calls == 16 - skipped


def test_a_pattern_leaves_other_calls_to_the_file(lab, named):
    it = named()
    calls, latent = it.run(shaped(lab.pack, it.model, "spatial").args[0])
    assert calls == 4 and it.used(latent)["cross", NAMED] == 4


def test_what_looks_and_measures_changes_nothing(lab, named):
    """Maps, Benchmark and Calibrate's probe stand in the slot; their model runs as it does without them."""
    nodes, it = lab.pack.nodes, named()
    calls, plain = it.run()
    maps = lab.pack.attention.inspect.maps
    for install in (
        lambda: nodes.runs.attention_maps.watch_attention(it.model, maps.Query())[0],
        lambda: nodes.host.model_rules.fill_slot(
            it.model, lambda below: lab.pack.attention.plans.probe.Probe({}, {}, below)
        )[0],
    ):
        found, latent = it.run(install())
        assert found == calls and torch.equal(latent, plain)
    model, bench = nodes.host.model_rules.add_bench(it.model)
    assert torch.equal(it.run(model)[1], plain)
    text = lab.pack.attention.plans.bench.to_text(bench.trials)
    assert text.count("| ComfyUI (comfy_kitchen_int8, named by the model's file) |") == 2
    lab.pack.attention.plans.draw_bench.draw_trials(bench.trials)


def test_benchmark_times_each_function_of_one_role(lab, named):
    it = named(modules=lambda network: [network.transformer_blocks[1].attn1])
    model, bench = lab.pack.nodes.host.model_rules.add_bench(it.model)
    it.run(model)
    hosts = {role: [t.host for t in trials if t.name == "host"] for (role, _), trials in bench.trials.items()}
    assert {role: sorted(names) for role, names in hosts.items()} == {
        "self": ["comfy_kitchen_int8", "pytorch"], "cross": ["pytorch"],
    }  # fmt: skip


def test_probe_compares_with_it(lab, named):
    it, trials = named(), {}
    probe = lab.pack.attention.plans.probe
    candidate = lab.pack.attention.plans.plan.Candidate("sdpa")
    make = lambda found: probe.Probe({("self", 0, 0): [candidate]}, trials, found)  # noqa: E731
    model, override = lab.pack.nodes.host.model_rules.fill_slot(it.model, make)
    override.step = 0
    assert it.run(model)[0] > 8, "the host's own, as truth and for its time"
    assert trials["self", 0, 0]["sdpa"].error < 1e-5


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_info_and_schedule_name_it(lab, named, known):
    nodes, it = lab.pack.nodes, named(known=known)
    it.modules[0].comfy_attention.function = None
    it.modules[0].comfy_attention.config = [{"attention": "comfy_kitchen_sol", "tau": 1.0}]
    text = nodes.info.VideoAttentionInfo.execute(it.model).args[0]
    assert "names a kernel: comfy_kitchen_int8 for 3 attention modules" in text
    assert "comfy_kitchen_sol for 1 that cannot run here" in text
    how = {"steps": 2, "sampler_name": "euler", "scheduler_name": "simple", "denoise": 1.0}
    table = nodes.schedule.VideoAttentionSchedule.execute(lab.backend(it.model, role="cross"), **how).args[2]
    assert (f"host default in blocks 0, {NAMED} in blocks 1" in table) == known


def test_a_preference_that_a_lora_brings_is_known_before_it_is_put_in(lab, named):
    """ComfyUI keeps it as an object patch until the model is loaded."""
    it = named(modules=lambda network: [network.transformer_blocks[1].attn1])
    it.modules[0].comfy_attention.function = None
    it.model.add_object_patch("diffusion_model.transformer_blocks.1.attn1.comfy_attention", Holder(it.kernel.function))
    text = lab.pack.nodes.info.VideoAttentionInfo.execute(it.model).args[0]
    assert "comfy_kitchen_int8 for 1 attention module" in text
    calls, latent = it.run(lab.backend(it.model, role="cross"))
    assert calls == 2 and it.used(latent)["self", NAMED] == 2


def test_a_call_that_nobody_announces_is_told(lab, named):
    """A module whose method the model calls past its forward: which one it was cannot be known."""
    it = named(known=False)
    network = it.model.model.diffusion_model
    for block in network.transformer_blocks:
        block.attn2 = Unannounced(block.attn2)
    _, latent = it.run(lab.backend(it.model, "host default"))
    assert it.used(latent)["cross", "host default (pytorch)"] == 4
    notes = [note for note in lab.report(latent).notes if "comfy_kitchen_int8" in note]
    assert notes and notes[0].startswith("4 attention calls did not tell")


class Unannounced(torch.nn.Module):
    """Calls what it holds as Wan-Animate-2 does: not through the module, so no hook of it fires."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kw):
        return self.module.forward(*args, **kw)


def test_an_unknown_family_behind_torch_compile(lab, named, compiled):  # noqa: F811
    it = named(known=False)
    _, plain = it.run()
    for model, count in ((lab.backend(it.model, role="cross"), 4), (lab.clear(lab.backend(it.model)), 8)):
        calls, latent = it.run(compiled(model))
        assert calls == count and lab.error(latent, plain) <= 1e-4
