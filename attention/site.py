"""Where an attention call comes from."""

from __future__ import annotations

from dataclasses import dataclass

# Key of a Site in the host's transformer_options.
SITE = "vattn.site"

SELF, CROSS = "self", "cross"
ROLES = (SELF, CROSS)


@dataclass(frozen=True, eq=False)
class Site:
    """One attention module of a model. Compared by identity: a site is made once, when the model loads.

    family: "LTXV", or "" when the model is not one we know.
    role: one of ROLES. Without a known family it is guessed from the lengths (equal lengths: self).
    block: index of the transformer block, None when unknown.
    """

    family: str
    role: str
    block: int | None = None


# Shape is all there is to go by when a family publishes nothing.
GUESSED = {SELF: Site("", SELF), CROSS: Site("", CROSS)}


def guess(q_len: int, kv_len: int) -> Site:
    """The site of a call that nobody announced: self-attention when both lengths agree."""
    return GUESSED[SELF if q_len == kv_len else CROSS]


@dataclass(frozen=True, eq=False)
class Step:
    """One model evaluation during sampling.

    index: 0-based step of `total`; sigma: noise level of this evaluation;
    active: for each router on the model, which of its rules cover this step.
    """

    index: int
    total: int
    sigma: float
    active: dict[object, tuple[bool, ...]]
