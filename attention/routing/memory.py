"""What a model's rules mean for the memory of its attention: whether a matrix of queries by keys is ever held.

The host offloads weights to make room for such matrices, so a render that makes none should not pay for them.
"""

from __future__ import annotations

from collections.abc import Callable

from ..backends import registry
from ..core.site import SELF
from .rules import ALL_ROLES, Rule


def is_efficient(rules: tuple[Rule, ...], refused: Callable = registry.why_not) -> bool | None:
    """Tell whether no self-attention call holds such a matrix: False where one may, None to leave it to the host.

    Self-attention alone is asked about: its matrix is the square of the video's tokens, the others' are strips. Only
    rules about a backend count: what a pattern leaves alone runs dense.

    rules: of the model, the last one strongest.
    refused: of a backend's name, why it cannot run here, or None.
    """
    dense = [rule for rule in rules if not rule.kind and rule.role in (ALL_ROLES, SELF)]
    whole = [at for at, rule in enumerate(dense) if rule.always and not rule.blocks]
    # What comes before the last rule for all calls never wins; without one, the host runs some.
    holds = [_scores(rule, refused) for rule in dense[whole[-1] if whole else 0 :]]
    holds += [] if whole else [None]
    return False if True in holds else None if None in holds else True


def _scores(rule: Rule, refused: Callable) -> bool | None:
    """Tell whether a rule's calls hold one; None where ComfyUI's own attention may run them, or torch decides. In
    chunks that keep to the rule's memory they hold a part of one at a time."""
    backend = rule.backend
    if backend in (registry.AUTO, registry.HOST) or refused(backend) is not None:
        return None
    scores = registry.get(backend).scores
    return False if scores and rule.memory else scores
