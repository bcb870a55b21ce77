"""Guidance nodes with values by hand, for tests of what each does, and how far two latents are apart.

guidance_rows.py has those of the table as they come, without a list.
"""

from __future__ import annotations

import torch
from tiny import plain
from tiny.case import parts

PLAIN = plain()
WHERE = {"blocks": "", "start_percent": 0.0, "end_percent": 1.0}
DEFAULTS = {
    "stg": {"enabled": True, "scale": 10.0, "mode": "values", "rescale": 0.0, "audio": True, **WHERE},
    "pag": {"enabled": True, "scale": 10.0, "audio": True, **WHERE},
    "nag": {"enabled": True, "nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.5, "audio": True, **WHERE},
    "enhance": {"enabled": True, "weight": 50.0, **WHERE},
    "riflex": {"enabled": True, "frequency": 1, "trained_frames": 1},
}
NODES = {
    "stg": "VideoAttentionSpatiotemporalGuidance",
    "pag": "VideoAttentionPerturbedAttentionGuidance",
    "nag": "VideoAttentionNormalizedAttentionGuidance",
    "enhance": "VideoAttentionEnhance",
    "riflex": "VideoAttentionRiflex",
}


def run(pack, kind, model, **widgets):
    """What the node gives: the model, and its text."""
    out = getattr(pack.nodes.guidance, NODES[kind]).execute(model, **{**DEFAULTS[kind], **widgets})
    return out.args[0], out.ui.as_dict()["text"][0]


def guided(pack, kind, model, **widgets):
    return run(pack, kind, model, **widgets)[0]


def error(out, truth) -> float:
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(parts(out), parts(truth), strict=True))


def same(out, truth) -> bool:
    return all(torch.equal(a, b) for a, b in zip(parts(out), parts(truth), strict=True))


def prompted(model, case, positive, negative=None, cfg=1.0, steps=1):
    import comfy.sample

    latent = case.latent()
    settings = {key: value for key, value in case.options.items() if key not in ("cfg", "steps")}
    return comfy.sample.sample(
        model, comfy.sample.prepare_noise(latent, 1), steps, cfg, "euler", "simple", positive, negative or positive,
        latent, disable_pbar=True, seed=1, **settings,
    )  # fmt: skip


# Of each family that is weakened by hand: the modules of a block that the extra pass changes.
MODULES = {
    "LTXV": lambda m, b: [m.transformer_blocks[b].attn1],
    "LTX-2": lambda m, b: [m.transformer_blocks[b].attn1, m.transformer_blocks[b].audio_attn1],
    "Wan": lambda m, b: [m.blocks[b].self_attn],
}


def weaken_modules(model, name, block, how, monkeypatch):
    """The same MODEL with modules that do by hand what the extra pass does."""
    for module in MODULES[name](model.model.diffusion_model, block):
        to_v, to_out = (module.v, module.o) if name == "Wan" else (module.to_v, module.to_out)

        def forward(x, *args, to_v=to_v, to_out=to_out, **kwargs):
            return to_out(to_v(x) * (how == "values"))

        monkeypatch.setattr(module, "forward", forward)
    return model
