"""Patterns to try, from the table itself: every row with its own defaults, and with values drawn for its own fields.

Nothing here names a row: a pattern that is added to patterns.TABLE is tried as soon as it stands there.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import MISSING, fields
from random import Random
from typing import Literal, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from attention import patterns as p
from attention.core.grid import ORDERS
from attention.core.tokens import Grid
from attention.sparse import engine_registry

# What no draw is sure to hold: windows of one and of all, whole tiles and ragged ones, thin bands, groups of heads,
# a threshold that nothing reaches, patterns of patterns.
EDGES = (
    p.Factorised(weight=0.3),
    p.TemporalWindow(frames=3),
    p.SlidingTile(frames=4, height=60, width=40, tile=(2, 3, 3)),
    p.SlidingTile(frames=2, height=100, width=100, tile=(1, 4, 4)),
    p.Neighbourhood(frames=3, height=40, width=50),
    p.Radial(keep=60, step=10),
    p.Radial(step=1, first_frame=False),
    p.LongVideo(frames=4),
    p.LongVideo(frames=3, window=10, first_frame=False),
    p.TopBlocks(keep=30, tail=True),
    p.TopBlocks(keep=40, order="raster"),
    p.MassBlocks(mass=40, order="hilbert"),
    p.MassBlocks(mass=60, order="morton", tail=True, by_heads=(60, 15)),
    p.TopBlocks(keep=60, by_heads=(60, 15)),
    p.AdaptiveBlocks(tau=0.3),
    p.AdaptiveBlocks(tau=50.0),
    p.Union((p.Spatial(), p.Temporal())),
    p.Intersection((p.Radial(step=1), p.Neighbourhood(frames=4))),
    p.Union((p.Intersection((p.Radial(step=1), p.SlidingTile(2, 50, 50, (2, 2, 2)))), p.Temporal())),
)


def is_combined(row) -> bool:
    """Whether a row is made of other patterns."""
    return any(one.name == "parts" and one.default is MISSING for one in fields(row))


def is_fixed(row) -> bool:
    """Whether the row's mask follows from the grid alone."""
    return hasattr(row, "on")


# Rows that a combined one can be made of: a fixed mask, one for all blocks of a model.
SEVERAL = ("in_block", "turns")
SIMPLE = tuple(
    row for row in p.TABLE if is_fixed(row) and not is_combined(row) and not any(hasattr(row, n) for n in SEVERAL)
)


def default(row):
    """The row with its own defaults; a combined one of the first two that it can be made of."""
    return row(tuple(part() for part in SIMPLE[:2])) if is_combined(row) else row()


def defaults() -> tuple:
    """Every row of the table with its defaults."""
    return tuple(default(row) for row in p.TABLE)


def any_of(rows):
    """Hypothesis: a pattern of any of these rows, with values for its fields."""
    return st.builds(drawn, st.sampled_from(rows), st.randoms(use_true_random=False))


def without_tail(grids) -> tuple:
    """EDGES without a tail, and of every row that has none of them the first drawn one that no grid makes dense."""
    edges = tuple(edge for edge in EDGES if not getattr(edge, "tail", False))
    others = [row for row in p.TABLE if not any(isinstance(edge, row) for edge in edges)]
    return (*edges, *(_first(row, grids) for row in others))


def _first(row, grids):
    tries = (drawn(row, Random(seed)) for seed in range(100))
    bare = (one for one in tries if not getattr(one, "tail", False))
    return next(one for one in bare if not any(engine_registry.is_dense(one, grid) for grid in grids))


def drawn(row, random: Random, depth: int = 2):
    """The row with values for its fields, by their types. A value that the row refuses stays at its default.

    random: also one of hypothesis, which then finds the simplest pattern that fails.
    depth: how deep patterns of patterns may go.
    """
    types = get_type_hints(row)
    kept = {"parts": tuple(_part(random, depth) for _ in range(random.randint(1, 3)))} if is_combined(row) else {}
    made = row(**kept)
    for field in fields(row):
        # Single tokens have tests of their own, in float64: among so many, two may stand out alike.
        if field.name in kept or field.name == "singles":
            continue
        wanted = {**kept, field.name: _value(types[field.name], getattr(made, field.name), random)}
        with suppress(ValueError):
            made, kept = row(**wanted), wanted
    return made


def _part(random: Random, depth: int):
    rows = [row for row in p.TABLE if is_combined(row)] if depth > 1 and random.random() < 0.2 else SIMPLE
    return drawn(random.choice(rows), random, depth - 1)


def _value(kind, default, random: Random):
    """A value of a field's type; `default` where the type does not tell enough."""
    if default in ORDERS:
        return random.choice(ORDERS)
    if get_origin(kind) is Literal:
        return random.choice(get_args(kind))
    if kind == Grid:
        return tuple(random.randint(1, 4) for _ in range(3))
    if kind == tuple[float, ...]:
        return tuple(_number(random) for _ in range(random.choice((0, 2))))
    if kind is bool:
        return random.random() < 0.5
    if kind is int:
        return random.choice((1, 2, 3, 4, 7, 12, 20))
    if float in (kind, *get_args(kind)):
        return _number(random)
    return default


def _number(random: Random) -> float:
    """A part of one, some percent, or all."""
    return random.choice((round(random.random(), 3), float(random.randint(1, 100)), 100.0))
