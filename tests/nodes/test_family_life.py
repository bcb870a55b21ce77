"""What our announcements leave behind: nothing, whatever is cloned, sampled, interrupted, unloaded, in any order."""

from __future__ import annotations

import functools
import random

import pytest
import torch
from tiny import plain
from tiny.case import sample, watch, with_sites

PLAIN = plain()
SOME = [PLAIN[name] for name in ("LTXV", "Wan", "HunyuanVideo", "Cosmos", "CogVideoX")]


class Life:
    """One MODEL, its patched clones, and a random walk through what may happen to them."""

    def __init__(self, pack, case, model, seed: int):
        self.pack, self.case, self.random = pack, case, random.Random(seed)
        self.base = model
        self.clones = []

    def step(self) -> str:
        action = self.random.choice(("patch", "clone", "drop", "sample", "interrupt", "fail", "unload", "plain"))
        getattr(self, action)()
        return action

    def pick(self):
        return self.random.choice(self.clones) if self.clones else self.patch()

    def patch(self):
        rule = self.pack.attention.routing.rules.Rule("sdpa", role=self.random.choice(("all", "self", "cross")))
        self.clones.append(
            self.pack.nodes.host.model_rules.add_rule(self.random.choice([self.base, *self.clones]), rule)
        )
        return self.clones[-1]

    def clone(self):
        self.clones.append(self.pick().clone())

    def drop(self):
        if self.clones:
            self.clones.pop(self.random.randrange(len(self.clones)))

    def sample(self):
        sample(self.pick(), self.case)

    def plain(self):
        watched, seen = watch(self.base)
        sample(watched, self.case)
        assert not [key for call in seen for key in call.options if str(key).startswith("vattn")]

    def interrupt(self):
        import comfy.model_management

        def stop(step, x0, x, total):
            raise comfy.model_management.InterruptProcessingException

        with pytest.raises(comfy.model_management.InterruptProcessingException):
            sample(self.pick(), self.case, steps=2, callback=stop)

    def fail(self):
        model = self.pick().clone()

        def broken(*args, **kwargs):
            raise ArithmeticError("out of luck")

        model.model_options["transformer_options"]["optimized_attention_override"] = broken
        with pytest.raises(ArithmeticError):
            sample(model, self.case)

    def unload(self):
        import comfy.model_management

        comfy.model_management.unload_all_models()


@pytest.fixture(scope="module")
def built(pack):
    """(case) -> its MODEL, made once."""
    return functools.cache(lambda case: case.build())


def nothing_is_left(pack, network) -> bool:
    """Neither hooks nor what we write on modules."""
    sites = pack.nodes.host.site_hooks
    hooked = any(m._forward_pre_hooks or m._forward_hooks or hasattr(m, sites.TAG) for m in network.modules())
    return (
        not hooked
        and not hasattr(network, pack.nodes.host.hooks.ATTRIBUTE)
        and pack.attention.routing.compiled_op._EVALUATION.options is None
    )


@pytest.mark.parametrize("seed", range(100))
def test_no_hook_is_left_after_anything(pack, inference, built, seed):
    case = SOME[seed % len(SOME)]
    life = Life(pack, case, built(case), seed)
    network = life.base.model.diffusion_model
    for _ in range(6):
        action = life.step()
        assert nothing_is_left(pack, network), action


def test_two_models_in_turn(pack, inference):
    """One patched, one not, of one family: neither hears of the other."""
    case = PLAIN["Wan"]
    patched, other = with_sites(pack, case.build()), case.build()
    for _ in range(2):
        for model, told in ((patched, True), (other, False)):
            watched, seen = watch(model)
            sample(watched, case)
            assert seen and all(("vattn.site" in call.options) is told for call in seen)
            assert nothing_is_left(pack, model.model.diffusion_model)


@pytest.mark.parametrize("case", SOME, ids=str)
def test_cond_and_uncond_apart(case, pack, inference, monkeypatch):
    """Without memory for a batch of both, ComfyUI makes two model calls a step: each is announced on its own."""
    import comfy.model_base

    model = case.build()
    once, seen_once = watch(with_sites(pack, model))
    sample(once, case)
    monkeypatch.setattr(comfy.model_base.BaseModel, "memory_required", lambda *args, **kwargs: 1 << 60)
    apart, seen_apart = watch(with_sites(pack, model))
    sample(apart, case, cfg=3.0)
    locate = pack.attention.routing.step_context.locate
    roles = lambda seen: [locate(c.options, c.q_len, c.kv_len)[0].role for c in seen]  # noqa: E731
    assert roles(seen_apart) == 2 * roles(seen_once)
    if case.grid:
        places = [locate(c.options, c.q_len, c.kv_len) for c in seen_apart]
        assert all(video_span.grid == case.grid for site, video_span in places if site.role == "self")


def test_a_clone_for_another_gpu_has_its_own_hooks(pack, inference):
    """ComfyUI runs one clone for each GPU in its own thread; a second name of the CPU stands for the second GPU."""
    case = PLAIN["Wan"]
    model = case.build()
    model.cached_patcher_init = (case.build, ())
    patched = pack.nodes.host.model_rules.add_rule(model, pack.attention.routing.rules.Rule("sdpa"))
    second = patched.deepclone_multigpu(torch.device("cpu", 0))
    second.is_multigpu_base_clone = True
    assert second.model is not patched.model
    patched.set_additional_models("multigpu", [second])
    patched.match_multigpu_clones()
    latent = sample(patched, case, steps=2, cfg=3.0)
    report = pack.nodes.host.run_history.find(latent)
    assert {(row.role, row.used) for row in report.rows} == {("self", "sdpa"), ("cross", "sdpa")}
    assert report.calls == 2 * 2 * sum(case.calls.values()), "two steps, two prompts, one on each device"
    for one in (patched, second):
        assert nothing_is_left(pack, one.model.diffusion_model)
