"""Wan-Animate-2: methods that the host calls past every module hook, frames that attend one by one, a pose beside them.

In the host's own class where it has one, else in the stand-in of tests/lib/tiny/wan_animate2.py.
"""

from __future__ import annotations

from types import MethodType

import pytest
import torch
from compiling import broken_at, graphs
from guiding import error, guided, run, same
from tiny.case import sample, watch, with_sites
from tiny.wan_animate2 import CASES, FRAMES

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


@pytest.mark.parametrize("kind", ["stg", "pag", "enhance"])
def test_what_needs_the_grid_says_that_frames_come_one_by_one(pack, model, inference, kind):
    out = sample(guided(pack, kind, model, blocks="1"), DRIVEN)
    told = pack.attention.inspect.report_text.to_text(pack.nodes.host.run_history.find(out))
    assert "self-attention in parts (12 x 48 tokens)" in told and torch.isfinite(out).all()


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
