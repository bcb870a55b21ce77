"""Wan-Animate-2: in the host's own class where it has one (ComfyUI 0.31 and later), else in a stand-in.

The stand-in does what comfy/ldm/wan/model_animate2.py of ComfyUI 0.33.0 was read to do around attention, and no more: a
pose video runs through the same blocks beside the generation; both are called by methods of the blocks and of their
self-attention, past every module hook; and each latent frame of the generation attends by itself, to all frames and,
but for the reference image in front, to one frame of the pose video.
"""

from __future__ import annotations

import torch

from .case import Case, build
from .wan import BASE, TEXT, clip, noise, seen, zeros

FRAMES, HEIGHT, WIDTH = 4, 6, 8
NOTHING: dict = {}
CONFIG = {**BASE, "model_type": "animate2", "in_dim": 36}


def model():
    import comfy.supported_models

    if hasattr(comfy.supported_models, "WAN_Animate2"):
        return build("WAN_Animate2", CONFIG)
    return build(_described(), CONFIG)


def _described():
    """A row as in comfy.supported_models for the stand-in."""
    import comfy.conds
    import comfy.model_base
    import comfy.supported_models

    class Base(comfy.model_base.WAN21):
        def __init__(self, config, device=None):
            # Two levels up: WAN21 itself would take its own class of diffusion model.
            super(comfy.model_base.WAN21, self).__init__(
                config, comfy.model_base.ModelType.FLOW, device=device, unet_model=_stand_in()
            )
            self.image_to_video = True

        def extra_conds(self, **given):
            out = super().extra_conds(**given)
            pose, image, text = (given.get(name) for name in ("pose_video_latent", "clip_vision_output_pose",
                                                              "cross_attn_pose"))  # fmt: skip
            if pose is not None:
                out["pose_latents"] = comfy.conds.CONDRegular(self.process_latent_in(pose))
            if image is not None:
                out["clip_fea_pose"] = comfy.conds.CONDRegular(image.penultimate_hidden_states)
            if text is not None:
                out["context_pose"] = comfy.conds.CONDRegular(text)
            return out

    class Described(comfy.supported_models.WAN21_T2V):
        def get_model(self, state_dict, prefix="", device=None):
            return Base(self, device=device)

    return Described


def _self_attention():
    import comfy.ldm.wan.model as wan
    from comfy.ldm.flux.math import apply_rope1
    from comfy.ldm.modules.attention import optimized_attention

    class SelfAttention(wan.WanSelfAttention):
        def attend(self, q, k, v, options):
            return optimized_attention(*(t.flatten(2) for t in (q, k, v)), self.num_heads, transformer_options=options)

        def project(self, x, freqs):
            heads = [self.norm_q(self.q(x)), self.norm_k(self.k(x)), self.v(x)]
            q, k, v = (t.unflatten(-1, (self.num_heads, -1)) for t in heads)
            return apply_rope1(q, freqs), apply_rope1(k, freqs), v

        def forward_pose(self, x, freqs, transformer_options=NOTHING):
            q, k, v = self.project(x, freqs)
            return self.o(self.attend(q, k, v, transformer_options)), k, v

        def forward_gen(self, x, freqs, pose, frames, transformer_options=NOTHING):
            q, k, v = self.project(x, freqs)
            if pose is None:
                return self.o(self.attend(q, k, v, transformer_options))
            size, out = q.shape[1] // frames, []
            for frame, queries in enumerate(q.split(size, dim=1)):
                beside = [t[:, (frame - 1) * size : frame * size] for t in pose] if frame else [k[:, :0], v[:, :0]]
                keys, values = (torch.cat(pair, dim=1) for pair in zip((k, v), beside))
                out.append(self.attend(queries, keys, values, transformer_options))
            return self.o(torch.cat(out, dim=1))

    return SelfAttention


def _block():
    import comfy.ldm.wan.model as wan

    class Block(wan.WanAttentionBlock):
        def __init__(self, cross_attn_type, dim, ffn_dim, num_heads, window_size=(-1, -1), qk_norm=True, *more, **kw):
            super().__init__(cross_attn_type, dim, ffn_dim, num_heads, window_size, qk_norm, *more, **kw)
            settings = kw["operation_settings"]
            self.self_attn = _self_attention()(dim, num_heads, window_size, qk_norm, operation_settings=settings)

        def before(self, x, e):
            e = (self.modulation + e).chunk(6, dim=1)
            return e, self.norm1(x) * (1 + e[1]) + e[0]

        def behind(self, x, y, e, prompt, options):
            x, (context, images) = x + y * e[2], prompt
            x = x + self.cross_attn(self.norm3(x), context, context_img_len=images, transformer_options=options)
            return x + self.ffn(self.norm2(x) * (1 + e[4]) + e[3]) * e[5]

        def forward_pose(self, x, e, freqs, prompt, transformer_options=NOTHING):
            e, normed = self.before(x, e)
            y, k, v = self.self_attn.forward_pose(normed, freqs, transformer_options=transformer_options)
            return self.behind(x, y, e, prompt, transformer_options), (k, v)

        def forward_gen(self, x, e, freqs, prompt, pose, frames, transformer_options=NOTHING):
            e, normed = self.before(x, e)
            y = self.self_attn.forward_gen(normed, freqs, pose, frames, transformer_options=transformer_options)
            return self.behind(x, y, e, prompt, transformer_options)

    return Block


class _Embedding:
    """What becomes of the inputs before the blocks."""

    def times(self, t, like):
        from comfy.ldm.wan.model import sinusoidal_embedding_1d

        e = self.time_embedding(sinusoidal_embedding_1d(self.freq_dim, t.flatten()).to(like.dtype))
        return e, self.time_projection(e).unflatten(1, (6, self.dim))

    def prompt(self, context, images):
        text = self.text_embedding(context)
        if images is None:
            return text, None
        return torch.cat([self.img_emb(images), text], dim=1), images.shape[-2]

    def rows(self, x):
        return self.patch_embedding(x.float()).to(x.dtype).flatten(2).transpose(1, 2)


def _stand_in():
    import comfy.ldm.wan.model as wan

    class WanAnimate2Model(_Embedding, wan.WanModel):
        def __init__(self, model_type="animate2", **config):
            super().__init__(model_type="i2v", wan_attn_block_class=_block(), **config)

        def _forward(
            self, x, timestep, context, clip_fea=None, time_dim_concat=None, transformer_options=NOTHING,
            pose_latents=None, clip_fea_pose=None, context_pose=None, **kwargs,
        ):  # fmt: skip
            options, axes, kind = transformer_options, x.shape[2:], {"device": x.device, "dtype": x.dtype}
            freqs, rows = self.rope_encode(*axes, transformer_options=options, **kind), self.rows(x)
            (head, e), prompt, posed, pose = self.times(timestep, x), self.prompt(context, clip_fea), None, None
            if pose_latents is not None:
                known = torch.ones_like(pose_latents[:, :4])
                posed = self.rows(torch.cat([pose_latents, known, pose_latents], dim=1).to(x.dtype))
                beside = self.rope_encode(axes[0] - 1, *axes[1:], t_start=1, **kind)
                own = zip((context_pose, clip_fea_pose), (context, clip_fea))
                pose_prompt = self.prompt(*(other if mine is None else mine for mine, other in own))
                _, pose_e = self.times(torch.ones_like(timestep), x)
            for block in self.blocks:
                if posed is not None:
                    posed, pose = block.forward_pose(posed, pose_e, beside, pose_prompt, transformer_options=options)
                rows = block.forward_gen(rows, e, freqs, prompt, pose, axes[0], transformer_options=options)
            return self.unpatchify(self.head(rows, head.unsqueeze(1)), [axes[0], *(-(-n // 2) for n in axes[1:])])

    return WanAnimate2Model


def still():
    """A reference image in front, and nothing that moves."""
    return seen(
        concat_latent_image=noise(1, 16, FRAMES, HEIGHT, WIDTH), concat_mask=torch.ones(1, 1, FRAMES, HEIGHT, WIDTH)
    )


def driven(**more):
    return {**still(), "pose_video_latent": noise(1, 16, FRAMES - 1, HEIGHT, WIDTH, seed=3), **more}


def with_prompt():
    """As the host's node gives it: the pose video has a prompt and an image of its own."""
    return driven(cross_attn_pose=noise(1, 5, 16, seed=5), clip_vision_output_pose=clip(257, seed=4))


WHOLE = {"self": 2, "cross": 2, "image": 2}
BY_FRAME = {**WHOLE, "self": 2 * FRAMES, "pose self": 2, "pose cross": 4}


def case(name, conditioning, calls=BY_FRAME, frames=FRAMES, guests=(("pose", 12),), **more):
    """The reference image is the latent's first frame; the clip's own tokens stand behind it."""
    more |= {"grid": (frames - 1, 3, 4), "before": (("reference", 12),), "guests": guests, "ahead": 1}
    latent = zeros(1, 16, frames, HEIGHT, WIDTH)
    return Case("Wan-Animate-2", model, latent, (1, TEXT, 16), calls, name=name, conditioning=conditioning, **more)


def short():
    return seen(pose_video_latent=noise(1, 16, 1, HEIGHT, WIDTH))


CASES = (
    case("", still, WHOLE, guests=()),  # as in steps that the pose stays out of
    case("driven", driven),
    case("the pose by itself", with_prompt, options={"cfg": 3.0}),
    case("two frames", short, {**BY_FRAME, "self": 4}, 2),
)
