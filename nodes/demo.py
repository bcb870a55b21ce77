"""The demo models' prompts and decoders: what a text encoder and a VAE are to a big model."""

import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..attention.demo import codec, prompt, scene_codec, scene_prompt
from .host.prompt_words import WORDS
from .widgets import search_words
from .widgets.node import Node

CATEGORY = "video attention/demo"
FRAME_RATE = 25
ONE_SHAPE, SCENES = "one shape", "scenes"
CODECS = {ONE_SHAPE: codec, SCENES: scene_codec}


class Statistics(torch.nn.Module):
    """Answers what LTX's upscaling models ask of a VAE: the demo model's latents need no scaling."""

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Gives a latent as it is."""
        return x

    un_normalize = normalize


class Codec(torch.nn.Module):
    """Stands where a VAE has its network. It has no weights."""

    def __init__(self):
        super().__init__()
        self.per_channel_statistics = Statistics()


class DemoVAE:
    """Gives a demo model's fixed codec all that nodes for a video VAE read or call.

    Nothing is tiled: clips are small, and the codec of scenes reads and paints a clip as a whole.
    Its names are those of ComfyUI's VAE.
    """

    latent_dim, output_channels = 3, 3
    vae_dtype, working_dtypes = torch.float32, [torch.float32]
    device = output_device = _select_base_device = torch.device("cpu")
    disable_offload = not_video = handles_tiling = False
    crop_input, size, extra_1d_channel, pad_channel_value = True, 0, None, None

    def __init__(self, latent_codec=codec):
        self.codec, self.latent_channels = latent_codec, latent_codec.CHANNELS
        # As ComfyUI's VAE has them: (frames, rows, columns) of a latent pixel, and what a number of frames becomes.
        self.downscale_index_formula = self.upscale_index_formula = (step, *sides) = latent_codec.BLOCK
        self.downscale_ratio = (lambda frames: -(-frames // step), *sides)
        self.upscale_ratio = (lambda length: length * step, *sides)
        self.first_stage_model = Codec()
        self.patcher = ModelPatcher(self.first_stage_model, load_device=self.device, offload_device=self.device)

    def decode(self, latent: torch.Tensor, vae_options=None) -> torch.Tensor:
        """Decodes a latent (B, 128, T, Y, X) into a clip (B, F, H, W, 3) in 0 to 1."""
        return self.codec.decode(latent.float().cpu())

    def decode_tiled(self, latent, tile_x=None, tile_y=None, overlap=None, tile_t=None, overlap_t=None):
        """Decodes a latent as `decode` does, whatever the tiles."""
        return self.decode(latent)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encodes a clip into a latent (B, 128, T, Y, X).

        pixels: (F, H, W, 3) or (B, F, H, W, 3) in 0 to 1.
        Sides are cropped to whole latent pixels. Frames are filled up in front with the first one: 8 n + 1 of them are
        n + 1 latent frames, as LTX's nodes count.
        """
        clip = self.vae_encode_crop_pixels(pixels if pixels.ndim == 5 else pixels[None])
        missing = -clip.shape[1] % self.codec.BLOCK[0]
        clip = torch.cat([clip[:, :1].expand(-1, missing, *clip.shape[2:]), clip], dim=1)
        return self.codec.encode(clip.float().cpu())

    def encode_tiled(self, pixels, tile_x=None, tile_y=None, overlap=None, tile_t=None, overlap_t=None):
        """Encodes a clip as `encode` does, whatever the tiles."""
        return self.encode(pixels)

    def vae_encode_crop_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Crops pictures (..., H, W, C) around their middle to whole latent pixels and three colours."""
        for axis, step in ((-3, self.codec.BLOCK[1]), (-2, self.codec.BLOCK[2])):
            left = pixels.shape[axis] % step
            pixels = pixels.narrow(axis, left // 2, pixels.shape[axis] - left)
        return pixels[..., :3]

    def memory_used_decode(self, shape, dtype) -> int:
        """Gives the bytes that decoding takes on a GPU: none, it runs on the CPU."""
        return self.memory_used_encode(shape, dtype)

    def memory_used_encode(self, shape, dtype) -> int:
        """Gives the bytes that encoding takes on a GPU: none, it runs on the CPU."""
        return 0

    def temporal_compression_decode(self) -> int:
        """Gives the frames of a latent frame."""
        return self.codec.BLOCK[0]

    def spacial_compression_decode(self) -> int:
        """Gives the pixels of a latent pixel along a side."""
        return self.codec.BLOCK[1]

    def spacial_compression_encode(self) -> int:
        """Gives the pixels of a latent pixel along a side."""
        return self.codec.BLOCK[1]

    def model_size(self) -> int:
        """Gives the bytes of its weights: none."""
        return self.size

    def vae_output_dtype(self) -> torch.dtype:
        """Gives the dtype of decoded clips."""
        return self.vae_dtype

    def throw_exception_if_invalid(self) -> None:
        """Raises nothing: the codec is always there."""

    def is_dynamic(self) -> bool:
        """Tells whether its weights are loaded piece by piece: it has none."""
        return False

    def get_sd(self) -> dict:
        """Gives its weights: none."""
        return self.first_stage_model.state_dict()


class VideoAttentionDemoPrompt(Node):
    """Makes the demo model's prompts of three words."""

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
            search_aliases=search_words.of("VideoAttentionDemoPrompt"),
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
        words = (colour, shape, direction)
        return io.NodeOutput(_conditioning(*prompt.encode_prompt(*words), words), _conditioning(*prompt.empty_prompt()))


class VideoAttentionDemoScenePrompt(Node):
    """Makes the prompts of the demo model of scenes, of seven words."""

    @classmethod
    def define_schema(cls):
        colours, forms, ways = (list(words) for words in scene_prompt.WORDS[:3])

        def word(name: str, options: list[str], tooltip: str, start: int = 0) -> io.Combo.Input:
            return io.Combo.Input(name, options=options, default=options[start], tooltip=tooltip)

        return io.Schema(
            node_id="VideoAttentionDemoScenePrompt",
            display_name="Video Attention Demo Scene Prompt",
            category=CATEGORY,
            description=(
                "The prompt of the demo model of scenes: two coloured shapes that move, and which one is in front. "
                "The negative output is the empty prompt."
            ),
            search_aliases=search_words.of("VideoAttentionDemoScenePrompt"),
            inputs=[
                word("colour", colours, "Colour of the first shape."),
                word("form", forms, "Form of the first shape."),
                word("direction", ways, "Where the first shape moves to."),
                word("second_colour", colours, "Colour of the second shape, another than that of the first.", 2),
                word("second_form", forms, "Form of the second shape.", 1),
                word("second_direction", ways, "Where the second shape moves to, another way than the first.", 6),
                word("order", list(scene_prompt.FRONTS), "Which shape hides the other where they meet."),
            ],
            outputs=[
                io.Conditioning.Output("positive", tooltip="Seven tokens: three of each shape, and the order."),
                io.Conditioning.Output("negative", tooltip="The empty prompt, for a CFG scale above 1."),
            ],
        )

    @classmethod
    def execute(cls, colour, form, direction, second_colour, second_form, second_direction, order) -> io.NodeOutput:
        for name, one, other in (
            ("second_colour", colour, second_colour),
            ("second_direction", direction, second_direction),
        ):
            if one == other:
                raise ValueError(
                    f"{name}: both shapes have {one!r}. Choose another for one of them: the model knows no such pair."
                )
        words = (colour, form, direction, second_colour, second_form, second_direction, order)
        tokens = scene_prompt.encode_numbers(scene_prompt.number_words(words)[None])
        mask = torch.ones(tokens.shape[:2], dtype=torch.long)
        return io.NodeOutput(_conditioning(tokens, mask, words), _conditioning(torch.zeros_like(tokens), mask))


def _conditioning(tokens: torch.Tensor, mask: torch.Tensor, words: tuple[str, ...] = ()) -> list:
    """Makes CONDITIONING of tokens (1, L, C), their mask (1, L) and their words; none of an empty prompt."""
    said = {WORDS: words} if words else {}
    return [[tokens, {"attention_mask": mask, "frame_rate": FRAME_RATE, **said}]]


class VideoAttentionDemoVAE(Node):
    """Gives a demo model's VAE."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionDemoVAE",
            display_name="Video Attention Demo VAE",
            category=CATEGORY,
            description=(
                "Decoder of the demo models: fixed mathematics for each kind of clips, so it has no weights. "
                "For ComfyUI's VAE Decode."
            ),
            search_aliases=search_words.of("VideoAttentionDemoVAE"),
            inputs=[
                io.Combo.Input(
                    "clips",
                    options=list(CODECS),
                    default=ONE_SHAPE,
                    optional=True,
                    tooltip=(
                        "What the model draws. one shape: for video-attention-demo.safetensors. scenes: for "
                        "video-attention-scenes.safetensors, two shapes over a background."
                    ),
                ),
            ],
            outputs=[io.Vae.Output(tooltip="Works with VAE Decode, VAE Decode (Tiled) and VAE Encode.")],
        )

    @classmethod
    def execute(cls, clips=ONE_SHAPE) -> io.NodeOutput:
        return io.NodeOutput(DemoVAE(CODECS[clips]))


NODES = (VideoAttentionDemoPrompt, VideoAttentionDemoScenePrompt, VideoAttentionDemoVAE)
