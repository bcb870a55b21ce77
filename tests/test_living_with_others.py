"""Our rules beside torch.compile, EasyCache, context windows and overrides of other packs, in a real ComfyUI.

Other packs are stood in for by overrides that do as theirs do: overwrite the slot, or put themselves back each step.
"""

from __future__ import annotations

import shutil

import pytest
import torch

SLOT = "optimized_attention_override"
BLOCKS, STEPS = 2, 4
OURS = {("self", "sdpa"): BLOCKS * STEPS, ("cross", "sdpa"): BLOCKS * STEPS}


@pytest.fixture
def compiled(lab):
    """Compiles as ComfyUI's TorchCompileModel node does, with its guard filter."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    torch._dynamo.reset()

    def compile(model, backend="eager"):
        patched = model.clone(disable_dynamic=True)
        keep = {"guard_filter_fn": lambda entries: ["transformer_options" not in entry.name for entry in entries]}
        set_torch_compile_wrapper(patched, backend=backend, options=keep)
        return patched

    yield compile
    torch._dynamo.reset()


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
    model = compiled(lab.backend(), backend)
    out = lab.sample(model)
    assert lab.error(out, plain) <= 1e-4
    assert lab.calls_of(lab.report(out)) == OURS


def test_the_backend_changed_behind_compile(lab, compiled):
    lab.sample(compiled(lab.backend()))
    out = lab.sample(compiled(lab.backend(backend="reference", role="self")))
    calls = lab.calls_of(lab.report(out))
    assert calls["self", "reference"] == BLOCKS * STEPS, "no stale choice"


def test_cleared_behind_compile(lab, compiled):
    ours = lab.backend()
    lab.sample(compiled(ours))
    # Another seed: an equal latent would find the report of the run above.
    out = lab.sample(compiled(lab.clear(ours)), seed=9101)
    assert lab.error(out, lab.sample(seed=9101)) <= 1e-4
    assert lab.report(out) is None, "a cleared model is not counted"


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
    assert report.calls == 0 and any("place" in note for note in report.notes)


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
