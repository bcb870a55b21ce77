"""Our rules beside torch.compile, EasyCache, context windows and overrides of other packs, in a real ComfyUI.

Other packs are stood in for by overrides that do as theirs do: overwrite the slot, or put themselves back each step.
"""

from __future__ import annotations

import shutil

import pytest
import torch
import torch._dynamo.utils
from compiling import broken_at, graphs
from tiny import CASES
from tiny import plain as plain_cases
from tiny.case import sample

PLAIN = plain_cases()
SLOT = "optimized_attention_override"
BLOCKS, STEPS = 2, 4
OURS = {("self", "sdpa"): BLOCKS * STEPS, ("cross", "sdpa"): BLOCKS * STEPS}


def test_a_rule_added_to_a_model_that_is_loaded(lab):
    first = lab.backend(backend="reference")
    lab.sample(first)
    second = lab.backend(first, backend="sdpa", blocks="1")
    rows = {(row.role, row.used): row for row in lab.report(lab.sample(second)).rows}
    assert rows["self", "sdpa"].blocks == {1}, "the blocks of a clone of a loaded model are known"
    assert rows["self", "reference"].blocks == {0}


NEEDS_COMPILER = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="inductor needs a C++ compiler"
)


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=NEEDS_COMPILER)])
def test_compile_after_us(lab, plain, compiled, backend):
    """No graph break, or fullgraph would be an error; and the same graph for every step and run."""
    for steps in (1, STEPS):
        model = compiled(lab.backend(), backend, fullgraph=True)
        out = lab.sample(model, steps=steps)
    assert lab.error(out, plain) <= 1e-4
    assert lab.calls_of(lab.report(out)) == OURS
    assert all(row.blocks == {0, 1} for row in lab.report(out).rows)
    assert graphs() == 1 and not broken_at()


def test_compile_before_us(lab, plain, compiled):
    """The order of the two nodes does not matter: both take effect when the model is sampled."""
    out = lab.sample(lab.backend(compiled(lab.model)))
    assert lab.error(out, plain) <= 1e-4 and lab.calls_of(lab.report(out)) == OURS
    assert graphs() == 1 and not broken_at()


@pytest.mark.parametrize("why", ["unknown model", "old torch"])
def test_where_the_router_is_no_operator(lab, plain, pack, compiled, monkeypatch, why):
    """Then it is hidden from the compiler: graph breaks, and right. Nobody announces an unknown model's calls."""
    if why == "old torch":
        monkeypatch.setattr(pack.attention.routing.compiled_op, "_operator", None)
    else:
        monkeypatch.setattr(pack.nodes.host.model_family, "find", lambda name: None)
    out = lab.sample(compiled(lab.backend(role="self")))
    assert lab.error(out, plain) <= 1e-4 and lab.calls_of(lab.report(out))["self", "sdpa"] == BLOCKS * STEPS
    assert broken_at()


def test_blocks_compiled_one_by_one_share_a_graph(lab, plain, compiled):
    keys = [f"diffusion_model.transformer_blocks.{index}" for index in range(BLOCKS)]
    out = lab.sample(compiled(lab.backend(blocks="1"), keys=keys))
    assert lab.error(out, plain) <= 1e-4
    blocks = {row.used: row.blocks for row in lab.report(out).rows}
    assert blocks == {"sdpa": {1}, "host default (pytorch)": {0}}
    assert graphs() == 1 and not broken_at()


@pytest.mark.parametrize("name", ["HunyuanVideo", "CogVideoX"])
def test_families_compiled(pack, inference, compiled, name):
    """Bit for bit what they give uncompiled, every call announced, and no graph more than without us."""
    case = PLAIN[name]
    ours = pack.nodes.host.model_rules.add_rule(case.build(), pack.attention.routing.rules.Rule("sdpa"))
    rows, outputs = [], []
    for model in (ours, compiled(ours, fullgraph=True)):
        outputs.append(sample(model, case))
        rows.append([(r.role, r.used, r.calls, r.blocks) for r in pack.nodes.host.run_history.find(outputs[-1]).rows])
    assert torch.equal(*outputs) and rows[0] == rows[1]
    assert graphs() == 1 and not broken_at()


def test_a_guide_of_half_strength_compiled(pack, inference, compiled):
    """Several masked calls of one module, one after the other: each has its site, and what follows has its own."""
    case = next(case for case in CASES if str(case) == "LTX-Video 0.9 guide of half strength")
    ours = pack.nodes.host.model_rules.add_rule(case.build(), pack.attention.routing.rules.Rule("sdpa"))
    want, got = sample(ours, case), sample(compiled(ours), case)
    calls = {(row.role, row.used): row.calls for row in pack.nodes.host.run_history.find(got).rows}
    assert torch.equal(got, want) and sum(calls.values()) == sum(case.calls.values())


@pytest.mark.parametrize("then", ["bypassed", "cleared", "replaced"])
def test_taken_off_behind_compile(lab, compiled, then):
    """A graph made with our rules in it, and the same model without them: no KeyError, nothing of ours runs."""
    ours, seen = lab.backend(), []
    lab.sample(compiled(ours))
    other = {"bypassed": lab.model, "cleared": lab.clear(ours), "replaced": ours.clone()}[then]
    if then == "replaced":

        def foreign(func, *args, **kwargs):
            seen.append(1)
            return func(*args, **kwargs)

        other.model_options["transformer_options"][SLOT] = foreign
    # Another seed: an equal latent would find the report of the run above.
    out = lab.sample(compiled(other), seed=9101)
    assert lab.error(out, lab.sample(seed=9101)) <= 1e-4
    report = lab.report(out)
    if then == "replaced":
        assert len(seen) == 2 * BLOCKS * STEPS and not report.calls
    else:
        assert report is None


def test_compiled_with_an_override_before_ours(lab, plain, compiled):
    """The other override must see the options of each call, so each of its calls breaks the graph, and is right."""
    seen, model = [], lab.model.clone()

    def foreign(func, *args, **kwargs):
        seen.append(1)
        return func(*args, **kwargs)

    model.model_options["transformer_options"][SLOT] = foreign
    out = lab.sample(compiled(lab.backend(model, role="cross")))
    assert lab.error(out, plain) <= 1e-4 and len(seen) == BLOCKS * STEPS
    assert {(row.role, row.used.split(" (")[0]): row.calls for row in lab.report(out).rows} == {
        ("cross", "sdpa"): BLOCKS * STEPS, ("self", "other override"): BLOCKS * STEPS,
    }  # fmt: skip


def test_the_backend_changed_behind_compile(lab, compiled):
    lab.sample(compiled(lab.backend()))
    out = lab.sample(compiled(lab.backend(backend="reference", role="self")))
    calls = lab.calls_of(lab.report(out))
    assert calls["self", "reference"] == BLOCKS * STEPS, "no stale choice"


def test_compiled_before_we_came(lab, compiled):
    lab.sample(compiled(lab.model))
    out = lab.sample(compiled(lab.backend()), seed=9102)
    assert lab.error(out, lab.sample(seed=9102)) <= 1e-4
    report = lab.report(out)
    # ComfyUI's guard filter keeps the graph it made without us: the report must not claim otherwise.
    assert report.calls in (0, 2 * BLOCKS * STEPS)
    assert report.calls or any("torch.compile" in note for note in report.notes)


def test_easycache_in_either_order(lab):
    from comfy_extras.nodes_easycache import EasyCacheNode

    def cached(model):
        return EasyCacheNode.execute(model, 3.0, 0.0, 1.0, False).args[0]

    for model in (cached(lab.backend()), lab.backend(cached(lab.model))):
        out = lab.sample(model, steps=8)
        calls = lab.calls_of(lab.report(out))
        assert torch.isfinite(out).all()
        # A step taken from the cache makes no attention call: counted calls are whole steps, and fewer than eight.
        assert calls["self", "sdpa"] % BLOCKS == 0 and 0 < calls["self", "sdpa"] < 8 * BLOCKS


def test_a_sparse_override_that_puts_itself_back_each_step(lab, plain):
    """As Model Sparse Attention does: on every step it wraps whatever it finds in the slot."""
    from comfy.patcher_extension import CallbacksMP

    patched, seen = lab.backend(), []

    def install(patcher, timestep, model_options):
        options = model_options["transformer_options"]
        previous = options.get(SLOT)
        if getattr(previous, "sparse", False):
            return

        def sparse(func, *args, **kwargs):
            seen.append(1)
            return previous(func, *args, **kwargs) if previous else func(*args, **kwargs)

        sparse.sparse = True
        options[SLOT] = sparse

    patched.add_callback_with_key(CallbacksMP.ON_PREPARE_STATE, "sparse", install)
    out = lab.sample(patched)
    assert lab.error(out, plain) <= 1e-5
    assert seen and lab.calls_of(lab.report(out)) == OURS


def test_a_pack_that_overwrites_the_slot_is_named_in_the_report(lab, plain):
    patched = lab.backend()
    patched.model_options["transformer_options"][SLOT] = lambda func, *args, **kwargs: func(*args, **kwargs)
    out = lab.sample(patched)
    assert torch.equal(out, plain)
    report = lab.report(out)
    assert report.calls == 2 * BLOCKS * STEPS and not report.ruled and any("place" in note for note in report.notes)


def test_context_windows(lab):
    """ComfyUI's own context windows cut the clip into overlapping parts: every window's calls are counted."""
    import comfy.context_windows as windows

    patched = lab.backend()
    handler = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        fuse_method=windows.get_matching_fuse_method(windows.ContextFuseMethods.PYRAMID),
        context_length=1,
        context_overlap=0,
        dim=2,
    )
    patched.model_options["context_handler"] = handler
    calls = lab.calls_of(lab.report(lab.sample(patched)))
    assert calls["self", "sdpa"] == 2 * BLOCKS * STEPS, "two windows of one latent frame each"
