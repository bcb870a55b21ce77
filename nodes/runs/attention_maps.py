"""A model whose attention is looked at, and one evaluation of it at a noise level."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import torch

from ...attention.inspect.maps import Query, Watcher
from ..host import model_family, model_rules, window_handler
from . import sampling_job


def watch_attention(model, query: Query, heads: tuple = ()) -> tuple:
    """Lets a Watcher look at the attention of a clone of the MODEL `model`. Returns both.

    query: what is asked of the maps.
    heads: spans as in Watcher.
    """
    return model_rules.fill_slot(model, lambda found: Watcher(query, heads, found))


def evaluate(model, positive, latent: dict, sigma: float, seed: int, add_noise: bool):
    """Predicts the finished latent from `latent` at noise level `sigma`, by one evaluation of the MODEL.

    add_noise: as the sampler does it; without, the latent already holds the noise of this level.
    """
    latent = sampling_job.fitted(model, latent)
    noise = sampling_job.noise_of(latent, seed) * float(add_noise)
    euler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([sigma, 0.0])
    return comfy.sample.sample_custom(
        model, noise, 1.0, euler, sigmas, positive, positive, latent["samples"],
        noise_mask=latent.get("noise_mask"), disable_pbar=True, seed=seed,
    )  # fmt: skip


def check(model, latent: dict, query: Query, blocks: tuple) -> None:
    """Raises ValueError with a sentence, before anything runs, for what cannot be shown.

    blocks: spans as in Rule.
    """
    if window_handler.has_windows(model):
        raise ValueError("model: context windows show the clip in parts, which have no map; connect it without them.")
    family = model_family.family_of(model)
    known = {block for _, _, block in family.sites(model.model.diffusion_model)} if family else set()
    for first, last in blocks:
        if known and (first > max(known) or (last or first) > max(known)):
            raise ValueError(
                f"blocks: {max(first, last or 0)} is not in this model, whose blocks are 0 to {max(known)}."
            )
    tokens = model_family.tokens_of_latent(model, sampling_job.fitted(model, latent)["samples"])
    if tokens is not None and tokens.grid is not None:
        query.tokens(tokens.grid)


def sigma_at(model, percent: float, sigmas=None) -> float:
    """Finds the noise level at `percent` of the sampling, 0 to 1, within what the model was trained for.

    sigmas: noise levels of a sampling, whose first one counts instead.
    """
    if sigmas is not None:
        if not len(sigmas) or sigmas[0] <= 0:
            raise ValueError("sigmas: the first noise level must be above 0; split them at a step before the last.")
        return float(sigmas[0])
    sampling = model.get_model_object("model_sampling")
    sigma = float(sampling.percent_to_sigma(percent))
    return min(max(sigma, float(sampling.sigma_min)), float(sampling.sigma_max))
