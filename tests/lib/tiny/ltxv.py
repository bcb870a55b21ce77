"""LTX-Video."""

import torch

from .case import Case, build

CONFIG = {
    "image_model": "ltxv", "in_channels": 128, "cross_attention_dim": 48, "attention_head_dim": 24,
    "num_attention_heads": 2, "caption_channels": 16, "num_layers": 2,
}  # fmt: skip
TEXT = (1, 7, 16)
CALLS = {"self": 2, "cross": 2}


def model():
    return build("LTXV", CONFIG)


def video(frames, height=4, width=5, batch=1):
    """A maker of latents."""
    return lambda: torch.zeros(batch, 128, frames, height, width)


def conditioning():
    return {"attention_mask": torch.ones(1, 7, dtype=torch.long)}


def first_frame(frames):
    """The mask that LTXVImgToVideo gives: the first frame stays."""
    mask = torch.ones(1, 1, frames, 1, 1)
    mask[:, :, :1] = 0.0
    return mask


def guided(*guides, strength=1.0):
    """A maker of the conditioning that LTXVAddGuide gives. guides: (frames, height, width) of each, (4, 5) on the grid.

    A guide with fewer pixels than the video is spread over its grid, and the mask marks what lies between.
    """

    def make():
        from comfy_extras.nodes_lt import LTXVAddGuide

        made = [[None, conditioning()]]
        entries = []
        for shape in guides:
            made = LTXVAddGuide.add_keyframe_index(made, 0, torch.zeros(1, 128, shape[0], 4, 5), (8, 32, 32))
            entries.append({"pre_filter_count": shape[0] * 20, "strength": strength, "latent_shape": list(shape)})
        return {**made[0][1], "guide_attention_entries": entries}

    return make


def mask(frames, *guides):
    """Ones for the video, what LTXVAddGuide appends for the guides: zeros, less than zero where a token is dropped."""
    appended = []
    for shape in guides:
        part = torch.full((1, 1, shape[0], 4, 5), 0.0 if shape[1:] == (4, 5) else -2.0)
        part[..., :: 4 // shape[1], :: 5 // shape[2]] = 0.0
        appended.append(part)
    return torch.cat([torch.ones(1, 1, frames, 4, 5), *appended], dim=2)


def holed():
    mask_ = mask(3, (1, 4, 5))
    mask_[:, :, 1, 2, 3] = -1.0
    return mask_


def case(name="", latent=None, calls=None, **more):
    more = {"conditioning": conditioning, **more}
    return Case("LTX-Video 0.9", model, latent or video(3), TEXT, calls or CALLS, name=name, **more)


def split(calls_per_block):
    return {**CALLS, "self": 2 * calls_per_block}


SMALL = (1, 4, 1)  # every fifth column: what an IC-LoRA's coarser guide leaves
CASES = (
    case(grid=(3, 4, 5)),
    case("one frame, odd size", video(1, 3, 7), grid=(1, 3, 7)),
    case("a batch of 2, both prompts at once", video(3, batch=2), grid=(3, 4, 5), options={"cfg": 3.0}),
    case("image to video", grid=(3, 4, 5), options={"noise_mask": first_frame(3)}),
    case(
        "guides", video(6), grid=(3, 4, 5), after=(("guide", 60),),
        conditioning=guided((1, 4, 5), (2, 4, 5)), options={"noise_mask": mask(3, (1, 4, 5), (2, 4, 5)), "cfg": 3.0},
    ),
    case(
        "guide on a coarser grid", video(5), grid=(3, 4, 5), after=(("guide", 24),),
        conditioning=guided((1, 4, 5), SMALL), options={"noise_mask": mask(3, (1, 4, 5), SMALL)},
    ),
    case(
        "guide of half strength", video(4), calls=split(2), grid=(3, 4, 5), after=(("guide", 20),),
        conditioning=guided((1, 4, 5), strength=0.5), options={"noise_mask": mask(3, (1, 4, 5))},
    ),
    case(
        "guide of half strength, as long as the video", video(6), calls=split(2), grid=(3, 4, 5),
        after=(("guide", 60),), conditioning=guided((3, 4, 5), strength=0.5),
        options={"noise_mask": mask(3, (3, 4, 5)), "cfg": 3.0},
    ),
    case(
        "dropped video tokens", video(4), unplaced="79 tokens do not fit the grid",
        conditioning=guided((1, 4, 5)), options={"noise_mask": holed()},
    ),
)  # fmt: skip
