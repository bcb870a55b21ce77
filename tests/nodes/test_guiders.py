"""STG and PAG under every guider: the extra pass takes what the model itself was asked, whatever the guider tells.

The truth is made by hand: modules weakened one by one, and the papers' formulas.
"""

from __future__ import annotations

import functools

import guiders
import pytest
import torch
from guiders import KINDS, WITH_SOUND, of_two_clips, prompts, run
from guiding import PLAIN, error, guided, same, weaken_modules
from tiny.case import parts, prompt

SCALE = 10.0


@pytest.fixture(scope="module")
def built(pack):
    return functools.cache(lambda name: PLAIN[name].build())


def apart(a, b) -> list:
    return [x - y for x, y in zip(parts(a), parts(b), strict=True)]


def far(found, truth) -> float:
    """Relative L2 of the worst stream."""
    return max(((a - b).double().norm() / b.double().norm()).item() for a, b in zip(found, truth, strict=True))


EVERY = [("Wan", kind) for kind in KINDS] + [("LTX-2", kind) for kind in (*WITH_SOUND, "CFG", "PerpNeg", "in place")]


@pytest.mark.parametrize(("name", "kind"), EVERY)
def test_each_guider_moves_away_from_the_weaker_model(name, kind, pack, built, inference, monkeypatch):
    """One step of Euler gives the prediction: the guider's own, and scale * (positive - weakened positive)."""
    case, model, make = PLAIN[name], built(name), {**KINDS, **WITH_SOUND}[kind]
    own = run(make(model, *prompts(case)), case)
    out = run(make(guided(pack, "stg", model, blocks="1"), *prompts(case)), case)
    report = pack.nodes.host.run_history.find(out)
    strong = run(guiders.cfg_guider(model, *prompts(case)[:2], 1.0), case)
    weak = run(guiders.cfg_guider(weaken_modules(model, name, 1, "values", monkeypatch), *prompts(case)[:2], 1.0), case)
    expected = [SCALE * part for part in apart(strong, weak)]
    assert far(apart(out, own), expected) < 1e-3, "of the difference alone"
    assert report.notes == ("Spatiotemporal guidance: 1 model call more.",)


def halfway(model) -> float:
    """The percentage of the sampling at which the noise level is about 0.8."""
    to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    return min((n / 100 for n in range(1, 100)), key=lambda percent: abs(float(to_sigma(percent)) - 0.8))


def split_run(first, second, case):
    """One guider's step from 1 to 0.6, and another's from there on, as two KSamplerAdvanced in a row."""
    import comfy.nested_tensor
    import comfy.samplers

    begun = run(first, case, sigmas=[1.0, 0.6])
    zeros = [torch.zeros_like(part) for part in parts(begun)]
    noise = zeros[0] if len(zeros) == 1 else comfy.nested_tensor.NestedTensor(zeros)
    sigmas, euler = torch.tensor([0.6, 0.3, 0.0]), comfy.samplers.sampler_object("euler")
    return second.sample(noise, begun, euler, sigmas, disable_pbar=True, seed=1)


CHAINS = {
    "alone": lambda lab, m, kind, end: guided(lab, kind, m, blocks="1", end_percent=end),
    "kernel behind": lambda lab, m, kind, end: kernel(lab, guided(lab, kind, m, blocks="1", end_percent=end)),
    "kernel before": lambda lab, m, kind, end: guided(lab, kind, kernel(lab, m), blocks="1", end_percent=end),
}


def kernel(pack, model):
    return pack.nodes.host.model_rules.add_rule(model, pack.attention.routing.rules.Rule("reference"))


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("kind", ["CFG", "PerpNeg", "multimodal", "other names"])
def test_only_the_steps_of_the_range_are_guided(kind, chain, pack, built, inference):
    name = "LTX-2" if kind == "multimodal" else "Wan"
    case, model, make = PLAIN[name], built(name), {**KINDS, **WITH_SOUND}[kind]
    for which in ("stg", "nag"):
        on = CHAINS[chain](pack, model, which, halfway(model))
        always = guided(pack, which, model, blocks="1")
        out = run(make(on, *prompts(case)), case, sigmas=[1.0, 0.6, 0.3, 0.0])
        expected = split_run(make(always, *prompts(case)), make(model, *prompts(case)), case)
        plain = run(make(model, *prompts(case)), case, sigmas=[1.0, 0.6, 0.3, 0.0])
        assert error(out, expected) < 1e-5 and error(out, plain) > 1e-4, which


def test_a_stream_that_a_guider_holds_is_left_alone(pack, built, inference):
    """In the second step the sound is held: its prediction then means nothing, and the video is guided all the same."""
    case, model = PLAIN["LTX-2"], built("LTX-2")

    def seen(m):
        clips, guider = [], guiders.multimodal(m, *prompts(case)[:2], skip=(1,))

        def look(step, x0, x, steps):
            # ComfyUI before 0.30 gives a callback both streams in one tensor.
            nested = getattr(x0, "is_nested", False)
            clips.append([part.clone() for part in (parts(x0) if nested else guiders.streams(guider, x0))])

        run(guider, case, steps=2, callback=look)
        return clips[1], guider.held

    (video, sound), held = seen(guided(pack, "stg", model, blocks="1", rescale=1.0))
    (plain, _), _ = seen(model)
    assert torch.equal(sound, held) and far([video], [plain]) > 1e-3


# --- batches, several prompts, regions, windows ----------------------------------------------------------------------


def combined(case):
    """Two prompts at once, one of them in the upper half alone."""
    import node_helpers

    whole, part = prompt(case, 1), prompt(case, 7)
    height = parts(case.latent())[0].shape[-2]
    area = {"area": ("percentage", 1.0, 0.5, 1.0, 0.0, 0.0, 0.0), "strength": 0.7} if height else {}
    return whole + node_helpers.conditioning_set_values(part, area)


def windowed(model):
    import comfy.context_windows as windows

    cut = model.clone()
    cut.model_options["context_handler"] = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        fuse_method=windows.get_matching_fuse_method(windows.ContextFuseMethods.FLAT),
        context_length=2, context_overlap=1, dim=2,
    )  # fmt: skip
    return cut


INPUTS = {
    "two clips": lambda case, model: (of_two_clips(case), model, prompts(case)),
    "several prompts": lambda case, model: (case, model, (prompt(case, 1) + prompt(case, 6), *prompts(case)[1:])),
    "regional": lambda case, model: (case, model, (combined(case), *prompts(case)[1:])),
    "windows": lambda case, model: (case, windowed(model), prompts(case)),
}


@pytest.mark.parametrize("how", INPUTS)
@pytest.mark.parametrize("kind", ["CFG", "DualCFG", "in place"])
def test_whatever_the_prompts_and_the_clips_are(how, kind, pack, built, inference, monkeypatch):
    case, model, asked = INPUTS[how](PLAIN["Wan"], built("Wan"))
    own = run(KINDS[kind](model, *asked), case)
    out = run(KINDS[kind](guided(pack, "stg", model, blocks="1"), *asked), case)
    strong = run(guiders.cfg_guider(model, *asked[:2], 1.0), case)
    weak = run(guiders.cfg_guider(weaken_modules(model, "Wan", 1, "values", monkeypatch), *asked[:2], 1.0), case)
    assert far(apart(out, own), [SCALE * part for part in apart(strong, weak)]) < 1e-3


def test_a_cache_of_whole_steps_sees_the_guided_prediction(pack, built, inference):
    """LazyCache repeats a step's change: one without guidance would be repeated without it, in any order of nodes."""
    from comfy_extras.nodes_easycache import LazyCacheNode

    case, model = PLAIN["Wan"], built("Wan")

    def cached(m):
        return LazyCacheNode.execute(m, 3.0, 0.0, 1.0, False).args[0]

    before, behind = guided(pack, "stg", cached(model), blocks="1"), cached(guided(pack, "stg", model, blocks="1"))
    outs = [run(guiders.cfg_guider(m, *prompts(case)[:2]), case, steps=8) for m in (before, behind)]
    assert same(*outs)
    report = pack.nodes.host.run_history.find(outs[1])
    assert "7 model calls" not in report.notes[0] and "8 model calls" not in report.notes[0], "steps were skipped"


def test_two_passes_keep_their_order(pack, built, inference):
    """With a rescale the second one's prediction depends on the first one's."""
    case, model = PLAIN["Wan"], built("Wan")
    both = guided(pack, "pag", guided(pack, "stg", model, blocks="1", rescale=0.9), blocks="0")
    out = run(guiders.cfg_guider(both, *prompts(case)[:2]), case)
    stg = run(guiders.cfg_guider(guided(pack, "stg", model, blocks="1", rescale=0.9), *prompts(case)[:2]), case)
    plain = run(guiders.cfg_guider(model, *prompts(case)[:2]), case)
    pag = run(guiders.cfg_guider(guided(pack, "pag", model, blocks="0"), *prompts(case)[:2]), case)
    assert far(apart(out, stg), apart(pag, plain)) < 1e-3
