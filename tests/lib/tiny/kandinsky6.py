"""Kandinsky 6, in a stand-in: no ComfyUI that the tests run on has the class.

The stand-in does what comfy/ldm/kandinsky6/model.py of ComfyUI was read to do around attention (November 2026), with
blocks of the host's own Kandinsky 5, which that file takes too, and leaves out modulation by time. `bridged` hands the
attention between video and audio the options, as one form of that file does; `loose` does not, as the other.
"""

from __future__ import annotations

from functools import partial

import torch

from .case import Case, build

CONFIG = {"image_model": "kandinsky5", "blocks": 2, "text_blocks": 1, "width": 32, "audio_width": 16}
AXES, HEAD, AUDIO_HEAD = (4, 6, 6), 16, 8
CHANNELS, AUDIO_CHANNELS, TEXT, POOLED, STILL = 16, 40, 16, 24, 8
PATCH = (1, 2, 2)
NOTHING: dict = {}


def _described(bridged: bool):
    """A row as in comfy.supported_models."""
    import comfy.conds
    import comfy.model_base
    import comfy.supported_models

    class Base(comfy.model_base.BaseModel):
        def __init__(self, config, device=None):
            kind = partial(Kandinsky6NativeAVDiT, bridged=bridged)
            super().__init__(config, comfy.model_base.ModelType.FLOW, device=device, unet_model=kind)

        def encode_adm(self, **given):
            return given["pooled_output"]

        def scale_latent_inpaint(self, sigma, noise, latent_image, **given):
            return latent_image  # a start image stays clean

        def extra_conds(self, **given):
            out = super().extra_conds(**given)
            out["c_crossattn"] = comfy.conds.CONDRegular(given["cross_attn"])
            out["latent_shapes"] = comfy.conds.CONDConstant(given["latent_shapes"])
            if given.get("k6_reference") is not None:
                out["k6_reference"] = comfy.conds.CONDRegular(self.process_latent_in(given["k6_reference"]))
            if given.get("k6_reference_tail"):
                out["k6_reference_tail"] = comfy.conds.CONDConstant(True)
            return out

    class Described(comfy.supported_models.Kandinsky5):
        def get_model(self, state_dict, prefix="", device=None):
            return Base(self, device=device)

    return Described


class AsymCrossAttention(torch.nn.Module):
    def __init__(self, dim, head_dim, other, op):
        super().__init__()
        linear, kind = op["operations"].Linear, {"device": op["device"], "dtype": op["dtype"]}
        self.num_heads = dim // head_dim
        self.to_query = linear(dim, dim, **kind)
        self.to_key, self.to_value = linear(other, dim, **kind), linear(other, dim, **kind)

    def forward(self, x, context, rope_q=None, rope_kv=None, transformer_options=NOTHING):
        from comfy.ldm.kandinsky5.model import attention

        heads = [f(t) for f, t in ((self.to_query, x), (self.to_key, context), (self.to_value, context))]
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)) for t in heads)
        return attention(q, k, v, self.num_heads, transformer_options=transformer_options)


class FusedTransformerDecoderBlock(torch.nn.Module):
    def __init__(self, width, audio_width, bridged, op):
        from comfy.ldm.kandinsky5.model import TransformerDecoderBlock

        super().__init__()
        self.bridged = bridged
        self.videoT = TransformerDecoderBlock(width, STILL, 32, HEAD, operation_settings=op)
        self.audioT = TransformerDecoderBlock(audio_width, STILL, 16, AUDIO_HEAD, operation_settings=op)
        self.va_cross_attention = AsymCrossAttention(width, HEAD, audio_width, op)
        self.av_cross_attention = AsymCrossAttention(audio_width, AUDIO_HEAD, width, op)

    def forward(self, video, audio, text, audio_text, rope, audio_rope, transformer_options=NOTHING):
        given = {"transformer_options": transformer_options}
        between = given if self.bridged else {}
        video = video + self.videoT.self_attention(self.videoT.self_attention_norm(video), rope, **given)
        video_before = self.videoT.cross_attention_norm(video)
        video = video + self.videoT.cross_attention(video_before, text, **given)
        audio = audio + self.audioT.self_attention(self.audioT.self_attention_norm(audio), audio_rope, **given)
        audio_before = self.audioT.cross_attention_norm(audio)
        audio = audio + self.audioT.cross_attention(audio_before, audio_text, **given)
        seen = self.va_cross_attention(video, audio_before, **between)
        heard = self.av_cross_attention(audio, video_before, **between)
        return self.fed(self.videoT, video + seen), self.fed(self.audioT, audio + heard)

    def fed(self, half, x):
        return x + half.feed_forward(half.feed_forward_norm(x))


class Parts(torch.nn.Module):
    """What becomes of the inputs before the blocks, and of what they give."""

    def __init__(self, blocks, text_blocks, width, audio_width, bridged, dtype, device, operations, **config):
        import comfy.ldm.kandinsky5.model as k5
        from comfy.ldm.flux.layers import EmbedND

        super().__init__()
        kind, linear, self.dtype, self.patch_size = {"device": device, "dtype": dtype}, operations.Linear, dtype, PATCH
        op = {"operations": operations, **kind}
        self.visual_embeddings = k5.VisualEmbeddings((2 * CHANNELS + 1) * 4, width, PATCH, operation_settings=op)
        self.audio_embeddings = linear(AUDIO_CHANNELS, audio_width, **kind)
        self.text, self.audio_text = linear(TEXT, width, **kind), linear(TEXT, audio_width, **kind)
        self.pooled = linear(POOLED, width, **kind)
        for name, size, head in (("video", width, HEAD), ("audio", audio_width, AUDIO_HEAD)):
            block = partial(k5.TransformerEncoderBlock, size, STILL, 16, head, operation_settings=op)
            made = torch.nn.ModuleList([block() for _ in range(text_blocks)])
            setattr(self, f"{name}_text_transformer_blocks", made)
        made = [FusedTransformerDecoderBlock(width, audio_width, bridged, op) for _ in range(blocks)]
        self.visual_blocks = torch.nn.ModuleList(made)
        self.out, self.audio_out = linear(width, CHANNELS * 4, **kind), linear(audio_width, AUDIO_CHANNELS, **kind)
        self.places, self.line = EmbedND(HEAD, 10000.0, AXES), EmbedND(HEAD, 10000.0, [HEAD])
        self.audio_line = EmbedND(AUDIO_HEAD, 10000.0, [AUDIO_HEAD])

    def along(self, embedder, x):
        return embedder(torch.arange(x.shape[1], device=x.device).float().reshape(1, -1, 1)).movedim(1, 2)

    def rows(self, video):
        """(B, N, C) of the video, which a zero condition and its mask go with, their grid and their positions."""
        from comfy.ldm.common_dit import pad_to_patch_size

        video = torch.cat((video, torch.zeros_like(video), torch.zeros_like(video[:, :1])), dim=1)
        found = self.visual_embeddings(pad_to_patch_size(video, PATCH))
        axes = (torch.arange(n, device=video.device).float() for n in found.shape[1:4])
        ids = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, 3)
        return found.flatten(1, -2), found.shape[1:4], self.places(ids).movedim(1, 2)

    def told(self, blocks, text, line, options):
        for block in blocks:
            still = text.new_zeros(text.shape[0], STILL)
            text = block(text, still, self.along(line, text), transformer_options=options)
        return text

    def pixels(self, rows, grid, size):
        rows = self.out(rows).unflatten(1, grid).unflatten(-1, (CHANNELS, *PATCH))
        pixels = rows.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(2, 3).flatten(3, 4).flatten(4, 5)
        return pixels[:, :, : size[0], : size[1], : size[2]]


class Kandinsky6NativeAVDiT(Parts):
    def forward(self, *args, **kwargs):
        from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers

        found = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, kwargs.get("transformer_options", {}))
        return WrapperExecutor.new_class_executor(self._forward, self, found).execute(*args, **kwargs)

    def _forward(
        self, x, timestep, context, y=None, control=None, transformer_options=NOTHING, k6_reference=None,
        k6_reference_tail=False, **kwargs,
    ):  # fmt: skip
        (video, audio), options, size = x, transformer_options, x[0].shape[2:]
        if k6_reference is not None:
            video = torch.cat((video, k6_reference.expand(video.shape[0], -1, -1, -1, -1)), dim=2)
        seen, grid, rope = self.rows(video)
        seen, heard = seen + self.pooled(y)[:, None], self.audio_embeddings(audio)
        text = self.told(self.video_text_transformer_blocks, self.text(context), self.line, options)
        spoken = self.told(self.audio_text_transformer_blocks, self.audio_text(context), self.audio_line, options)
        ropes = rope, self.along(self.audio_line, heard)
        options["total_blocks"] = len(self.visual_blocks)
        for index, block in enumerate(self.visual_blocks):
            options["block_index"] = index
            seen, heard = block(seen, heard, text, spoken, *ropes, transformer_options=options)
        return self.pixels(seen, grid, size), self.audio_out(heard)


def bridged():
    return build(_described(True), CONFIG)


def loose():
    return build(_described(False), CONFIG)


def latents(frames, height, width, samples=9, batch=1):
    """A maker of latents: the video, and `samples` of audio."""

    def make():
        from comfy.nested_tensor import NestedTensor

        return NestedTensor(
            [torch.zeros(batch, CHANNELS, frames, height, width), torch.zeros(batch, samples, AUDIO_CHANNELS)]
        )

    return make


def given(**more):
    return lambda: {"pooled_output": torch.ones(1, POOLED), **more}


def kept():
    """A mask over a latent of 3 frames that keeps the last one."""
    mask = torch.ones(1, 1, 3, 8, 6)
    mask[:, :, 2] = 0
    return mask


LOOSE = {"self": 2, "cross": 2, "audio self": 2, "audio cross": 2, "text": 2}
BRIDGED = {**LOOSE, "video to audio": 2, "audio to video": 2}


def case(name, latent, grid, calls=BRIDGED, model=bridged, conditioning=None, **more):
    more["conditioning"] = conditioning or given()
    return Case("Kandinsky 6", model, latent, (1, 7, TEXT), calls, grid, name=name, **more)


CASES = (
    case("", latents(3, 8, 6), (3, 4, 3)),
    case("odd size", latents(2, 7, 5), (2, 4, 3)),
    case("batch of 2, cfg", latents(1, 8, 6, batch=2), (1, 4, 3), options={"cfg": 3.0}),
    case("start image", latents(3, 8, 6), (3, 4, 3), after=(("reference", 12),),
         conditioning=given(k6_reference=torch.ones(1, CHANNELS, 1, 8, 6))),
    case("start image as the last frame", latents(3, 8, 6), (2, 4, 3), after=(("guide", 12),),
         conditioning=given(k6_reference_tail=True), options={"noise_mask": kept()}),
    case("nothing handed to the attention between video and audio", latents(3, 8, 6), (3, 4, 3), LOOSE, loose),
)  # fmt: skip
