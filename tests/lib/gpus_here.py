"""Several GPUs where none is: names of the CPU stand for them, with ComfyUI's own copies and threads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import guidance_rows
import pytest
import torch
from tiny import hunyuan, ltx2, ltxv, minimax, wan
from tiny.case import Case, build, parts, sample

from attention.core.peak_memory import AllocationCounter

NAMES = ("cpu", "cpu:0", "cpu:1", "cpu:2")
# 0.05 of the tiny models hardly lets attention matter.
LOUDER = 5.0


def stand_in(monkeypatch) -> None:
    """Lets ComfyUI see one device by each name, and forgets what other tests loaded on them."""
    import comfy.model_management as management

    management.unload_all_models()
    monkeypatch.setattr(
        management, "get_all_torch_devices", lambda exclude_current=False: [torch.device(name) for name in NAMES]
    )


def loud(case: Case):
    """A MODEL of a case whose attention matters, with a loader that makes it again."""
    model = case.build()
    with torch.no_grad():
        for name, weight in model.model.diffusion_model.named_parameters():
            if weight.ndim > 1 and "modulation" not in name and "table" not in name:
                weight.mul_(LOUDER)
    model.cached_patcher_init = (loud, (case,))
    return model


def on_gpus(pack, model, count: int, split="tokens", shares="even", overlap=False):
    """A clone of a MODEL that is evaluated on `count` devices."""
    made, text = pack.nodes.host.gpu_copies.on_several(model, count, split, shares, True, overlap)
    assert text.startswith(f"On {count} GPUs: "), text
    return made


def far(out, truth) -> float:
    """The largest relative L2 of a latent's parts."""
    pairs = zip(parts(out), parts(truth), strict=True)
    return max(((a.double() - b.double()).norm() / b.double().norm()).item() for a, b in pairs)


def with_rules(pack, model, *rules):
    return pack.nodes.host.model_rules.add_rules(model, rules)


def sampled(pack, model, case, **more):
    """The latent, and what the run's report says of the GPUs."""
    with pack.nodes.host.run_history.aside() as found:
        out = sample(model, case, **{"steps": 2, **more})
    return out, found.report


def guided(pack, case, row: str) -> tuple:
    """A MODEL of a case with a row of guidance, and its latent on one GPU; the test is skipped where there is none."""
    try:
        model, _ = guidance_rows.execute(guidance_rows.nodes_of(pack)[row], loud(case))
    except ValueError as why:
        pytest.skip(f"{case} has not got it: {why}")
    return model, sampled(pack, model, case, cfg=3.0)[0]


def peaks_of_ranks(pack, case, model, count: int, monkeypatch) -> tuple[list[float], object]:
    """Bytes of the tensors that live at the same time in each rank's thread over those of one thread for all.

    One for each evaluation of each of `count` ranks; and the report of their run.
    """
    gpus, peaks = pack.nodes.host.several_gpus, []
    plain = gpus._evaluate_rank

    def counted(*args):
        with AllocationCounter() as counter:
            made = plain(*args)
        peaks.append(counter.peak)
        return made

    monkeypatch.setattr(gpus, "_evaluate_rank", counted)
    with AllocationCounter() as alone, torch.inference_mode():
        sample(model, case)
    _, report = sampled(pack, on_gpus(pack, model, count), case)
    return [peak / alone.peak for peak in peaks], report


def about_gpus(report) -> str:
    return " ".join(cost for cost in report.notes if "GPU" in cost or "cpu" in cost)


def _wan(host_class, **more):
    return wan.maker(host_class, **{"dim": 60, "num_heads": 5, **more})


def _ltx2():
    wide = {"num_attention_heads": 5, "cross_attention_dim": 120, "audio_num_attention_heads": 4}
    return build("LTXAV", {**ltx2.CONFIG, **wide, "audio_cross_attention_dim": 64})


def _ltxv():
    wide = {"num_attention_heads": 5, "cross_attention_dim": 5 * ltxv.CONFIG["attention_head_dim"]}
    return build("LTXV", {**ltxv.CONFIG, **wide})


def _like(cases, variant, make, **more) -> Case:
    """The plain case of a variant with another model."""
    case = next(c for c in cases if c.variant == variant and not c.name)
    return replace(case, build=make, **more)


_WAN = _wan("WAN21_T2V", model_type="t2v")


def _animated():
    """Animate with a face in every frame but the first, as its encoder gives it: five entries each."""
    model = _wan("WAN22_Animate", model_type="animate", in_dim=36, num_layers=5)()
    network = model.model.diffusion_model
    plain = network.after_patch_embedding

    def with_face(x, pose_latents, face_pixel_values):
        faces = wan.noise(1, x.shape[2], 5, 60, seed=3).to(x) * 10
        return plain(x, pose_latents, None)[0], faces.expand(x.shape[0], -1, -1, -1)

    network.after_patch_embedding = with_face
    return model


# Models with as many heads as no number of GPUs divides.
WIDE = {
    "Wan": _like(wan.CASES, "Wan 2.1 T2V", _WAN, latent=partial(torch.zeros, (1, 16, 5, 14, 18))),
    "Wan 5B": Case(
        "Wan 2.2 TI2V 5B", _wan("WAN22_T2V", model_type="t2v", in_dim=48, out_dim=48), wan.zeros(1, 48, 3, 6, 8),
        (1, 7, 16), {}, options={"noise_mask": wan.first_kept()},
    ),
    "Bernini": _like(wan.CASES, "Wan 2.1 T2V", _WAN, conditioning=wan.streams),
    "VACE": _like(
        wan.CASES, "Wan 2.1 VACE", _wan("WAN21_Vace", model_type="vace", vace_layers=2, vace_in_dim=96, num_layers=4),
        conditioning=wan.two_controls,
    ),
    # A control's block behind every block, the last one too.
    "VACE in all blocks": _like(
        wan.CASES, "Wan 2.1 VACE", _wan("WAN21_Vace", model_type="vace", vace_layers=2, vace_in_dim=96),
    ),
    "S2V": _like(
        wan.CASES, "Wan 2.2 S2V", _wan("WAN22_S2V", model_type="s2v", audio_dim=8, audio_inject_layers=[0, 1]),
        conditioning=wan.continued, latent=partial(torch.zeros, (1, 16, 3, 8, 16)),
    ),
    "HuMo": _like(wan.CASES, "Wan 2.1 HuMo", _wan("WAN21_HuMo", model_type="humo")),
    "Animate": _like(wan.CASES, "Wan 2.2 Animate", _animated),
    "SCAIL-2": _like(wan.CASES, "Wan 2.1 SCAIL-2", _wan("WAN21_SCAIL2", model_type="scail2", in_dim=20)),
    "WanDancer": _like(
        wan.CASES, "WanDancer", _wan("WAN22_WanDancer", model_type="wandancer", in_dim=36, audio_inject_layers=[0, 1])
    ),
    "LTXV": _like(ltxv.CASES, "LTX-Video 0.9", _ltxv),
    "LTX-2": _like(ltx2.CASES, "LTX-2", _ltx2),
    "HunyuanVideo": _like(
        hunyuan.CASES, "HunyuanVideo",
        partial(build, "HunyuanVideo", {**hunyuan.CONFIG, "hidden_size": 60, "num_heads": 5}),
    ),
    "HunyuanVideo I2V": replace(
        next(c for c in hunyuan.CASES if c.name == "first frame kept"),
        build=partial(
            build, "HunyuanVideoI2V", {**hunyuan.CONFIG, "in_channels": 33, "hidden_size": 60, "num_heads": 5}
        ),
    ),
    "MiniMax-H3": _like(
        minimax.CASES, "MiniMax-H3", partial(build, "MiniMaxH3", {**minimax.CONFIG, "num_attention_heads": 5})
    ),
}  # fmt: skip
