"""MiniMax-H3: text, references, audio and video in one sequence."""

import torch

from .case import Case, build

CONFIG = {
    "image_model": "minimax_h3", "hidden_size": 48, "num_layers": 2, "token_refiner_num_layers": 1,
    "num_attention_heads": 2, "attention_head_dim": 32, "ffn_hidden_size": 32, "latents_dim": 24,
    "audio_latents_dim": 32, "text_dim": 16, "timestep_input_dim": 16, "time_embed_hidden_size": 16,
    "time_embed_dim": 16, "rope_inv_freq_len": 4,
}  # fmt: skip


def model():
    return build("MiniMaxH3", CONFIG)


def fast_h3():
    """A stand-in: FastH3 is MiniMax-H3 with a gate beside each attention, which ComfyUI's dense forward leaves alone.

    ComfyUI builds the gates from 0.36 on (comfy/ldm/minimax/model.py, Attention.to_gate_compress); here they are put on
    the blocks of the host's own class.
    """
    made = model()
    for block in made.model.diffusion_model.blocks:
        block.attn.to_gate_compress = torch.nn.Linear(48, 64, bias=False)
    return made


def latents(frames, height, width, audio=5):
    """A maker of latents: the video, and `audio` samples of two channels."""

    def make():
        from comfy.nested_tensor import NestedTensor

        return NestedTensor([torch.zeros(1, 24, frames, height, width), torch.zeros(1, 32, 2, audio)])

    return make


def keyframes():
    """What MiniMaxH3ImageToVideo gives for the first and the last frame of 5."""
    frames = [{"resolved_frame_index": index, "latent": torch.zeros(1, 24, 1, 6, 8)} for index in (0, 4)]
    return {"minimax_keyframes": frames, "minimax_frame_count": 5}


def references():
    """An image of 2 x 3 tokens, and 2 frames of 2 x 2 tokens with 3 samples of audio."""
    image = {"kind": "image", "latent_h": 4, "latent_w": 6, "latent": torch.zeros(1, 24, 1, 4, 6)}
    clip = {
        "kind": "video_audio", "latent_t": 2, "latent_h": 4, "latent_w": 4, "latent": torch.zeros(1, 24, 2, 4, 4),
        "ref_audio_t": 3, "audio_latent": torch.zeros(1, 32, 2, 3),
    }  # fmt: skip
    return {"minimax_refs": [image, clip]}


def spoken():
    """3 samples of a voice alone."""
    return {"minimax_refs": [{"kind": "audio", "ref_audio_t": 3, "audio_latent": torch.zeros(1, 32, 2, 3)}]}


def silent():
    """2 frames of 2 x 2 tokens without sound."""
    clip = {"kind": "video", "latent_t": 2, "latent_h": 4, "latent_w": 4, "latent": torch.zeros(1, 24, 2, 4, 4)}
    return {"minimax_refs": [{**clip, "ref_audio_t": 0}]}


def case(name, latent, grid, reference=0, calls=2, **more):
    before = (("text", 7), *((("reference", reference),) if reference else ()), ("audio", 10))
    return Case("MiniMax-H3", model, latent, (1, 7, 16), {"self": calls}, grid, before, name=name, **more)


CASES = (
    case("", latents(2, 6, 8), (2, 3, 4)),
    case("odd size", latents(2, 5, 7), (2, 3, 4)),
    case("one frame", latents(1, 4, 4), (1, 2, 2)),
    case("two prompts, one after the other", latents(2, 6, 8), (2, 3, 4), calls=4, options={"cfg": 3.0}),
    case("first and last frame", latents(2, 6, 8), (2, 3, 4), reference=24, conditioning=keyframes),
    Case("FastH3", fast_h3, latents(2, 6, 8), (1, 7, 16), {"self": 2}, (2, 3, 4), (("text", 7), ("audio", 10))),
    case("references", latents(2, 6, 8), (2, 3, 4), reference=20, conditioning=references),
    case("a voice as reference", latents(2, 6, 8), (2, 3, 4), reference=6, conditioning=spoken),
    case("a silent clip as reference", latents(2, 6, 8), (2, 3, 4), reference=8, conditioning=silent),
)
