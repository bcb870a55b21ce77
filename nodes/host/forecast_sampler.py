"""Which sampler a run has, and how many steps in a row it stands to have forecast."""

from __future__ import annotations

import comfy.samplers

from ...attention.core.reason import Reason
from ...attention.forecast.samplers import ANY, ONE, TABLE
from .carried_sampler import CarriedSampler
from .rehearsal import Rehearsal


def original(sampler):
    """Finds the SAMPLER that a part of one over two models stands for."""
    owner = getattr(getattr(sampler, "sampler_function", None), "__self__", None)
    return owner.sampler if isinstance(owner, CarriedSampler) else sampler


def most_in_a_row(sampler, rehearsal: Rehearsal) -> int | None | Reason:
    """Tells how many steps in a row a sampler stands to have forecast: None for any number, or why none.

    sampler: the host's SAMPLER; one that is not the host's own goes by its rehearsal.
    """
    name = name_of(sampler)
    found = TABLE.get(name, ANY)
    if isinstance(found, Reason):
        return Reason(f"{name}: {found}")
    # As its options have it: noise can be asked for, and left out.
    return ONE if rehearsal.noisy or any(call.stage for call in rehearsal.calls) else found


def name_of(sampler) -> str | None:
    """Finds under which name the host has a SAMPLER; None for one of another pack."""
    wanted = _function_of(sampler)
    names = comfy.samplers.SAMPLER_NAMES
    return next((name for name in names if _function_of(comfy.samplers.sampler_object(name)) == wanted), None)


def _function_of(sampler) -> tuple:
    """Finds module and name of a SAMPLER's function, which some are made anew with."""
    function = getattr(sampler, "sampler_function", sampler)
    return getattr(function, "__module__", None), getattr(function, "__qualname__", function)
