"""HunyuanVideo (https://arxiv.org/abs/2412.03603), HunyuanVideo 1.5 (https://arxiv.org/abs/2511.18870) and HunyuanImage
2.1: double-stream, then single-stream blocks over prompt and latent in one sequence, after a refiner of the prompt."""

from math import prod

from ..core.site import SELF, TEXT
from ..core.tokens import Span, Tokens
from . import token_share
from .facts import BlockStream, Head, TimeRotary, TrainedClips, frequencies_of_embedder
from .spec import Family, Variant, ceil_div


def sites(model):
    """Yield the self-attention of each block, double before single, then that of the text's refiner."""
    blocks = (*model.double_blocks, *model.single_blocks)
    for index, block in enumerate(blocks):
        yield block, SELF, index
    for index, block in enumerate(model.txt_in.individual_token_refiner.blocks, start=len(blocks)):
        yield block, TEXT, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call.

    x: (B, C, T, Y, X) latents, (B, C, Y, X) in image models, padded to whole patches.
    """
    if getattr(x, "ndim", 0) != len(model.patch_size) + 2:
        return Tokens(None, unknown="no latent of as many axes as the model's patches have")
    prefix = _prompt(model, inputs)
    reference = inputs.get("ref_latent")
    if reference is not None:
        prefix = (*prefix, Span("reference", prod(_patches(model, reference))))
    axes = _patches(model, x)
    return Tokens(axes if len(axes) == 3 else (1, *axes), prefix=prefix)


def _patches(model, latent) -> tuple[int, ...]:
    return tuple(map(ceil_div, latent.shape[2:], model.patch_size))


def _prompt(model, inputs) -> tuple[Span, ...]:
    """Return the spans of the conditioning in order: byt5 is text that the picture shall show, vision a start image."""
    spans = (Span("text", inputs["context"].shape[1]),)
    byt5, vision = inputs.get("txt_byt5"), inputs.get("clip_fea")
    if byt5 is not None and model.byt5_in is not None:
        quoted = (Span("byt5", byt5.shape[1]),)
        # 1.5 marks its kinds of tokens by embeddings and puts the text last.
        spans = spans + quoted if model.cond_type_embedding is None else quoted + spans
    return spans if vision is None else (Span("vision", vision.shape[1]), *spans)


CLIPS, CLIPS_OF_1_5 = TrainedClips(129, 24.0), TrainedClips(121, 24.0)


def clips(model):
    """Return what it was trained with; 1.5 is told by the channels of its latent."""
    return CLIPS_OF_1_5 if model.out_channels == 32 else CLIPS


def start_mask(names):
    """Tell 1.5, whose image to video reads the noise mask."""
    return "HunyuanVideo15" in names


# The intrinsic frequency is the authors' of RIFLEx.
ROTARY = TimeRotary(frequency=4, clips=clips, count=frequencies_of_embedder("pe_embedder"), embedder="pe_embedder")
ROLES = (TEXT, SELF)
HUNYUAN = Family(
    name="HunyuanVideo",
    models=("HunyuanVideo",),
    variants=(
        Variant("HunyuanVideo", ROLES),
        Variant("HunyuanVideo I2V", ROLES),
        Variant("SkyReels V1 I2V", ROLES),
        Variant("HunyuanVideo 1.5", ROLES),
        Variant("HunyuanVideo 1.5 SR", ROLES),
        Variant("Capybara", ROLES),
        Variant("HunyuanImage 2.1", ROLES),
        Variant("HunyuanImage 2.1 refiner", ROLES),
    ),
    sites=sites,
    tokens=tokens,
    beside="txt",
    clips=clips,
    start_mask=start_mask,
    stream=BlockStream(("double_blocks", "single_blocks"), "hidden_size"),
    rotary=ROTARY,
    head=Head(("final_layer",), ("double_blocks", "single_blocks"), "hidden_size"),
    shared=token_share.HUNYUAN,
)
