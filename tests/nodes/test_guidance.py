"""Guidance in a real ComfyUI, on tiny models, against the same thing done by hand to the model's own modules."""

from __future__ import annotations

import functools
import itertools
from math import prod

import guidance_rows
import pytest
import torch
from guiding import MODULES, PLAIN, error, guided, prompted, same, weaken_modules
from tiny import CASES
from tiny.case import SLOT, parts, prompt, sample, with_sites

from attention import guidance
from attention.families import TABLE

GUIDANCE = pytest.mark.parametrize("row", guidance.TABLE, ids=lambda row: row.name)


@pytest.fixture(scope="module")
def built(pack):
    return functools.cache(lambda name: PLAIN[name].build())


def combine(case, make):
    """A latent of the parts that `make` gives for the parts of others."""
    nested = getattr(case.latent(), "is_nested", False)
    if not nested:
        return make(0)
    from comfy.nested_tensor import NestedTensor

    return NestedTensor([make(i) for i in range(2)])


def away(case, guided_so_far, strong, weak, scale):
    """What the papers say, for latents: one step of Euler gives the prediction itself."""
    so_far, s, w = parts(guided_so_far), parts(strong), parts(weak)
    return combine(case, lambda i: so_far[i] + scale * (s[i] - w[i]))


# --- STG and PAG: the extra pass -------------------------------------------------------------------------------------

JOINT = ("HunyuanVideo", "Mochi", "CogVideoX")


def weaken_calls(model, case, block, how):
    """A clone whose self-attention call number `block` leaves the video's tokens as they are, told by its length."""
    clone, count = model.clone(), itertools.count()
    before = sum(length for _, length in case.before)
    video = slice(before, before + prod(case.grid))
    length = video.stop + sum(length for _, length in case.after)

    def attend(func, q, k, v, heads, *args, **kwargs):
        out = func(q, k, v, heads, *args, **kwargs)
        split = kwargs.get("skip_reshape", False)
        if q.shape[-2] != length or k.shape[-2] != length or next(count) % sum_of_blocks(case) != block:
            return out
        values = v.transpose(1, 2).flatten(2) if split else v
        heads_out = kwargs.get("skip_output_reshape", False)
        assert not heads_out
        out = out.clone()
        out[:, video] = values[:, video] * (how == "values")
        return out

    clone.model_options["transformer_options"][SLOT] = attend
    return clone


def sum_of_blocks(case) -> int:
    return case.calls["self"]


@pytest.mark.parametrize("how", ["values", "skip"])
@pytest.mark.parametrize("name", [*MODULES, *JOINT])
def test_one_pass_more_and_away_from_it(name, how, pack, built, inference, monkeypatch):
    case, model = PLAIN[name], built(name)
    # CogVideoX begins with thousands of times more noise than a float32 keeps the prediction beside.
    more = {"denoise": 0.3} if name == "CogVideoX" else {}
    out = sample(guided(pack, "stg", model, mode=how, blocks="1"), case, cfg=3.0, **more)
    report = pack.nodes.host.run_history.find(out)
    with_cfg, strong = sample(model, case, cfg=3.0, **more), sample(model, case, **more)
    by_module = name in MODULES
    weaker = weaken_modules(model, name, 1, how, monkeypatch) if by_module else weaken_calls(model, case, 1, how)
    expected = away(case, with_cfg, strong, sample(weaker, case, **more), 10.0)
    effect = error(with_cfg, expected)
    assert effect > 2e-4 and error(out, expected) <= max(0.01 * effect, 2e-6)
    assert report.notes == ("Spatiotemporal guidance: 1 model call more.",) and not report.fallbacks


def test_perturbed_attention_is_the_same_without_rescale(pack, built, inference):
    case, model = PLAIN["Wan"], built("Wan")
    pag = sample(guided(pack, "pag", model, blocks="1"), case)
    assert pack.nodes.host.run_history.find(pag).notes == ("Perturbed attention guidance: 1 model call more.",)
    assert same(pag, sample(guided(pack, "stg", model, blocks="1"), case))
    both = guided(pack, "pag", guided(pack, "stg", model, blocks="1"), blocks="1")
    strong, twice = sample(model, case), sample(both, case)
    assert error(twice - strong, 2 * (pag - strong)) < 1e-3, "two nodes, two passes"


def test_sound_is_left_alone_when_asked(pack, built, inference, monkeypatch):
    case, model = PLAIN["LTX-2"], built("LTX-2")
    out = sample(guided(pack, "stg", model, blocks="1", audio=False), case)
    strong = sample(model, case)
    monkeypatch.setitem(MODULES, "LTX-2", lambda m, b: [m.transformer_blocks[b].attn1])
    weak = sample(weaken_modules(model, "LTX-2", 1, "values", monkeypatch), case)
    assert error(out, away(case, strong, strong, weak, 10.0)) < 2e-5


def test_rescale_keeps_each_stream_where_it_was(pack, built, inference):
    """Video and audio lie in one tensor: each has its own deviation."""
    case, model = PLAIN["LTX-2"], built("LTX-2")
    out = sample(guided(pack, "stg", model, blocks="1", rescale=1.0), case)
    free = sample(guided(pack, "stg", model, blocks="1", rescale=0.0), case)
    for got, loose, strong in zip(parts(out), parts(free), parts(sample(model, case)), strict=True):
        assert abs(got.std() - strong.std()) <= abs(loose.std() - strong.std()) + 1e-6
        cosine = torch.cosine_similarity(got.flatten(), loose.flatten(), dim=0)
        assert cosine > 0.999


def watched(model):
    """A clone that notes (pass, role, block, sum of q, keys) of every call that is passed on."""
    clone, seen = model.clone(), []

    def look(func, q, k, v, heads, *args, **kwargs):
        options = kwargs["transformer_options"]
        site, context = options.get("vattn.site"), options.get("vattn.context")
        extra = context is not None and context.perturbation is not None
        seen.append((extra, site and site.role, site and site.block, q.sum().item(), k.shape[-2]))
        return func(q, k, v, heads, *args, **kwargs)

    clone.model_options["transformer_options"][SLOT] = look
    return clone, seen


@pytest.mark.parametrize("name", ["LTX-2", "Wan", "HunyuanVideo"])
def test_only_the_named_calls_change(name, pack, built, inference):
    case = PLAIN[name]
    before, plain_calls = watched(with_sites(pack, built(name)))
    sample(before, case)
    looked, calls = watched(built(name))
    sample(guided(pack, "stg", looked, blocks="1"), case)
    own = [call[1:] for call in calls if not call[0]]
    extra = [call[1:] for call in calls if call[0]]
    assert own == [call[1:] for call in plain_calls], "the model's own pass, bit for bit"
    # What is beside the video in its sequence is attended to in our kernel: such a call is not passed on either.
    weakened = {("self", 1), ("audio self", 1)}
    assert [c[:2] for c in extra] == [c[:2] for c in own if c[:2] not in weakened]
    until = next(i for i, c in enumerate(own) if c[:2] in weakened)
    assert extra[:until] == own[:until], "the same until then"


@GUIDANCE
def test_steps_outside_are_bit_for_bit_the_same(row, pack, built, inference):
    case, model, node = PLAIN["LTXV"], built("LTXV"), guidance_rows.nodes_of(pack)[row.name]
    if not guidance_rows.has_steps(node):
        pytest.skip("it asks for no steps")
    truth = sample(model, case, steps=4)
    late, _ = guidance_rows.execute(node, model, start_percent=0.999)
    assert same(sample(late, case, steps=4), truth)
    half = sample(guidance_rows.execute(node, model, end_percent=0.5)[0], case, steps=4)
    notes = pack.nodes.host.run_history.find(half).notes
    told = not row.cost.startswith(("one model call", "one attention call")) or notes[0].split(": ")[1][0] in "1234"
    assert not same(half, truth) and told


@pytest.mark.parametrize("name", [name for name in PLAIN if name not in (*MODULES, *JOINT)])
def test_every_other_family_can_be_guided(name, pack, built, inference):
    case, model = PLAIN[name], built(name)
    out = sample(guided(pack, "stg", model, blocks="1"), case)
    report = pack.nodes.host.run_history.find(out)
    assert report.notes == ("Spatiotemporal guidance: 1 model call more.",) and not report.fallbacks
    weakened = sum(row.calls for row in report.rows if row.used == "Spatiotemporal guidance: values as they are")
    plain = error(out, sample(model, case))
    assert weakened >= 1 and plain > 1e-6


@GUIDANCE
def test_switched_off_it_is_the_model_as_it_came(row, pack, built, inference):
    node = guidance_rows.nodes_of(pack)[row.name]
    for widgets in guidance_rows.off_values(row, node):
        model, text = guidance_rows.execute(node, built("Wan"), **widgets)
        assert model is built("Wan") and f"{row.name} is off" in text, widgets


@GUIDANCE
def test_cleared_it_is_the_model_as_it_came(row, pack, built, inference):
    case, model, node = PLAIN["Wan"], built("Wan"), guidance_rows.nodes_of(pack)[row.name]
    if not node.COUNTS_ATTENTION:
        pytest.skip("it is no rule for attention, and those alone are cleared")
    on, _ = guidance_rows.execute(node, model)
    truth = sample(model, case, steps=2, cfg=3.0)
    assert not same(sample(on, case, steps=2, cfg=3.0), truth)
    cleared = pack.nodes.backend.VideoAttentionClear.execute(on).args[0]
    assert same(sample(cleared, case, steps=2, cfg=3.0), truth)


# --- NAG -------------------------------------------------------------------------------------------------------------

# Of every family whose row lets a negative prompt go behind the prompt.
TEXT_VARIANTS = {variant.name for row in TABLE if row.mixed_prompt is None for variant in row.variants}


def with_rule(pack, model, negative=None, role="all", blocks=(), **settings):
    rules, nag = pack.attention.routing.rules, pack.attention.guidance.nag
    rule = rules.Rule("", role, blocks, nag=nag.Nag(**settings))
    return pack.nodes.host.nag_prompt.install_negative(model, rule, negative)


CASES_WITH_TEXT = [case for case in CASES if case.variant in TEXT_VARIANTS]


@pytest.mark.parametrize("case", CASES_WITH_TEXT, ids=str)
def test_the_negative_prompt_is_attended_to_as_if_it_were_the_prompt(case, pack, inference):
    """At scale 0, alpha 1 and any tau the guided features are those of the negative prompt: Z- alone."""
    model = case.build()
    positive, negative = prompt(case, 1), prompt(case, 2)
    swapped = prompted(with_rule(pack, model, negative, scale=0.0, tau=1e9, alpha=1.0), case, positive)
    truth, plain_out = prompted(model, case, negative), prompted(model, case, positive)
    effect = error(plain_out, truth)
    assert error(swapped, truth) <= max(0.01 * effect, 2e-6)
    report = pack.nodes.host.run_history.find(swapped)
    assert report.notes and "attention calls more" in report.notes[0]
