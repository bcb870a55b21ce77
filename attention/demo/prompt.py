"""The demo model's prompt: one word each for colour, shape and direction, as fixed one-hot tokens.

The words are few, so no text encoder is needed: a prompt is three tokens, each the code of one word.
"""

import torch
from torch import Tensor

# Signs of the deviation from mid grey in red, green and blue: the corners of the colour cube.
COLOUR_SIGNS = {
    "red": (1, -1, -1),
    "green": (-1, 1, -1),
    "blue": (-1, -1, 1),
    "yellow": (1, 1, -1),
    "magenta": (1, -1, 1),
    "cyan": (-1, 1, 1),
    "white": (1, 1, 1),
    "black": (-1, -1, -1),
}
PALETTE = torch.tensor(list(COLOUR_SIGNS.values()), dtype=torch.float32)
# Clockwise on the screen from the right, 45 degrees apart; rows grow downwards.
DIRECTIONS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")
SHAPES = ("disc", "square", "ring")
COLOURS = tuple(COLOUR_SIGNS)
CAPTION_CHANNELS = 32


def _code(word: str, words: tuple[str, ...], first: int, what: str) -> Tensor:
    if word not in words:
        raise ValueError(f"{what} {word!r} is not one of {', '.join(words)}")
    code = torch.zeros(CAPTION_CHANNELS)
    code[first + words.index(word)] = 1.0
    return code


def encode_prompt(colour: str, shape: str, direction: str) -> tuple[Tensor, Tensor]:
    """Return prompt tokens (1, 3, 32) and their attention mask (1, 3) of ones. ValueError for other words."""
    tokens = (
        _code(colour, COLOURS, 0, "colour"),
        _code(shape, SHAPES, len(COLOURS), "shape"),
        _code(direction, DIRECTIONS, len(COLOURS) + len(SHAPES), "direction"),
    )
    return torch.stack(tokens)[None], torch.ones(1, 3, dtype=torch.long)


def empty_prompt() -> tuple[Tensor, Tensor]:
    """Return the prompt that says nothing, for classifier-free guidance: zeros (1, 3, 32) and a mask (1, 3) of ones."""
    return torch.zeros(1, 3, CAPTION_CHANNELS), torch.ones(1, 3, dtype=torch.long)
