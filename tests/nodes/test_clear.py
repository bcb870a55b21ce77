"""Video Attention Clear: the model is as it was before us, and what a compiled graph looks up stays."""

from __future__ import annotations

import torch
from tiny_calls import ALL_OURS, SLOT


def test_clear_takes_every_rule_off(lab):
    cleared = lab.clear(lab.backend(lab.backend(), "reference", role="cross"))
    latent = lab.sample(cleared, seed=77)
    assert torch.equal(latent, lab.sample(seed=77))
    assert lab.report(latent) is None
    assert lab.hooks(lab.model) == 0
    for part in (cleared.wrappers, cleared.callbacks, cleared.injections):
        assert not any(map(bool, part.values()))


def test_clear_leaves_the_model_as_it_was_before_us(lab):
    cleared = lab.clear(lab.backend())
    assert cleared.model_options["transformer_options"] == lab.model.model_options["transformer_options"]
    assert lab.counted(lab.backend(cleared)) == ALL_OURS


def test_clear_keeps_the_slot_that_a_compiled_graph_looks_up(lab):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    compiled = lab.backend().clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    parted = lab.backend().clone()
    parted.add_object_patch("diffusion_model.transformer_blocks.0", torch.compile(torch.nn.Identity(), backend="eager"))
    for model in (compiled, parted):
        assert not lab.clear(model).model_options["transformer_options"][SLOT].rules


def test_clear_without_a_backend_changes_nothing(lab, plain):
    cleared = lab.clear(lab.model)
    assert SLOT not in cleared.model_options["transformer_options"]
    assert torch.equal(lab.sample(cleared), plain)
