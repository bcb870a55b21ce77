"""Prompts of scenes: colour, form and direction of two shapes, and which one is in front.

The words are few, so no text encoder is needed: a prompt is seven tokens, each the code of one word. A code is one-hot;
beside it stand the colour's signs and the direction's angle. Each shape has channels of its own.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .prompt import COLOURS, DIRECTIONS, PALETTE

FORMS = ("disc", "square", "triangle", "ring")
FRONTS = ("first in front", "second in front")
KINDS = ("colour", "form", "direction", "second colour", "second form", "second direction", "order")
WORDS = (COLOURS, FORMS, DIRECTIONS, COLOURS, FORMS, DIRECTIONS, FRONTS)
CAPTION_CHANNELS = 64
# Channels of one shape: of colours 8 and 3 signs, of forms 4, of directions 8 and 4 waves of the angle.
SHAPE_CHANNELS, FORM_FIRST, DIRECTION_FIRST = 31, 11, 15


def _make_codes() -> tuple[Tensor, ...]:
    """The codes of each token's words, seven of (words, 64)."""
    angle = torch.arange(len(DIRECTIONS)) * (2 * math.pi / len(DIRECTIONS))
    waves = torch.stack((angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin()), 1)
    blocks = []
    for first in (0, SHAPE_CHANNELS):
        blocks += [(first, torch.cat((torch.eye(len(COLOURS)), PALETTE), 1))]
        blocks += [(first + FORM_FIRST, torch.eye(len(FORMS)))]
        blocks += [(first + DIRECTION_FIRST, torch.cat((torch.eye(len(DIRECTIONS)), waves), 1))]
    blocks += [(2 * SHAPE_CHANNELS, torch.eye(len(FRONTS)))]
    return tuple(
        torch.nn.functional.pad(block, (first, CAPTION_CHANNELS - first - block.shape[1])) for first, block in blocks
    )


CODES = _make_codes()


def number_words(words: Sequence[str]) -> Tensor:
    """Return the numbers (7,) of a prompt's words, in the order of KINDS. ValueError for words there are not."""
    if len(words) != len(WORDS):
        raise ValueError(f"{len(words)} words instead of {len(WORDS)}: {', '.join(KINDS)}")
    for kind, word, known in zip(KINDS, words, WORDS):
        if word not in known:
            raise ValueError(f"{kind} {word!r} is not one of {', '.join(known)}")
    return torch.tensor([known.index(word) for word, known in zip(words, WORDS)])


def name_numbers(numbers: Tensor) -> list[tuple[str, ...]]:
    """Return the words of each prompt of word numbers (B, 7)."""
    return [tuple(known[number] for known, number in zip(WORDS, row)) for row in numbers.tolist()]


def encode_numbers(numbers: Tensor) -> Tensor:
    """Return prompt tokens (B, 7, 64) of word numbers (B, 7)."""
    return torch.stack([codes[column] for codes, column in zip(CODES, numbers.T)], 1)
