"""NAG under every guider: the negative prompt goes behind the positive one, whatever both are called and whatever other
nodes make of the batch.
"""

from __future__ import annotations

import functools
import uuid

import guiders
import pytest
import torch
from guiders import of_two_clips, prompts, run
from guiding import PLAIN, error, guided, same
from tiny.case import prompt


@pytest.fixture(scope="module")
def built(pack):
    return functools.cache(lambda name: PLAIN[name].build())


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("kind", ["target", "source"])
def test_a_negative_prompt_goes_behind_positive_ones_of_other_names(kind, connected, pack, built, inference):
    case, model = PLAIN["Wan"], built("Wan")
    positive, negative, other = prompts(case)
    on = guided(pack, "nag", model, **({"negative": negative} if connected else {}))
    usual = run(guiders.cfg_guider(on, positive, negative), case)
    out = run(guiders.named(on, positive, negative, other, kind=kind), case)
    assert error(out, usual) < 1e-6
    assert error(out, run(guiders.named(model, positive, negative, other, kind=kind), case)) > 1e-4


def test_prompts_without_a_positive_name_are_told(pack, built, inference):
    import comfy.samplers

    case, model = PLAIN["Wan"], built("Wan")

    class Odd(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options, seed=None):
            prompt = self.conds["unconditional"]
            return comfy.samplers.calc_cond_batch(self.inner_model, [prompt], x, timestep, model_options)[0]

    outs = []
    for each in (model, guided(pack, "nag", guided(pack, "stg", model, blocks="1"), negative=prompt(case, 2))):
        guider = Odd(each)
        guider.inner_set_conds({"unconditional": prompt(case, 1)})
        outs.append(run(guider, case, steps=2))
    assert same(*outs)
    assert pack.nodes.host.run_history.find(outs[1]).notes == (
        "Spatiotemporal guidance left 2 steps as they were: the guider asked for no prompt that is positive by its "
        "name.",
        "Normalised attention guidance is off: none of this guider's prompts (unconditional) is a positive one by its "
        "name.",
    )


def in_parts(model, case, size):
    """Cross-attention runs on `size` rows at a time, as with packs that save memory or treat halves apart."""
    split = model.clone()
    for block in range(2):
        name = f"diffusion_model.blocks.{block}.cross_attn.forward"
        original = model.get_model_object(name)

        def forward(x, context, *args, original=original, **kwargs):
            parts = zip(x.split(size), context.split(size), strict=True)
            return torch.cat([original(a, b, *args, **kwargs) for a, b in parts])

        split.add_object_patch(name, forward)
    return split


@pytest.mark.parametrize("clips", [1, 2])
@pytest.mark.parametrize("size", [1, 2])
def test_a_batch_that_another_node_splits(size, clips, pack, built, inference):
    """With both prompts in the batch a part may be of either: then all rows are as without NAG, and it is told."""
    case, model = PLAIN["Wan"], built("Wan")
    case = of_two_clips(case) if clips == 2 else case
    on = guided(pack, "nag", in_parts(model, case, size))
    out = run(guiders.cfg_guider(on, *prompts(case)[:2]), case, steps=2)
    whole = size == 2 * clips
    acts = run(guiders.cfg_guider(guided(pack, "nag", model), *prompts(case)[:2]), case, steps=2)
    plain = run(guiders.cfg_guider(model, *prompts(case)[:2]), case, steps=2)
    assert error(acts, plain) > 1e-4 and error(out, acts if whole else plain) < 1e-5
    notes = pack.nodes.host.run_history.find(out).notes
    calls = 2 * 2 * (2 * clips // size)
    assert notes == (
        ("Normalised attention guidance: 4 attention calls more.",) if whole else
        (f"Normalised attention guidance left {calls} attention calls as they were: another node runs attention to the "
         "prompt in parts of the batch, whose prompts cannot be told.",)
    )  # fmt: skip
    alone = run(guiders.cfg_guider(on, *prompts(case)[:2], 1.0), case)
    truth = run(guiders.cfg_guider(guided(pack, "nag", model), *prompts(case)[:2], 1.0), case)
    assert error(alone, truth) < 1e-5, "one prompt alone: every part is a positive one"


def test_new_names_for_each_call_do_not_hide_which_prompt_it_is(pack, built, inference):
    """Windows get uuids of their own where a cache works beside them."""
    from comfy.patcher_extension import WrappersMP

    case, model = PLAIN["Wan"], built("Wan")
    on = guided(pack, "nag", guided(pack, "stg", model, blocks="1"))

    def renamed(executor, model, conds, *args):
        return executor(model, [[{**each, "uuid": uuid.uuid4()} for each in cond] for cond in conds], *args)

    other = on.clone()
    other.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "renamed", renamed)
    outs = [run(guiders.cfg_guider(m, *prompts(case)[:2]), case) for m in (on, other)]
    assert same(*outs) and error(outs[0], run(guiders.cfg_guider(model, *prompts(case)[:2]), case)) > 1e-4


def test_prompts_one_after_the_other_are_still_told_apart(pack, built, inference):
    """A wrapper that saves memory calls for one prompt at a time: they are counted from 0 again each time."""
    from comfy.patcher_extension import WrappersMP

    case, model = PLAIN["Wan"], built("Wan")
    on = guided(pack, "nag", guided(pack, "stg", model, blocks="1"))

    def one_by_one(executor, model, conds, *args):
        return [executor(model, [cond], *args)[0] for cond in conds]

    other = on.clone()
    other.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "one by one", one_by_one)
    outs = [run(guiders.cfg_guider(m, *prompts(case)[:2]), case) for m in (on, other)]
    assert error(outs[1], outs[0]) < 1e-5
