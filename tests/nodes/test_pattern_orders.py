"""Tokens moved into a pattern's order once for each model call: nothing changes but the order, and nothing is left."""

from __future__ import annotations

import pytest
import torch
from shaping import shaped, strengthened
from tiny import wan
from tiny.case import parts, sample

CASES = {str(case): case for case in wan.CASES if case.grid}
PLAIN, IMAGE, VACE = wan.TEXT_ONLY[0], CASES["Wan 2.1 I2V"], next(c for n, c in CASES.items() if "VACE" in n)
MOVED = "were moved into {} order once for each model call."


@pytest.fixture(scope="module")
def built(pack):
    import functools

    return functools.cache(lambda case: case.build())


@pytest.fixture
def blocks(pack, monkeypatch):
    """A MODEL behind Video Attention Pattern with block patterns of few tokens each."""
    monkeypatch.setattr(pack.attention.patterns.blocks, "QUERIES", 8)
    monkeypatch.setattr(pack.attention.sparse.gather_blocks, "QUERIES", 8)
    for module in (pack.attention.patterns.blocks, pack.attention.sparse.gather_blocks):
        monkeypatch.setattr(module, "KEYS", 4)
    pack.attention.sparse.planned.cache_clear()

    def make(model, order="tile", keep=40.0, tail=True):
        node = pack.nodes.pattern.VideoAttentionPattern
        values = {i.id: i.default for i in node.GET_SCHEMA().inputs if i.id not in ("model", "latent", "pattern")}
        values |= {"start_percent": 0.0, "min_tokens": 0, "auto_choice": "table order", "engine": "blocks"}
        choice = {"pattern": "top blocks", "keep": keep, "token_order": order, "tail": tail}
        return node.execute(model, pattern=choice, **values).args[0]

    yield make
    pack.attention.sparse.planned.cache_clear()


def error(out, truth) -> float:
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(parts(out), parts(truth)))


def ran(pack, model, case, **more):
    """(output, whether tokens were moved)."""
    out = sample(model, case, steps=2, **more)
    return out, any(MOVED.split("{}")[0] in note for note in pack.nodes.host.run_history.find(out).notes)


def hooks(model) -> int:
    network = model.model.diffusion_model
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in network.modules())


@pytest.mark.parametrize("order", ["tile", "morton", "hilbert"])
@pytest.mark.parametrize("case", [PLAIN, IMAGE], ids=str)
def test_moving_dense_and_moving_back_is_dense(case, order, pack, built, blocks, inference):
    """keep 100 % is dense: attention, projections, prompts and feed-forwards all run on moved tokens."""
    model = built(case)
    out, moved = ran(pack, blocks(model, order, keep=100.0), case)
    assert moved and error(out, sample(model, case, steps=2)) <= 1e-5


@pytest.mark.parametrize("order", ["tile", "hilbert"])
@pytest.mark.parametrize("case", [PLAIN, IMAGE], ids=str)
def test_once_is_what_each_call_gives(case, order, pack, built, blocks, inference, monkeypatch):
    model = built(case)
    once, moved = ran(pack, blocks(model, order), case)
    monkeypatch.setattr(pack.nodes.host.token_order, "TABLES", {})
    each, still = ran(pack, blocks(model, order), case)
    assert (moved, still) == (True, False)
    effect = error(sample(model, case, steps=2), each)
    assert effect > 2e-5 and error(once, each) <= 0.05 * effect
    assert hooks(model) == 0


def test_what_knows_tokens_by_their_number_keeps_them(pack, built, blocks, inference):
    model = built(PLAIN)
    patched = blocks(model).clone()
    patched.set_model_patch(lambda args: args["x"], "attn2_patch")
    assert not ran(pack, patched, PLAIN)[1], "a patch"
    assert not ran(pack, strengthened(pack, blocks(model), cross_frame=3.0), PLAIN)[1], "strength between frames"
    assert not ran(pack, blocks(model, "raster"), PLAIN)[1], "raster order"
    assert not ran(pack, shaped(pack, blocks(model), "spatial").args[0], PLAIN)[1], "a pattern with a fixed mask"
    assert not ran(pack, blocks(built(VACE)), VACE)[1], "VACE"
    other = blocks(model)
    slot = other.model_options["transformer_options"]
    router = slot["optimized_attention_override"]
    slot["optimized_attention_override"] = lambda func, *args, **kwargs: router(func, *args, **kwargs)
    assert not ran(pack, other, PLAIN)[1], "another override"


def test_compiled_blocks_keep_their_tokens(pack, built, blocks, inference):
    """They move nothing while they are traced, so nobody else may."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    patched = blocks(built(PLAIN))
    truth, moved = ran(pack, patched, PLAIN)
    set_torch_compile_wrapper(patched, backend="eager", keys=["diffusion_model.blocks.1"])
    out, still = ran(pack, patched, PLAIN)
    assert (moved, still) == (True, False) and error(out, truth) <= 1e-5
    torch._dynamo.reset()


def test_nothing_is_left_after_an_error(pack, built, blocks, inference):
    model = built(PLAIN)
    patched, before = blocks(model), sample(model, PLAIN)

    def fail(*args):
        raise RuntimeError("stop here")

    handle = model.model.diffusion_model.blocks[1].ffn.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="stop here"):
        sample(patched, PLAIN)
    handle.remove()
    assert hooks(model) == 0 and not hasattr(model.model.diffusion_model, pack.nodes.host.hooks.ATTRIBUTE)
    assert all(torch.equal(a, b) for a, b in zip(parts(sample(model, PLAIN)), parts(before)))
