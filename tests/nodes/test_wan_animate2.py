"""Wan-Animate-2: methods that the host calls past every module hook, frames that attend one by one, a pose beside them.

In the host's own class where it has one, else in the stand-in of tests/lib/tiny/wan_animate2.py.
"""

from __future__ import annotations

from dataclasses import replace
from types import MethodType

import pattern_truth
import pytest
import torch
from compiling import broken_at, graphs
from guiding import error, guided, run, same
from shaping import CHOSEN, FIXED, shaped
from tiny.case import sample, watch, with_sites
from tiny.wan_animate2 import CASES, FRAMES

from attention.core.tokens import BOTH, Span, VideoSpan

STILL, DRIVEN, OWN_PROMPT, _ = CASES
BLOCKS = STEPS = 2
FRAMEWISE = STEPS * BLOCKS * FRAMES


@pytest.fixture(scope="module")
def model(pack):
    with torch.inference_mode():
        return DRIVEN.build()


@pytest.fixture
def attention_modules(model):
    return [block.self_attn for block in model.model.diffusion_model.blocks]


def ruled(pack, model, **rule):
    return pack.nodes.host.model_rules.add_rule(model, pack.attention.routing.rules.Rule("sdpa", **rule))


def rows(pack, latent):
    """(role, kernel) -> (calls, blocks)."""
    return {(row.role, row.used): (row.calls, set(row.blocks)) for row in pack.nodes.host.run_history.find(latent).rows}


def test_role_self_is_the_generation_and_nothing_else(pack, model, inference):
    for case in (DRIVEN, OWN_PROMPT):
        out = sample(ruled(pack, model, role="self"), case, steps=STEPS)
        found = rows(pack, out)
        assert found["self", "sdpa"] == (FRAMEWISE, {0, 1})
        assert {role for role, used in found if used == "sdpa"} == {"self"}
        assert found["pose self", "host default (pytorch)"] == (STEPS * BLOCKS, {0, 1})
        assert found["pose cross", "host default (pytorch)"] == (2 * STEPS * BLOCKS, {0, 1})
        assert error(out, sample(model, case, steps=STEPS)) <= 1e-5


def test_the_pose_has_roles_of_its_own(pack, model, inference):
    out = sample(ruled(pack, model, role="pose self", blocks=((1, 1),)), DRIVEN, steps=STEPS)
    assert rows(pack, out)["pose self", "sdpa"] == (STEPS, {1})


def test_nothing_is_left_on_the_model(pack, model, inference, attention_modules):
    def clean():
        return not any(
            {"forward_gen", "forward_pose", pack.nodes.host.site_hooks.TAG} & set(vars(m)) for m in attention_modules
        )

    sample(ruled(pack, model), DRIVEN)
    assert clean()
    broken = ruled(pack, model).clone()

    def fail(*args, **kwargs):
        raise ArithmeticError("out of luck")

    broken.model_options["transformer_options"]["optimized_attention_override"] = fail
    with pytest.raises(ArithmeticError):
        sample(broken, DRIVEN)
    assert clean()


def test_another_pack_that_replaced_the_method(pack, model, inference, attention_modules):
    """Its method runs, is announced, and is there afterwards; bound, or a plain function on the module."""
    plain, seen = sample(model, DRIVEN), []
    first, second = attention_modules

    def theirs(module, *args, **kwargs):
        seen.append(module)
        return type(module).forward_gen(module, *args, **kwargs)

    bound, free = MethodType(theirs, first), lambda *args, **kwargs: theirs(second, *args, **kwargs)
    first.forward_gen, second.forward_gen = bound, free
    try:
        out = sample(ruled(pack, model, role="self"), DRIVEN)
        assert error(out, plain) <= 1e-5 and rows(pack, out)["self", "sdpa"] == (BLOCKS * FRAMES, {0, 1})
        assert seen == [first, second]
        assert vars(first)["forward_gen"] is bound and vars(second)["forward_gen"] is free
    finally:
        del first.forward_gen, second.forward_gen


def test_a_method_that_someone_kept_works_after_our_run(pack, model, inference, attention_modules):
    """Whoever wraps it during a run, and stays: our part of it lets everything through."""
    plain, attention = sample(model, DRIVEN), attention_modules[0]

    def keep(*_):
        if not isinstance(vars(attention).get("forward_gen"), Kept):
            attention.forward_gen = Kept(attention.forward_gen)

    class Kept:
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    try:
        sample(ruled(pack, model), DRIVEN, steps=STEPS, callback=keep)
        assert isinstance(vars(attention)["forward_gen"], Kept)
        assert same(sample(model, DRIVEN), plain)
        assert rows(pack, sample(ruled(pack, model), DRIVEN))["self", "sdpa"] == (BLOCKS * FRAMES, {0, 1})
    finally:
        del attention.forward_gen


def calls_of_the_pose(pack, model, case, **how):
    """(queries, number of keys) of the pose's calls to its prompt, and what came out."""
    watched, _ = watch(with_sites(pack, model))
    found, options = [], watched.model_options["transformer_options"]
    slot = options["optimized_attention_override"]

    def look(func, q, k, *args, **kwargs):
        site, _ = pack.attention.routing.step_context.locate(kwargs["transformer_options"], q.shape[1], k.shape[1])
        if site.role == "pose cross":
            found.append((q.clone(), k.shape[1]))
        return slot(func, q, k, *args, **kwargs)

    options["optimized_attention_override"] = look
    return found, sample(watched, case, **how)


@pytest.mark.parametrize("case", [DRIVEN, OWN_PROMPT], ids=str)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_negative_prompt_is_not_for_the_pose(pack, model, inference, case, cfg):
    """Its branch has no guidance: with a prompt of its own or with the generation's it sees what it saw."""
    before, plain = calls_of_the_pose(pack, model, case, cfg=cfg)
    seen = []
    router = pack.attention.routing.router.Router
    find = router._find

    def looking(self, call, context):
        q, k = call.q, call.k
        site, _ = pack.attention.routing.step_context.locate(call.options, q.shape[1], k.shape[1])
        if site.role == "pose cross":
            seen.append((q.clone(), k.shape[1]))
        return find(self, call, context)

    router._find = looking
    try:
        out = sample(guided(pack, "nag", model), case, cfg=cfg)
    finally:
        router._find = find
    assert [length for _, length in seen] == [length for _, length in before]
    assert all(torch.allclose(ours, theirs, atol=1e-6) for (ours, _), (theirs, _) in zip(seen, before))
    assert error(out, plain) > 1e-4


def by_hand(pack, model, frame, change):
    """The MODEL whose frames attend by `change`(number, q, k, v, run), all (B, H, L, D); 0 is the reference image.

    frame: tokens of one. Which one it is follows from the order of the calls, not from memory.
    """
    layout, count = pack.attention.core.tensor_layout, {"calls": 0}

    def attend(func, q, k, v, heads, *args, **kwargs):
        def run(q, k, v):
            flat = (t.transpose(1, 2).flatten(2) for t in (q, k, v))
            out = func(*flat, heads, *args, **kwargs)
            return layout.to_heads(out, out, out, heads, False)[0]

        if q.shape[1] != frame or k.shape[1] not in (FRAMES * frame, (FRAMES + 1) * frame):
            return func(q, k, v, heads, *args, **kwargs)
        number, count["calls"] = count["calls"] % FRAMES, count["calls"] + 1
        out = change(number, *layout.to_heads(q, k, v, heads, False), run)
        return layout.from_heads(out.to(q.dtype), False)

    told = model.clone()
    told.model_options["transformer_options"]["optimized_attention_override"] = attend
    return told


def span_of(number, grid):
    """Where the video is in the call of one frame, as the host's file has it."""
    frame = grid[1] * grid[2]
    behind = (Span("pose", frame),) if number else ()
    part = (number * frame, (number + 1) * frame)
    return VideoSpan(grid, frame, BOTH, (Span("reference", frame),), behind, part=part)


def larger():
    """(case, grid): more blocks of keys than one."""
    shape = (1, 16, FRAMES, 16, 24)

    def conditioning():
        still = torch.randn(shape, generator=torch.Generator().manual_seed(4))
        given = {"concat_latent_image": still, "concat_mask": torch.ones(1, 1, *shape[2:])}
        return {**DRIVEN.conditioning(), **given, "pose_video_latent": still.flip(1)[:, :, 1:]}

    return replace(DRIVEN, latent=lambda: torch.zeros(shape), conditioning=conditioning), (FRAMES - 1, 8, 12)


@pytest.mark.parametrize("pattern", [*FIXED, *CHOSEN])
def test_a_pattern_shapes_the_clip_and_leaves_reference_and_motion_exact(pack, model, inference, pattern):
    case, grid = larger()
    patched = shaped(pack, model, pattern).args[0]
    rule = pack.nodes.host.model_rules.pattern_of(patched)
    out = sample(patched, case, steps=STEPS)
    report = pack.nodes.host.run_history.find(out)
    calls = {used.split(" (")[0]: count for (role, used), (count, _) in rows(pack, out).items() if role == "self"}
    blocks = {"calls": 0}

    def change(number, q, k, v, run):
        block, blocks["calls"] = blocks["calls"] // FRAMES % BLOCKS, blocks["calls"] + 1
        return pattern_truth.attention(rule, span_of(number, grid), q, k, v, block=block) if number else run(q, k, v)

    # Both prompts of a step are one call at cfg 1; the reference image attends as ever.
    assert calls[pattern] == (FRAMES - 1) * STEPS * BLOCKS and sum(calls.values()) == FRAMEWISE
    assert not report.fallbacks and not report.unplaced
    truth = sample(by_hand(pack, model, grid[1] * grid[2], change), case, steps=STEPS)
    effect = error(sample(model, case, steps=STEPS), truth)
    assert effect > 1e-5 and error(out, truth) <= 0.1 * effect


@pytest.mark.parametrize("kind", ["stg", "pag"])
def test_the_extra_pass_weakens_the_clip_and_not_the_reference(pack, model, inference, kind):
    calls = {"calls": 0}

    def change(number, q, k, v, run):
        block, calls["calls"] = calls["calls"] // FRAMES % BLOCKS, calls["calls"] + 1
        weak = number and block == 1
        return v[:, :, number * 12 : number * 12 + 12] if weak else run(q, k, v)

    strong = sample(model, DRIVEN)
    weak = sample(by_hand(pack, model, 12, change), DRIVEN)
    out = sample(guided(pack, kind, model, blocks="1"), DRIVEN)
    assert not pack.nodes.host.run_history.find(out).fallbacks
    assert error(weak, strong) > 1e-5
    assert (out - (strong + 10.0 * (strong - weak))).norm() <= 0.01 * (10.0 * (strong - weak)).norm()


def test_ties_between_frames_need_all_of_them(pack, model, inference):
    out = sample(guided(pack, "enhance", model, blocks="1"), DRIVEN)
    told = pack.attention.inspect.report_text.to_text(pack.nodes.host.run_history.find(out))
    assert "cross-frame emphasis" in told and "a part of the video's queries" in told
    assert error(out, sample(model, DRIVEN)) <= 1e-6


def test_positions_are_refused_by_name(pack, model):
    with pytest.raises(ValueError, match="Wan-Animate-2"):
        run(pack, "riflex", model)


@pytest.mark.parametrize("case", [STILL, DRIVEN], ids=str)
def test_compiled_it_is_one_graph_and_the_same(pack, model, inference, compiled, case):  # noqa: F811
    """No more graphs or breaks than without us, and none made anew in a second run."""
    plain = sample(model, case, steps=STEPS)
    bare = compiled(model)
    sample(bare, case, steps=STEPS)
    without = graphs(), len(broken_at())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    ours = compiled(ruled(pack, model))
    for _ in range(2):
        out = sample(ours, case, steps=STEPS)
        found = rows(pack, out)
        assert found["self", "sdpa"][1] == {0, 1} and error(out, plain) <= 1e-4
        assert (graphs(), len(broken_at())) <= without
