"""Long clips of tiny models, both methods."""

from __future__ import annotations

from dataclasses import replace

import torch
from studio import Studio, first, latent_of
from tiny import ltx2, ltxv, wan

STEPS, FRAMES, WINDOW, OVERLAP = 3, 10, 4, 1


def sound(frames):
    return ltx2.with_audio(ltxv.video(frames), 3 * frames)


def kept(frames, tokens):
    from comfy.nested_tensor import NestedTensor

    video, audio = torch.ones(1, 1, frames, 4, 5), torch.ones(1, 1, tokens, 1)
    video[:, :, :1], audio[:, :, :3] = 0.0, 0.0
    return NestedTensor([video, audio])


def wan_i2v():
    return wan.seen(concat_latent_image=wan.noise(1, 16, FRAMES, 6, 8))


CASES = {
    "LTX": replace(first(ltxv.CASES, ""), latent=ltxv.video(FRAMES)),
    "LTX batch": replace(first(ltxv.CASES, ""), latent=ltxv.video(FRAMES, batch=2)),
    "LTX start image": replace(
        first(ltxv.CASES, ""), latent=ltxv.video(FRAMES), options={"noise_mask": ltxv.first_frame(FRAMES)}
    ),
    "LTX guides": replace(
        first(ltxv.CASES, "guides"),
        latent=ltxv.video(FRAMES + 3),
        options={"noise_mask": ltxv.mask(FRAMES, (1, 4, 5), (2, 4, 5))},
    ),
    "LTX-2 guide": replace(
        first(ltx2.CASES, "guide"),
        latent=ltx2.with_audio(ltxv.video(FRAMES + 1), 3 * FRAMES),
        options={"noise_mask": ltxv.mask(FRAMES, (1, 4, 5))},
    ),
    "LTX-2": replace(first(ltx2.CASES, ""), latent=sound(FRAMES)),
    "LTX-2 kept": replace(
        first(ltx2.CASES, ""), latent=sound(FRAMES), options={"noise_mask": lambda: kept(FRAMES, 3 * FRAMES)}
    ),
    "Wan": replace(wan.TEXT_ONLY[0], latent=lambda: torch.zeros(1, 16, FRAMES, 6, 8)),
    "Wan start image": replace(
        wan.WITH_IMAGE[0], latent=lambda: torch.zeros(1, 16, FRAMES, 6, 8), conditioning=wan_i2v
    ),
}


class LongStudio(Studio):
    def long(self, latent=None, model=None, **widgets):
        node = self.pack.nodes.long_sampler.VideoAttentionLongSampler
        frames = {"unit": "latent frames", "window": WINDOW, "overlap": OVERLAP, "steps": STEPS}
        values = self.values(node, latent or latent_of(self.case), **{**frames, **widgets})
        return node.execute(model or self.model, **values).args
