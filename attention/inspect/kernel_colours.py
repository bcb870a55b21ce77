"""Which colour a kernel has: the same in every picture, and in one picture no two names share one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from ..backends.registry import names
from ..core.canvas import CATEGORIES, LIGHT, NEUTRAL, Colour, mix

# Of a pattern's name in a run in which that changes; what is without it is one thing to the eye.
PERCENTAGE = re.compile(r" (?:([\d.]+) %|tau ([\d.]+))")
# How much of the paper the lightest of a pattern's percentages has.
PALEST = 0.55


def colours_of(used: Iterable[str], neutral: Collection[str] = ()) -> dict[str, Colour]:
    """Give everything that stands in one picture its colour.

    used: names as the picture has them. A backend has the colour of its place in the table; whatever else there is, a
        pattern with its engine first of all, takes those that no backend has, then those of backends that are not in
        this picture. Beyond as many names as there are colours they begin again. Percentages of one pattern are shades
        of its colour, the largest the darkest; thresholds likewise.
    neutral: names in grey, as the host's own attention.
    """
    used, table = list(dict.fromkeys(used)), names()
    own = {name: CATEGORIES[table.index(name) % len(CATEGORIES)] for name in used if name in table}
    free = [*CATEGORIES[len(table) :], *reversed(CATEGORIES[: len(table)])]
    free = [colour for colour in free if colour not in own.values()] or list(CATEGORIES)
    shades: dict[str, list[str]] = {}
    for name in used:
        if name not in own and name not in neutral:
            shades.setdefault(PERCENTAGE.sub("", name), []).append(name)
    others = {}
    for index, found in enumerate(shades.values()):
        alike = sorted(found, key=_percentage, reverse=True)
        colour, step = free[index % len(free)], PALEST / max(1, len(alike) - 1)
        others |= {name: mix(colour, LIGHT, 1 - step * at) for at, name in enumerate(alike)}
    return dict.fromkeys(neutral, NEUTRAL) | own | others


def _percentage(name: str) -> float:
    found = PERCENTAGE.search(name)
    return float(found[1] or found[2]) if found else 0.0


def lighter(colour: Colour) -> Colour:
    """Lighten a kernel's colour: the same kernel in another role than self-attention."""
    return mix(colour, LIGHT, 0.6)
