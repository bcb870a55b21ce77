"""The demo model's prompt and decoder: what a text encoder and a VAE are to a big model."""

import torch
from comfy_api.latest import io

from ..attention.demo import codec, prompt

CATEGORY = "video attention/demo"
FRAME_RATE = 25


class DemoVAE:
    """The demo model's fixed DCT codec with the methods that ComfyUI's VAE nodes call. Small: nothing is tiled."""

    def decode(self, latent: torch.Tensor, vae_options=None) -> torch.Tensor:
        """latent: (B, 128, T, Y, X); returns (B, F, H, W, 3) in 0 to 1."""
        return codec.decode(latent.float().cpu())

    def decode_tiled(self, latent, tile_x=None, tile_y=None, overlap=None, tile_t=None, overlap_t=None):
        return self.decode(latent)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels: (F, H, W, 3) or (B, F, H, W, 3) in 0 to 1; returns (B, 128, T, Y, X)."""
        clip = pixels if pixels.ndim == 5 else pixels[None]
        return codec.encode(clip[..., :3].float().cpu())

    def encode_tiled(self, pixels, tile_x=None, tile_y=None, overlap=None, tile_t=None, overlap_t=None):
        return self.encode(pixels)

    def temporal_compression_decode(self) -> int:
        return codec.BLOCK[0]

    def spacial_compression_decode(self) -> int:
        return codec.BLOCK[1]

    def spacial_compression_encode(self) -> int:
        return codec.BLOCK[1]


class VideoAttentionDemoPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionDemoPrompt",
            display_name="Video Attention Demo Prompt",
            category=CATEGORY,
            description=(
                "The prompt of the demo model: a coloured shape moving in a direction. "
                "The negative output is the empty prompt."
            ),
            search_aliases=["demo text", "demo conditioning", "coloured shape"],
            inputs=[
                io.Combo.Input("colour", options=list(prompt.COLOURS), tooltip="Colour of the shape."),
                io.Combo.Input("shape", options=list(prompt.SHAPES), tooltip="Which shape."),
                io.Combo.Input("direction", options=list(prompt.DIRECTIONS), tooltip="Where it moves to."),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="Three tokens: colour, shape, direction."),
                io.Conditioning.Output("negative", tooltip="The empty prompt, for a CFG scale above 1."),
            ],
        )

    @classmethod
    def execute(cls, colour, shape, direction) -> io.NodeOutput:
        return io.NodeOutput(
            _conditioning(*prompt.encode_prompt(colour, shape, direction)), _conditioning(*prompt.empty_prompt())
        )


def _conditioning(tokens: torch.Tensor, mask: torch.Tensor) -> list:
    return [[tokens, {"attention_mask": mask, "frame_rate": FRAME_RATE}]]


class VideoAttentionDemoVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionDemoVAE",
            display_name="Video Attention Demo VAE",
            category=CATEGORY,
            description=(
                "Decoder of the demo model: a fixed three-dimensional cosine transform, so it has no weights. "
                "For ComfyUI's VAE Decode."
            ),
            search_aliases=["demo vae", "dct decoder"],
            inputs=[],
            outputs=[io.Vae.Output(tooltip="Works with VAE Decode, VAE Decode (Tiled) and VAE Encode.")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(DemoVAE())


NODES = (VideoAttentionDemoPrompt, VideoAttentionDemoVAE)
