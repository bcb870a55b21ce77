"""What a row of the table may tell of its models beside where they attend: the types of its optional fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import torch


@dataclass(frozen=True)
class TrainedClips:
    """The clips that a model was trained with.

    pictures: how many in a clip; None for a model of any frame rate, which knows a time.
    rate: pictures a second.
    seconds: how long a clip was, where `pictures` is None.
    ratio: pictures in one latent frame; the first latent frame has one.
    """

    pictures: int | None
    rate: float
    seconds: float = 5.0
    ratio: int = 4

    @property
    def latent_frames(self) -> int:
        """Return the latent frames of a clip of `pictures`."""
        return (self.pictures - 1) // self.ratio + 1

    def count(self, rate: float) -> float:
        """Return the pictures of a trained clip that is shown at `rate` pictures a second."""
        return self.pictures or self.seconds * rate


@dataclass(frozen=True)
class SoundStream:
    """How the sound of a latent lies beside its video, for a model whose sound the host cannot cut into windows.

    axis: its axis of time.
    """

    axis: int


@dataclass(frozen=True)
class BlockStream:
    """Where the video's tokens pass between the blocks of a model.

    lists: the attributes of the model that are its lists of blocks, in the order in which they run.
    width: the attribute of the model that is the number of channels of a video token, dotted where it is a part's.
    part: which entry of a block's output has the video, where the output is a tuple.
    """

    lists: tuple[str, ...]
    width: str
    part: int = 0

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """Return the blocks of a loaded model, numbered as the family's `sites` number them."""
        return [block for name in self.lists for block in getattr(model, name)]

    def channels(self, model: torch.nn.Module) -> int:
        """Return the channels of a video token."""
        return attrgetter(self.width)(model)


@dataclass(frozen=True)
class Head:
    """Where a model's blocks have done their work, and what makes its output of that.

    names: attributes of the model, modules or methods, that are called with what the blocks made and then the step's
        time: a tensor, or a list with the video's first and the sound's behind it. A call of the model calls one of
        them.
    lists: the attributes of the model that are its lists of blocks: without them, nothing but the input's embedding
        comes to the head.
    width: the attribute of the model that is the number of channels of what they made, dotted where it is a part's.
    batched: whether what the blocks made has the batch as its first axis; False for a model of batch 1 without one.
    """

    names: tuple[str, ...]
    lists: tuple[str, ...]
    width: str
    batched: bool = True

    def channels(self, model: torch.nn.Module) -> int:
        """Read the number of channels of what a model's blocks made."""
        return attrgetter(self.width)(model)


@dataclass(frozen=True)
class TimeRotary:
    """How a model turns queries and keys by their frame, and what is known of its frequencies over time.

    frequency: number of the intrinsic frequency, the one whose period is near the length at which clips begin to
        repeat (RIFLEx, https://arxiv.org/abs/2502.15894); 1 is the fastest.
    clips: model -> the clips that its positions were learned with. Training that goes on with clips of another length
        leaves the frequencies as they are.
    count: model -> how many frequencies turn with the frame.
    embedder: the attribute of the model that is a module: positions (B, L, axes), time first, to rotations
        (B, 1, L, F, 2, 2), time's frequencies first. "" where there is none.
    table: the attribute of the model that is a method: (height, width, frames, device) in tokens to cosines and sines
        (frames * height * width, F), time's frequencies first. "" where there is none.
    patch: model -> latent frames in one token.
    """

    frequency: int
    clips: Callable[[torch.nn.Module], TrainedClips]
    count: Callable[[torch.nn.Module], int]
    embedder: str = ""
    table: str = ""
    patch: Callable[[torch.nn.Module], int] = lambda model: 1


def frequencies_of_embedder(name: str) -> Callable[[torch.nn.Module], int]:
    """Return a `count` for an embedder that keeps its rotated channels of each axis as `axes_dim`.

    name: the attribute of the model that is the embedder.
    """
    return lambda model: getattr(model, name).axes_dim[0] // 2


def heads_by_name(module: torch.nn.Module) -> tuple[int, int]:
    """Read (heads, head size) of an attention module or block by the attributes that most have; zeros where none is."""
    attributes = vars(module)
    heads = next((attributes[n] for n in ("heads", "num_heads", "n_heads") if attributes.get(n)), 0)
    size = next((attributes[n] for n in ("head_dim", "dim_head") if attributes.get(n)), 0)
    if heads and not size:
        size = next((attributes[n] // heads for n in ("hidden_size", "inner_dim", "dim") if attributes.get(n)), 0)
    return heads, size


def always(value) -> Callable[[torch.nn.Module], object]:
    """Return a function of a model that gives `value` for every one."""
    return lambda model: value
