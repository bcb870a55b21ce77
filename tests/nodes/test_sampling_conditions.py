"""What each window of a long clip is given of a prompt's conditions, for every variant of every family.

A plain run of the same clip is the truth: what a window's model call gets is the part of it that belongs to its frames.
The tables here are written by hand from what the models do with each input, not from the pack's own.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import torch
from sampling_nodes import METHODS
from studio import Studio
from tiny import case as tiny_case
from tiny import cogvideox, cosmos, hunyuan, kandinsky5, ltxv, wan, wan_animate2

FRAMES, WINDOW, OVERLAP = 9, 4, 1
# Time's axis in what nodes give; a list's members have it.
GIVEN = {
    "concat_latent_image": 2, "concat_mask": 2, "camera_conditions": 2, "control_video": 2, "vace_frames": 2,
    "vace_mask": 2, "driving_mask_28ch": 1, "ref_mask_28ch": 1, "pose_video_latent": 2, "context_latents": 2,
}  # fmt: skip
SOUND = {"WanModel_S2V": 3, "HumoWanModel": 1, "WanDancerModel": 1}
# What the model gets: time's axis, entries for a latent frame, frames at the begin without any.
CUT = {
    "camera_conditions": (2, 1, 0), "control_video": (2, 1, 0), "vace_context": (3, 1, 0), "sam_latents": (2, 1, 0),
    "pose_latents": (2, 1, 0), "denoise_mask": (2, 1, 0),
}  # fmt: skip
OFTEN = {"WanModel_S2V": (3, 4, 0), "HumoWanModel": (1, 1, 0), "WanDancerModel": (1, 3, 0)}
BEHIND_A_REFERENCE = ("AnimateWanModel", "WanAnimate2Model")
# Only where the clip begins.
AT_FIRST = ("time_dim_replace", "guiding_frame_index", "reference_motion")
# LTX-2 and MiniMax-H3 have sound, which ComfyUI cuts or cannot; the others' frames are no axis of the latent. Mochi has
# text alone. Guides of LTX-Video are refused.
FAMILIES = (cogvideox, cosmos, hunyuan, kandinsky5, ltxv, wan, wan_animate2)
CASES = tuple(
    case
    for case in (case for family in FAMILIES for case in family.CASES if not re.search("guide|dropped", case.name))
    if case.latent().ndim == 5 and case.latent().shape[2] > 1 and case.latent().shape[0] == 1
)


def longer(value, axis: int, before: int):
    """`value` with as many entries for each of FRAMES as it had for each of `before` frames, at random."""
    if isinstance(value, list):
        return [longer(one, axis, before) if one.shape[axis] >= before else one for one in value]
    count = value.shape[axis]
    of = count // before * FRAMES if count % before == 0 else count - before + FRAMES
    shape = [of if i == axis else size for i, size in enumerate(value.shape)]
    made = torch.randn(shape, generator=torch.Generator().manual_seed(count)) * 0.1
    return (made > 0).float() if set(value.unique().tolist()) <= {0.0, 1.0} else made


def long_case(case, model) -> tuple[dict, dict]:
    """(LATENT of FRAMES frames, conditions as long)."""
    shape, name = list(case.latent().shape), type(model.model.diffusion_model).__name__
    given = case.conditioning()
    axes = {**GIVEN, **({"audio_embed": SOUND[name]} if name in SOUND else {})}
    given = {k: longer(v, axes[k], shape[2]) if k in axes else v for k, v in given.items()}
    return {"samples": torch.zeros(*shape[:2], FRAMES, *shape[3:])}, given


def spied(model) -> tuple:
    """A clone that writes down the inputs of each model call by name, and the frames of its window."""
    from comfy.patcher_extension import WrappersMP

    clone, calls = model.clone(), []

    def look(executor, *args, **kwargs):
        kind = type(executor.class_obj)
        names = list(inspect.signature(getattr(kind, "_forward", kind.forward)).parameters)[1:]
        got = {**dict(zip(names, args, strict=False)), **kwargs}
        window = got.pop("transformer_options", {}).get("context_window")
        anchor = getattr(window, "causal_anchor_index", None)
        frames = window and [*([anchor] if anchor is not None and anchor >= 0 else []), *window.index_list]
        got = {name: value.clone() if torch.is_tensor(value) else value for name, value in got.items()}
        calls.append(({**got, "x": args[0].clone()}, frames))
        return executor(*args, **kwargs)

    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    return clone, calls


def part(key: str, name: str, whole, frames: list[int]):
    """What a window with these frames should be given of `whole`, None for nothing."""
    if key in AT_FIRST:
        return whole if frames[0] == 0 and frames[1] == 1 else None
    if key == "ref_mask_latents":
        return whole[:, :, : whole.shape[2] - FRAMES + len(frames)]
    if key == "context_latents":
        return [one[:, :, frames] if one.shape[2] == FRAMES else one for one in whole]
    cut = OFTEN.get(name) if key == "audio_embed" else CUT.get(key)
    if cut is None or not torch.is_tensor(whole):
        return whole
    axis, per, offset = (2, 1, 1) if key == "pose_latents" and name in BEHIND_A_REFERENCE else cut
    entries = [(frame - offset) * per + i for frame in frames if frame >= offset for i in range(per)]
    return whole.index_select(axis, torch.tensor(entries))


def equal(found, truth) -> bool:
    if isinstance(truth, (list, tuple)):
        return len(found) == len(truth) and all(map(equal, found, truth))
    if torch.is_tensor(truth):
        return torch.is_tensor(found) and found.shape == truth.shape and torch.allclose(found, truth, atol=1e-6)
    return found == truth


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_window_gets_its_part(pack, inference, case):
    studio = Studio(pack, case)
    latent, given = long_case(case, studio.model)
    studio.positive = studio.negative = [[tiny_case.prompt(case, 1)[0][0], given]]
    model, calls = spied(studio.model)
    name, channels = type(model.model.diffusion_model).__name__, latent["samples"].shape[1]
    try:
        studio.sample(latent, model, steps=1, cfg=1.0)
    except RuntimeError as error:
        pytest.skip(f"the host cannot, in one piece either: {error}")
    (whole, _), *_ = calls
    node = pack.nodes.long_sampler.VideoAttentionLongSampler
    for method in METHODS:
        calls.clear()
        widgets = {"unit": "latent frames", "window": WINDOW, "overlap": OVERLAP, "steps": 1, "cfg": 1.0}
        out, _, _, report = node.execute(model, **studio.values(node, latent, method=method, **widgets)).args
        assert out["samples"].isfinite().all() and "no condition that this pack knows" not in report
        assert len(calls) == 3 and calls[0][1][0] == 0 and calls[2][1][-1] == FRAMES - 1
        # A mask of ours is a condition on purpose for models that know how noisy each frame is, and that inpaint.
        own = method == "extend" and (model.model.concat_keys or name == "SCAIL2WanModel")
        left = {"x", "timestep", "timesteps", "t", *(["denoise_mask"] if method == "extend" else [])}
        for got, frames in calls:
            assert len(frames) in (WINDOW, WINDOW + 1)
            for key in whole.keys() - left:
                assert equal(got.get(key), part(key, name, whole[key], frames)), (method, key, frames)
            if not own:
                assert equal(got["x"][:, channels:], whole["x"][:, channels:, frames]), (method, frames)


@pytest.mark.parametrize("method", METHODS)
def test_positions_learned_for_one_length_hold_all_windows(pack, inference, method):
    """CogVideoX 1.0's image to video: the whole clip is longer than its positions, a window no frame longer."""
    case = next(case for case in cogvideox.CASES if case.variant == "CogVideoX I2V")
    studio = Studio(pack, case)
    latent, _ = long_case(case, studio.model)
    studio.positive = studio.negative = [[tiny_case.prompt(case, 1)[0][0], case.conditioning()]]
    model, calls = spied(studio.model)
    with pytest.raises(RuntimeError):
        studio.sample(latent, model, steps=1, cfg=1.0)
    calls.clear()
    node, trained = pack.nodes.long_sampler.VideoAttentionLongSampler, case.latent().shape[2]
    widgets = {"unit": "latent frames", "window": trained, "overlap": 1, "steps": 1, "cfg": 1.0, "method": method}
    out = node.execute(model, **studio.values(node, latent, **widgets)).args[0]["samples"]
    assert out.shape[2] == FRAMES and out.isfinite().all() and len(calls) == (FRAMES - 1) // (trained - 1)
    for number, (got, frames) in enumerate(calls):
        given = got["x"][:, latent["samples"].shape[1] :].abs().amax(dim=(0, 1, 3, 4)) > 0
        assert len(frames) == trained and given.tolist() == [number == 0, False, False]


def with_reference(mask_of_first: float, blank: bool) -> dict:
    """VACE's control: frame 0 is given where the mask is 0, and a reference where its second half is blank."""
    frames = torch.randn(1, 32, FRAMES, 6, 8, generator=torch.Generator().manual_seed(1))
    if blank:
        frames[:, 16:, 0] = torch.linspace(-1, 1, 16)[None, :, None, None]
    mask = torch.ones(1, 64, FRAMES, 6, 8)
    mask[:, :, 0] = mask_of_first
    return {"vace_frames": [frames], "vace_mask": [mask], "vace_strength": [1.0]}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("mask", "blank", "kept"), [(0.0, True, True), (0.0, False, False), (1.0, True, False)],
    ids=["reference", "start image", "nothing given"],
)  # fmt: skip
def test_a_reference_within_the_clip_is_in_every_window(pack, inference, method, mask, blank, kept):
    """VACE has it as frame 0 of the latent. A start image there is a frame of the clip, and stays at its begin."""
    case = next(case for case in wan.CASES if case.variant == "Wan 2.1 VACE" and not case.name)
    studio = Studio(pack, case)
    model, calls = spied(studio.model)
    studio.positive = studio.negative = [[tiny_case.prompt(case, 1)[0][0], with_reference(mask, blank)]]
    node = pack.nodes.long_sampler.VideoAttentionLongSampler
    widgets = {"unit": "latent frames", "window": WINDOW, "overlap": OVERLAP, "steps": 1, "cfg": 1.0, "method": method}
    latent = {"samples": torch.zeros(1, 16, FRAMES, 6, 8)}
    out = node.execute(model, **studio.values(node, latent, **widgets)).args[0]
    assert out["samples"].isfinite().all() and len(calls) == 3
    assert [frames[0] == 0 for _, frames in calls] == [True, kept, kept]
    for got, frames in calls:
        assert equal(got["vace_context"], calls[0][0]["vace_context"][:, :, :, :1]) or len(frames) > 1
        assert got["x"].shape[2] == got["vace_context"].shape[3] == len(frames)
        if kept:
            assert equal(got["vace_context"][:, :, :, 0], calls[0][0]["vace_context"][:, :, :, 0])


def conditions_of(source: str) -> set[tuple[str, str]]:
    """(condition, class of the diffusion model) of the models that the host's model_base.py describes."""
    lines, classes = source.splitlines(), {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            classes[node.name] = text, [base.id for base in node.bases if isinstance(base, ast.Name)]
    found = set()
    for text, bases in classes.values():
        keys = set(re.findall(r"out\[[\"'](\w+)[\"']\] = ", text))
        while bases:
            above, *bases = bases
            more, others = classes.get(above, ("", []))
            keys |= set(re.findall(r"out\[[\"'](\w+)[\"']\] = ", more))
            bases += others
        found |= {(key, model) for model in re.findall(r"unet_model=[\w.]*?(\w+)[,)]", text) for key in keys}
    return found


def test_every_condition_of_the_host_has_a_row(pack, comfy_host):
    """Every key that a video model of this host can be given; none is left to chance."""
    import comfy.model_base

    cut_of, find = pack.attention.families.spec.cut_of, pack.attention.families.find
    known = conditions_of(Path(comfy.model_base.__file__).read_text(encoding="utf-8"))
    known = {(key, model) for key, model in known if find(model)}
    assert len(known) > 60
    assert not {(key, model) for key, model in known if cut_of(find(model), model, key) is None}


def test_a_condition_that_nobody_knows_is_told(pack, inference, monkeypatch):
    """One that may be of frames: the report says what becomes of it. One that cannot be: nothing."""
    import comfy.conds

    studio = Studio(pack, wan.TEXT_ONLY[0])
    usual = type(studio.model.model).extra_conds

    def more(self, **kwargs):
        new = {"gaze": torch.zeros(1, 4 * FRAMES, 5), "path": torch.zeros(1, 3, FRAMES, 2), "mood": torch.zeros(1, 5)}
        return {**usual(self, **kwargs), **{name: comfy.conds.CONDRegular(value) for name, value in new.items()}}

    monkeypatch.setattr(type(studio.model.model), "extra_conds", more)
    node = pack.nodes.long_sampler.VideoAttentionLongSampler
    widgets = {"unit": "latent frames", "window": WINDOW, "overlap": OVERLAP, "steps": 1, "cfg": 1.0}
    for method in METHODS:
        latent = {"samples": torch.zeros(1, 16, FRAMES, 6, 8)}
        report = node.execute(studio.model, **studio.values(node, latent, method=method, **widgets)).args[3]
        assert report.count("gaze (1, 36, 5) is no condition that this pack knows: it is the same in every") == 1
        assert report.count("path (1, 3, 9, 2) is no condition that this pack knows: it is cut with the frames") == 1
        assert "mood" not in report


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cache", ["EasyCacheNode", "LazyCacheNode"])
@pytest.mark.parametrize("case", [wan.TEXT_ONLY[0], ltxv.CASES[0]], ids=str)
@pytest.mark.parametrize("skips", [(0.2, 0.15, 0.95), (10.0, 0.0, 1.0)], ids=["defaults", "all it can"])
def test_behind_a_step_cache(pack, inference, method, cache, case, skips):
    """EasyCache keeps what it knows by the identity of a prompt: each window's is its own, the same at every step."""
    import comfy_extras.nodes_easycache as host
    from comfy.patcher_extension import WrappersMP

    studio = Studio(pack, case)
    model = getattr(host, cache).execute(studio.model, *skips, False).args[0]
    seen, shape = {}, list(case.latent().shape)

    def look(executor, *args, **kwargs):
        options = next(o for o in (*args, *kwargs.values()) if isinstance(o, dict) and "uuids" in o)
        window = options["context_window"]
        seen.setdefault((window.index_list[0], tuple(options["cond_or_uncond"])), set()).add(tuple(options["uuids"]))
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    node = pack.nodes.long_sampler.VideoAttentionLongSampler
    widgets = {"unit": "latent frames", "window": WINDOW, "overlap": OVERLAP, "steps": 6, "method": method}
    latent = {"samples": torch.zeros(*shape[:2], FRAMES, *shape[3:])}
    assert node.execute(model, **studio.values(node, latent, **widgets)).args[0]["samples"].isfinite().all()
    if method == "blend":
        assert all(len(ids) == 1 for ids in seen.values())
        assert len({one for ids in seen.values() for pair in ids for one in pair}) == 2 * 3


@pytest.mark.parametrize("sound", [False, True])
def test_a_user_s_mask_is_what_the_model_reads_as_a_start_image_s(pack, inference, sound):
    """Masks of the pack's own are not shown to such a model: it gets the user's, or one that gives nothing."""
    from comfy.nested_tensor import NestedTensor

    window_conds, sampling_job = pack.nodes.runs.window_conds, pack.nodes.runs.sampling_job
    case = wan.TEXT_ONLY[0]
    latent, mask = case.latent(), torch.ones(1, 1, *case.latent().shape[2:])
    mask[:, :, 0] = 0.0
    given = NestedTensor([mask, torch.ones(1, 1, 3, 1)]) if sound else mask
    samples = NestedTensor([latent, torch.zeros(1, 8, 3, 1)]) if sound else latent
    prompts = [["a", {}]], [["b", {"concat_mask": "own"}]]

    def kept(**more):
        job = sampling_job.Job(
            case.build(), *prompts, 1.0, None, torch.ones(2), {"samples": samples, **more}, latent, 1
        )
        made = window_conds.keeping(job)
        assert made.negative[0][1]["concat_mask"] == "own"
        return made.positive[0][1]["concat_mask"]

    assert torch.equal(kept(noise_mask=given), mask)
    assert torch.equal(kept(), torch.ones_like(mask))
