"""A GUIDER of another node: the model and the prompts that it holds, and copies of it with others."""

from __future__ import annotations

import copy
from collections.abc import Callable

from comfy.model_patcher import create_model_options_clone


def check(guider, name: str) -> None:
    """Raises ValueError with a sentence for what is no GUIDER.

    name: of the input that it came in by.
    """
    held = (getattr(guider, "model_patcher", None), getattr(guider, "model_options", None))
    prompts = getattr(guider, "original_conds", None)
    if None in held or not isinstance(prompts, dict) or not callable(getattr(guider, "sample", None)):
        raise ValueError(
            f"{name}: it is of the type {type(guider).__name__}, which is no GUIDER. Connect CFGGuider, BasicGuider, "
            "DualCFGGuider or another node that gives a GUIDER."
        )


def model_of(guider):
    """Gives the MODEL of a GUIDER with the options that it samples with, which are its model's own as a rule."""
    model = guider.model_patcher
    if guider.model_options is model.model_options:
        return model
    model = model.clone()
    model.model_options = create_model_options_clone(guider.model_options)
    return model


def options_of(guider) -> list[dict]:
    """Lists the options of all its prompts, whatever their names."""
    return [options for conds in guider.original_conds.values() for options in conds]


def on_model(guider, model):
    """Copies a GUIDER for another MODEL; what it remembers of a run stays with the copy."""
    made = copy.copy(guider)
    made.model_patcher, made.model_options = model, model.model_options
    return made


def with_options(guider, change: Callable[[dict], dict]):
    """Copies a GUIDER with other options of each of its prompts."""
    made = copy.copy(guider)
    made.original_conds = {
        name: [change(options) for options in conds] for name, conds in guider.original_conds.items()
    }
    return made
