"""What many views of one model evaluation say together: heat over the clip, shares by block, tokens of the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch
import torch.nn.functional as F

from ..core.grid import coordinates
from ..core.timing import elapsed
from ..core.tokens import BOTH, Grid
from ..routing.rules import Rule, format_blocks
from .maps import KINDS, Query, View, spans, uniform

MOST_NAMED = 5


@dataclass(frozen=True)
class TokenShares:
    """What the tokens of one kind receive from the queries.

    kind: of tokens: text, image, audio or what else is in the sequence.
    role: of the attention that reads them.
    blocks: that have such tokens.
    chosen: which of those blocks count.
    weights: (blocks, tokens), means over the queries: of cross-attention each row sums to 1, of self-attention to the
        share of this kind.
    """

    kind: str
    role: str
    blocks: tuple[int, ...]
    chosen: tuple[bool, ...]
    weights: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """Return the mean (tokens,) over the chosen blocks."""
        return self.weights[list(self.chosen)].mean(0)


@dataclass(frozen=True)
class Maps:
    """What many views of one model evaluation say together.

    heat: (T, Y, X), what each token of the video receives in the mean of the chosen blocks.
    queries: raster indices in the heat's grid, (Q,).
    shares: block -> part -> share of its self-attention, of every block.
    chosen: the blocks that count.
    mean: part -> share, over those.
    even: the same of attention that looks at everything alike.
    token_shares: what the other tokens receive.
    block_heat: block -> as heat, of every block by itself.
    """

    heat: torch.Tensor
    queries: torch.Tensor
    shares: dict[int, dict[str, float]]
    chosen: tuple[int, ...]
    mean: dict[str, float]
    even: dict[str, float]
    token_shares: tuple[TokenShares, ...]
    block_heat: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        """Return the grid of the heat, (T, Y, X)."""
        return tuple(self.heat.shape)


def summarise_views(views: Sequence[View], query: Query, blocks: tuple = ()) -> Maps | None:
    """Sum up views of one model evaluation; None when no chosen block has self-attention.

    views: of all its calls.
    query: whose they are.
    blocks: those that count, spans as in Rule; empty: all.
    """
    rule = Rule(blocks=blocks)
    own = [view for view in views if view.video_span.side == BOTH]
    counted = [view for view in own if rule.covers(view.site)]
    if not counted:
        return None
    grid = max((view.video_span.grid for view in counted), key=prod)
    return Maps(
        _heat(counted, grid),
        query.tokens(grid),
        {block: _mean([v.shares for v in own if v.site.block == block]) for block in _blocks(own)},
        _blocks(counted),
        _mean([view.shares for view in counted]),
        _mean([uniform(view.video_span) for view in counted]),
        tuple(_token_shares(views, rule)),
        {block: _heat([view for view in own if view.site.block == block], grid) for block in _blocks(own)},
    )


def _blocks(views: Sequence[View]) -> tuple[int, ...]:
    return tuple(sorted({view.site.block for view in views}))


def _heat(views: Sequence[View], grid: Grid) -> torch.Tensor:
    return torch.stack([_on_grid(view.heat, grid) for view in views]).mean(0)


def _mean(shares: Sequence[dict[str, float]]) -> dict[str, float]:
    parts = dict.fromkeys(part for one in shares for part in one)
    return {part: sum(one.get(part, 0.0) for one in shares) / len(shares) for part in parts}


def _on_grid(heat: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Spread heat of a coarser grid, as a U-Net's inner levels have, on `grid`; the sum stays."""
    if tuple(heat.shape) == grid:
        return heat
    finer = F.interpolate(heat[None, None], grid, mode="nearest")[0, 0]
    return finer * (heat.sum() / finer.sum().clamp(min=torch.finfo(heat.dtype).tiny))


def _token_shares(views: Sequence[View], rule: Rule):
    """Make one TokenShares for each kind, role and number of tokens."""
    found: dict[tuple, list[tuple[View, torch.Tensor]]] = {}
    for view in views:
        if view.video_span.side != BOTH:
            found.setdefault((KINDS[view.site.role], view.site.role, len(view.weights)), []).append(
                (view, view.weights)
            )
            continue
        for kind, part in spans(view.video_span):
            if part.stop > part.start:
                key = kind, view.site.role, part.stop - part.start
                found.setdefault(key, []).append((view, view.weights[part]))
    for (kind, role, _), members in found.items():
        blocks = _blocks([view for view, _ in members])
        weights = [torch.stack([w for view, w in members if view.site.block == block]).mean(0) for block in blocks]
        chosen = {view.site.block for view, _ in members if rule.covers(view.site)}
        if chosen:
            yield TokenShares(kind, role, blocks, tuple(block in chosen for block in blocks), torch.stack(weights))


def percent(share: float) -> str:
    """Write a share as `12.3 %`, with two figures at least."""
    return f"{100 * share:.1f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def place_name(grid: Grid, index: int) -> str:
    """Say where a raster index is: `frame 3, row 4, column 0`."""
    return "frame {}, row {}, column {}".format(*map(int, coordinates(grid, index)))


def to_text(maps: Maps, views: Sequence[View], left_out: dict[str, str], heads: str = "") -> str:
    """Write down whose view it is, where it is brightest, shares by block, the prompt's tokens, the cost.

    views: that the maps are of.
    left_out: role -> why its calls have no view.
    heads: as the user wrote them; empty: all.
    """
    frames, rows, columns = maps.grid
    first = place_name(maps.grid, int(maps.queries[0]))
    count = len(maps.queries)
    whose = f"the token at {first}" if count == 1 else f"{count} tokens, the first at {first}"
    brightest = int(maps.heat.argmax())
    peak, even = maps.heat.max().item(), 1.0 / len(next(v for v in views if v.video_span.side == BOTH).weights)
    heads = f"mean of heads {heads}" if heads.strip() else "mean of all heads"
    lines = [
        f"View of {whose}, of {frames} x {rows} x {columns} tokens (time x height x width).",
        f"Heat: blocks {format_blocks(maps.chosen)}, {heads}. Brightest: {percent(peak)} of the attention on "
        f"{place_name(maps.grid, brightest)}, {peak / even:.1f} times an even share.",
        "",
        *_table(maps),
        "",
        *map(_token_shares_text, maps.token_shares),
        *(f"No map of {role}-attention: {reason}." for role, reason in left_out.items()),
        _cost(views),
    ]
    return "\n".join(lines)


def _table(maps: Maps) -> list[str]:
    parts = list(dict.fromkeys(part for shares in (*maps.shares.values(), maps.even) for part in shares))
    rows = {f"{block}": shares for block, shares in maps.shares.items()}
    rows |= {f"mean of {format_blocks(maps.chosen)}": maps.mean, "if even": maps.even}
    cells = [["block", *parts]]
    cells += [[name, *(percent(shares.get(part, 0.0)) for part in parts)] for name, shares in rows.items()]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]


def _token_shares_text(received: TokenShares) -> str:
    mean = received.mean
    most = mean.topk(min(MOST_NAMED, len(mean)))
    named = ", ".join(f"{int(i)} ({percent(v.item())})" for v, i in zip(*most))
    return f"{received.kind}: {len(mean)} tokens in {received.role}-attention; most on number {named}."


def _cost(views: Sequence[View]) -> str:
    seconds = sum(elapsed(view.span) for view in views)
    largest = max(view.numbers for view in views) * 4 / 2**20
    return (
        f"Cost: one evaluation of the model, and {seconds:.3g} s beside it for {len(views)} attention calls "
        f"(buffers of {largest:.2g} MiB). Renders without this node pay nothing."
    )
