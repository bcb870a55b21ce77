"""What a model family tells: which module makes which attention call, and what else the pack needs to know of it.

A row says all that is known of a family. Where a field is left out, what needs it does without, or refuses by the words
of the field's default: guidance, samplers, temporal blocks and windows of long clips read the row and know no family by
name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from ..core.reason import Reason
from ..core.tokens import Tokens
from .conditions import CONDITIONS, Cut
from .facts import BlockStream, Head, SoundStream, TimeRotary, TrainedClips, always, heads_by_name
from .token_share import TokenShare

# Models of any length and rate, and those of which nothing is known.
ANY_CLIP = TrainedClips(None, 24.0)
# Parts of names of weights that no video token meets: what is computed once for a step, or of the sequence's places.
ONCE_A_STEP = r"modulation|adaln|adaLN|(^|_)mod(_|$)|_mod|time|emb|^norm"


@dataclass(frozen=True)
class Variant:
    """One kind of model that users load.

    name: as they know it.
    roles: those its attention calls have, all reached.
    """

    name: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One row of the table. Only `name` and `models` must be there; what follows `unsupported` is for its consumers.

    name: short.
    models: class names of the diffusion model (strings: nothing of the host is imported).
    variants: what users load, for the documentation; tests run a tiny model of each and compare the roles.
    sites: model -> (module, role, block) of each attention. The module is the innermost one whose forward takes
        `transformer_options` and makes the call; blocks count on where a model has several lists of them.
    tokens: (model, x, inputs) -> Tokens of one model call: x is the model's first argument, after concatenation, inputs
        its other arguments by name ("context", "transformer_options" ...), as the host's apply_model gives them.
    roles_by_length: model -> announced role to those that such a call may turn out to have by its numbers of queries
        and keys, as Tokens.role tells them.
    release_name: model -> the name that users have for it, where it is not the family's.
    forward_methods: of those modules, what the host calls in their place, so that no hook of the module runs.
    prompt_aliases: other arguments that are the prompt where they are not given.
    unreachable: what the host's override never sees, a short clause each.
    unsupported: why nothing at all can be reached, None when something can.

    heads_of: module of `sites` -> (heads, head size), zeros where they are not known.
    beside: what of a block's weights the video's tokens do not pass, as a regular expression that is searched in the
        parts of their names: other streams. For the share of attention in a step.
    keys_values: names of the projections that, in cross-attention, see the other side's tokens, as a regular expression
        that is searched in the last part of a weight's name. For the same share.
    scheduler: of noise levels, that ComfyUI's own templates use.
    clips: model -> what it was trained with: the window that a longer clip is sampled in.
    conditions: (class name of the diffusion model) -> how its conditions are cut into windows, by the host's key, where
        that differs from conditions.CONDITIONS.
    references: (model, options of a prompt) -> latent frames at the begin of the clip that are references.
    start_mask: class names of the host's model and of its bases -> whether it reads the noise mask as that of a start
        image.
    learned_positions: model -> whether its positions are learned for one length: a window may have no frame more.
    stream: where the video's tokens pass between blocks, or why blocks cannot be added there.
    rotary: how queries and keys turn with the frame, or why no frequency can be slowed down.
    mixed_prompt: why a negative prompt cannot go through the model behind the prompt: what mixes their tokens before
        the blocks attend to them. None: nothing does.
    skipped_block: model -> the block that spatiotemporal guidance skips in the authors' or the model's own settings.
    frame_sizes: pictures in each latent frame, over and over, where they are not alike behind the first; () where each
        holds as many as the host's latent format says.
    sound: how the sound of its latents lies, where the host cannot cut it into windows; None where it can, or has none.
    pattern_range: of the sampling, 0 to 1 of the noise schedule, in which a pattern does the least harm.
    head: where its blocks have done their work, so that the rest of a call can run on a forecast of that; or why the
        model's output is forecast instead.
    shared: how the tokens between its blocks are shared out over several GPUs, or why they are not.
    """

    name: str
    models: tuple[str, ...]
    variants: tuple[Variant, ...] = ()
    sites: Callable[[torch.nn.Module], Iterator[tuple[torch.nn.Module, str, int]]] = lambda model: iter(())
    tokens: Callable[[torch.nn.Module, object, Mapping], Tokens] = lambda model, x, inputs: Tokens(None)
    roles_by_length: Callable[[torch.nn.Module], Mapping[str, tuple[str, ...]]] = lambda model: {}
    release_name: Callable[[torch.nn.Module], str | None] = lambda model: None
    forward_methods: tuple[str, ...] = ()
    prompt_aliases: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()
    unsupported: str | None = None

    heads_of: Callable[[torch.nn.Module], tuple[int, int]] = heads_by_name
    beside: str = ""
    keys_values: str = r"^(to_)?(k|v|kv|key|value)(_.*)?$"
    scheduler: str = "simple"
    clips: Callable[[torch.nn.Module], TrainedClips] = always(ANY_CLIP)
    conditions: Callable[[str], Mapping[str, Cut]] = lambda class_name: {}
    references: Callable[[torch.nn.Module, Mapping], int] = lambda model, options: 0
    start_mask: Callable[[tuple[str, ...]], bool] = lambda names: False
    learned_positions: Callable[[torch.nn.Module], bool] = lambda model: False
    stream: BlockStream | Reason = Reason("it is not known where its video passes between its blocks")
    rotary: TimeRotary | Reason = Reason("it is not known which of its frequencies over time to slow down")
    mixed_prompt: Reason | None = Reason("it is not known whether its prompt's tokens stay apart on their way")
    skipped_block: Callable[[torch.nn.Module], int | None] = always(None)
    frame_sizes: tuple[int, ...] = ()
    sound: SoundStream | None = None
    # The first steps decide the motion: the fifth that Sol-Attn leaves dense (https://arxiv.org/abs/2607.24027).
    pattern_range: tuple[float, float] = (0.2, 1.0)
    head: Head | Reason = Reason("it is not known where its blocks' work ends")
    shared: TokenShare | Reason = Reason("it is not known what its blocks are told for each token")

    def roles_of(self, model: torch.nn.Module) -> Iterator[tuple[str, int]]:
        """Yield (role, block) of every kind of call that the modules of a loaded model may make."""
        more = self.roles_by_length(model)
        for _, announced, block in self.sites(model):
            for role in (announced, *more.get(announced, ())):
                yield role, block

    def name_of(self, model: torch.nn.Module) -> str:
        """Return the name that users have for a loaded model."""
        return self.release_name(model) or self.name

    def is_beside(self, part: str) -> bool:
        """Tell whether a part of a weight's name says that no video token meets that weight in a block."""
        return any(re.search(pattern, part) for pattern in (ONCE_A_STEP, self.beside) if pattern)


# Of a model that no row is for.
UNKNOWN = Family("", ())


def cut_of(family: Family, class_name: str, key: str) -> Cut | str | None:
    """Return how a window of a long clip gets its part of a condition.

    family: the model's row; UNKNOWN where there is none.
    class_name: of the diffusion model.
    key: the host's name of the condition. None is returned for one that stands nowhere, HOST where the host cuts it.
    """
    return family.conditions(class_name).get(key, CONDITIONS.get(key))


def ceil_div(length: int, patch: int) -> int:
    """Return how many patches cover `length`, the last one padded."""
    return -(-length // patch)
