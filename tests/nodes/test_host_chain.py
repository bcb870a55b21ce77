"""What our nodes leave behind in a real ComfyUI, how they go along with other packs, and which report is whose."""

from __future__ import annotations

import gc

import pytest
import torch
from tiny_calls import ALL_OURS, BLOCKS, ROLES, SLOT, STEPS

CALLS = BLOCKS * ROLES * STEPS


def foreign(model, chain: bool):
    """The model with the override of some other pack: (model, the calls it saw). chain: it calls the one before it."""
    patched, seen = model.clone(), []
    options = patched.model_options["transformer_options"]
    previous = options.get(SLOT) if chain else None

    def other_pack(func, *args, **kwargs):
        seen.append(args[0].shape)
        return previous(func, *args, **kwargs) if previous else func(*args, **kwargs)

    options[SLOT] = other_pack
    return patched, seen


# --- what is left behind ---------------------------------------------------------------------------------------------


def test_the_input_stays_as_it_was(lab):
    import comfy.utils

    before = comfy.utils.deepcopy_list_dict(lab.model.model_options)
    patched = lab.backend()
    lab.sample(patched)
    for part in (lab.model.wrappers, lab.model.callbacks, lab.model.injections):
        assert not any(map(bool, part.values()))
    assert lab.model.model_options == before
    assert SLOT not in lab.model.model_options["transformer_options"]
    assert patched.model is lab.model.model


def test_no_hook_stays_for_a_model_without_our_node(lab, plain):
    patched = lab.backend()
    lab.sample(patched)
    assert lab.hooks(patched) == 0
    assert torch.equal(lab.sample(lab.model.clone()), plain)
    assert lab.hooks(lab.model) == 0


def test_no_hook_stays_when_the_patched_model_is_thrown_away(lab, plain):
    # Deleting the node from a graph drops the clone while ComfyUI still has it loaded.
    patched = lab.backend()
    lab.sample(patched)
    del patched
    gc.collect()
    assert torch.equal(lab.sample(), plain)
    assert lab.hooks(lab.model) == 0


def test_no_hook_stays_after_unloading(lab):
    import comfy.model_management

    patched = lab.backend()
    lab.sample(patched)
    comfy.model_management.unload_all_models()
    assert lab.hooks(patched) == 0
    assert lab.counted(patched) == ALL_OURS


def test_an_interrupt_leaves_the_next_run_right(lab, plain):
    import comfy.model_management

    def stop(step, x0, x, total):
        if step == 1:
            raise comfy.model_management.InterruptProcessingException

    patched = lab.backend()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        lab.sample(patched, callback=stop)
    assert lab.hooks(lab.model) == 0
    assert torch.equal(lab.sample(), plain)
    latent = lab.sample(patched)
    assert lab.error(latent, plain) <= 1e-5
    assert lab.report(latent).calls == CALLS


def test_a_discarded_clone_takes_nothing_away(lab):
    patched = lab.backend()
    lab.sample(patched)
    # A node behind ours makes a clone of a loaded model; Python may throw it away in the middle of a later run.
    unused = [patched.clone()]
    latent = lab.sample(patched, callback=lambda *step: (unused.clear(), gc.collect()))
    assert lab.calls_of(lab.report(latent)) == ALL_OURS
    assert all(row.blocks == set(range(BLOCKS)) for row in lab.report(latent).rows)


def test_nothing_of_ours_is_in_a_plain_run(lab):
    lab.sample(lab.backend())
    seen, watched = [], lab.model.clone()

    def look(func, *args, **kwargs):
        seen.extend(key for key in kwargs["transformer_options"] if str(key).startswith("vattn"))
        return func(*args, **kwargs)

    watched.model_options["transformer_options"][SLOT] = look
    lab.sample(watched)
    assert not seen


# --- several nodes, other packs --------------------------------------------------------------------------------------


def test_two_nodes_share_one_router(lab):
    once = lab.backend()
    twice = lab.backend(once, "sdpa math", role="cross")
    router = twice.model_options["transformer_options"][SLOT]
    assert router.previous is None and [rule.backend for rule in router.rules] == ["sdpa", "sdpa math"]
    assert lab.counted(twice) == {("self", "sdpa"): BLOCKS * STEPS, ("cross", "sdpa math"): BLOCKS * STEPS}
    # The first node's own output is another branch of the graph: one rule, as before.
    assert lab.counted(once) == ALL_OURS


def test_an_override_before_ours_gets_what_no_rule_covers(lab, plain):
    upstream, seen = foreign(lab.model, chain=True)
    report = lab.report(lab.sample(lab.backend(upstream, role="cross")))
    assert len(seen) == BLOCKS * STEPS
    assert {row.used for row in report.rows if row.role == "self"} == {"other override (foreign.<locals>.other_pack)"}
    seen.clear()
    assert torch.equal(lab.sample(lab.clear(lab.backend(upstream))), plain)
    assert len(seen) == CALLS


def test_an_override_after_ours_that_passes_on(lab):
    downstream, seen = foreign(lab.backend(), chain=True)
    assert lab.counted(downstream) == ALL_OURS
    assert len(seen) == CALLS


def test_an_override_after_ours_that_passes_nothing_on_is_told(lab):
    downstream, seen = foreign(lab.backend(), chain=False)
    report = lab.report(lab.sample(downstream))
    assert len(seen) == CALLS
    assert report.calls == CALLS and report.ruled == 0
    assert report.notes == (
        "All 16 attention calls were taken by another override (foreign.<locals>.other_pack), set behind Video "
        "Attention's nodes and passing nothing on: place Video Attention's nodes behind it.",
    )


def test_clear_reaches_a_rule_below_another_pack(lab, pack, monkeypatch):
    ours = []
    sdpa = pack.attention.backends.registry.load("sdpa")
    kernel = lambda *args, **kwargs: ours.append(1) or sdpa(*args, **kwargs)  # noqa: E731
    monkeypatch.setitem(pack.attention.backends.registry._LOADED, "sdpa", kernel)
    between, seen = foreign(lab.backend(), chain=True)
    lab.sample(lab.clear(between))
    assert len(seen) == CALLS and not ours
    lab.sample(lab.clear(lab.backend(between)))
    assert len(seen) == 2 * CALLS and not ours


def test_two_nodes_with_another_pack_between(lab):
    between, seen = foreign(lab.backend(role="self"), chain=True)
    model = lab.backend(between, "sdpa math", role="cross")
    report = lab.report(lab.sample(model))
    calls = lab.calls_of(report)
    assert calls["cross", "sdpa math"] == calls["self", "sdpa"] == BLOCKS * STEPS
    assert len(seen) == BLOCKS * STEPS


def between(lab, model, chain: bool):
    """The model behind a node of ComfyUI-KJNodes, as ComfyUI names that pack's modules."""
    patched, seen = foreign(model, chain)
    patched.model_options["transformer_options"][SLOT].__module__ = "/u/custom_nodes/ComfyUI-KJNodes.nodes.attention"
    return patched, seen


@pytest.mark.parametrize("timing", [False, True])
def test_a_call_that_two_of_ours_see_is_counted_once(lab, timing):
    """The upper one passes it on to another pack, which asks the lower one: it ran there."""
    middle, seen = between(lab, lab.backend(role="self", timing=timing), chain=True)
    model = lab.backend(middle, "sdpa math", role="cross", timing=timing)
    report = lab.report(lab.sample(model))
    assert lab.calls_of(report) == {("cross", "sdpa math"): BLOCKS * STEPS, ("self", "sdpa"): BLOCKS * STEPS}
    assert report.calls == report.ruled == CALLS and len(seen) == BLOCKS * STEPS
    assert all(sum(lap.calls.values()) == CALLS / STEPS for lap in report.timeline)
    assert all(set(lap.attention) == set(lap.calls if timing else ()) for lap in report.timeline)
    assert not any("Without effect" in note for note in report.notes)


def test_what_fell_back_to_a_rule_below_is_counted_once_and_told(lab):
    middle, _ = between(lab, lab.backend(backend="reference"), chain=True)
    report = lab.report(lab.sample(lab.backend(middle, "sage")))
    assert lab.calls_of(report) == {(role, "reference"): BLOCKS * STEPS for role in ("self", "cross")}
    assert report.ruled == CALLS and sum(report.fallbacks.values()) == CALLS


def test_an_override_that_asks_twice_is_counted_as_it_asks(lab):
    """Half of the heads each: two calls of ours, one of the router above."""
    lower = lab.backend()
    router = lower.model_options["transformer_options"][SLOT]

    def halves(func, q, k, v, heads, *args, **kwargs):
        parts = zip(*(t.chunk(2, dim=-1) for t in (q, k, v)), strict=True)
        return torch.cat([router(func, *part, heads // 2, *args, **kwargs) for part in parts], dim=-1)

    lower.model_options["transformer_options"][SLOT] = halves
    report = lab.report(lab.sample(lab.backend(lower, "sdpa math", role="cross")))
    assert lab.calls_of(report)["cross", "sdpa math"] == BLOCKS * STEPS
    assert set(lab.calls_of(report)) == {("cross", "sdpa math"), ("self", "sdpa")}


@pytest.mark.parametrize(
    ("chain", "upper", "told"),
    [
        (False, "cross", "ComfyUI-KJNodes was set behind and passes nothing on. Place ComfyUI-KJNodes first."),
        (True, "all", "ComfyUI-KJNodes and what was set behind it took every call."),
    ],
)
def test_rules_that_no_call_reached_are_named(lab, chain, upper, told):
    middle, _ = between(lab, lab.backend(role="self"), chain)
    report = lab.report(lab.sample(lab.backend(middle, "sdpa math", role=upper)))
    assert f"Without effect in this run: backend sdpa; {told}" in report.notes
    assert report.calls == CALLS and ("self", "sdpa") not in lab.calls_of(report)
    # Cleared rules are not missed.
    report = lab.report(lab.sample(lab.backend(lab.clear(middle), "sdpa math", role=upper)))
    assert not any("Without effect" in note for note in report.notes)


def test_comfyui_s_interrupt_is_let_through(pack):
    from comfy.model_management import InterruptProcessingException

    assert InterruptProcessingException in pack.attention.routing.fallback._PASSING


# --- which report is whose -------------------------------------------------------------------------------------------


def shown(lab, samples) -> str:
    return lab.pack.nodes.report.VideoAttentionReport.execute({"samples": samples}).args[1]


@pytest.mark.parametrize("cast", [lambda t: t, lambda t: t.half(), lambda t: t.clone()])
def test_each_latent_finds_its_own_report(lab, cast):
    first, second = lab.sample(lab.backend(), seed=1), lab.sample(lab.backend(backend="reference"), seed=2)
    for _ in range(2):
        assert "reference" in shown(lab, cast(second)) and "sdpa" not in shown(lab, cast(second))
        assert "sdpa" in shown(lab, cast(first)) and "reference" not in shown(lab, cast(first))


def test_the_same_seed_on_two_kernels(lab):
    # To compare two kernels one samples twice with one seed: the latents are all but equal.
    first, second = lab.sample(lab.backend(backend="reference")), lab.sample(lab.backend(backend="sdpa flash"))
    assert 0 < lab.error(first, second) < 1e-4
    assert "reference" in shown(lab, first) and "sdpa flash" in shown(lab, second)


def test_a_latent_of_nobody(lab, plain, pack):
    unknown = pack.nodes.report.UNKNOWN
    lab.sample(lab.backend(), seed=5)
    assert shown(lab, torch.randn(1, 128, 2, 3, 4)) == shown(lab, torch.zeros(1, 128, 2, 3, 4)) == unknown
    assert shown(lab, torch.randn(1, 4, 8, 8)) == unknown


def test_the_report_node_passes_on_and_draws(lab):
    latent = {"samples": lab.sample(lab.backend(backend="sage")), "batch_index": [0]}
    passed, text, picture, *_ = lab.pack.nodes.report.VideoAttentionReport.execute(latent).args
    assert passed is latent
    assert text.splitlines()[:3] == [
        "No faster than ComfyUI's own: sage cannot run here (needs cuda, the tensors are on cpu).",
        "LTXVModel, 2 x 3 x 4 tokens (time x height x width), 4 steps: 16 attention calls.",
        "Backend sage: 0 of 16 attention calls (needs cuda, the tensors are on cpu).",
    ]
    assert "Fell back:\n  8 calls, self-attention, sage: " in text or "  8 calls, cross-attention, sage: " in text
    assert picture.ndim == 4 and picture.shape[-1] == 3 and 0 <= picture.min() < picture.max() <= 1
