"""What a model family tells: which module makes which attention call, and how the tokens of an input are laid out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from ..core.tokens import Tokens


@dataclass(frozen=True)
class Variant:
    """One kind of model that users load. name: as they know it; roles: those its attention calls have, all reached."""

    name: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One row of the table.

    name: short. models: class names of the diffusion model (strings: nothing of the host is imported).
    variants: what users load, for the documentation; tests run a tiny model of each and compare the roles.
    sites: yields (module, role, block) of a loaded model. The module is the innermost one whose forward takes
        `transformer_options` and makes the call; blocks count on where a model has several lists of them.
    tokens: (model, x, inputs) -> Tokens of one model call. x: the model's first argument, after concatenation; inputs:
        its other arguments by name ("context", "transformer_options" ...), as the host's apply_model gives them.
    apart: model -> announced role to those that such a call may turn out to have by its numbers of queries and keys,
        as Tokens.role tells them.
    called: the name that users have for a loaded model, where it is not the family's.
    methods: of those modules, what the host calls in their place, so that no hook of the module runs.
    follows: other arguments that are the prompt where they are not given.
    unreachable: what the host's override never sees, a short clause each.
    unsupported: why nothing at all can be reached, None when something can.
    """

    name: str
    models: tuple[str, ...]
    variants: tuple[Variant, ...] = ()
    sites: Callable[[torch.nn.Module], Iterator[tuple[torch.nn.Module, str, int]]] = lambda model: iter(())
    tokens: Callable[[torch.nn.Module, object, Mapping], Tokens] = lambda model, x, inputs: Tokens(None)
    apart: Callable[[torch.nn.Module], Mapping[str, tuple[str, ...]]] = lambda model: {}
    called: Callable[[torch.nn.Module], str | None] = lambda model: None
    methods: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()
    unsupported: str | None = None

    def roles_of(self, model: torch.nn.Module) -> Iterator[tuple[str, int]]:
        """(role, block) of every kind of call that the modules of a loaded model may make."""
        more = self.apart(model)
        for _, announced, block in self.sites(model):
            for role in (announced, *more.get(announced, ())):
                yield role, block

    def name_of(self, model: torch.nn.Module) -> str:
        """The name that users have for a loaded model."""
        return self.called(model) or self.name


def ceil_div(length: int, patch: int) -> int:
    """Patches that cover `length`, the last one padded."""
    return -(-length // patch)
