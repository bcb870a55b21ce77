"""Where the tokens of one model call sit: the video's own grid, and what comes before and after it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from .site import AUDIO_VIDEO, CROSS, IMAGE, SELF, SPATIAL, TEMPORAL, VIDEO_AUDIO

Grid = tuple[int, int, int]

BOTH, QUERIES, KEYS = "both", "queries", "keys"
# On which side of a call the video's tokens are.
SIDES = dict.fromkeys((SELF, SPATIAL, TEMPORAL), BOTH)
SIDES |= dict.fromkeys((CROSS, IMAGE, VIDEO_AUDIO), QUERIES) | {AUDIO_VIDEO: KEYS}


@dataclass(frozen=True)
class Span:
    """Tokens that are not video. kind: "text", "reference", "guide", "audio" ...; length None: all that remain."""

    kind: str
    length: int | None = None


@dataclass(frozen=True)
class Place:
    """The video's tokens in one call: `grid` in raster order from token `start` on the `side` that has them.

    side: BOTH for self-attention, where queries and keys are the same tokens; QUERIES or KEYS for cross-attention.
    before, after: the spans around them, every length known. order: in which they stand where they have been moved,
    boxes of grid.CUBE; see grid.order.
    """

    grid: Grid
    start: int
    side: str
    before: tuple[Span, ...] = ()
    after: tuple[Span, ...] = ()
    order: str = "raster"

    @property
    def stop(self) -> int:
        """One past the last video token."""
        return self.start + prod(self.grid)


@dataclass(frozen=True)
class Tokens:
    """The token sequence of one model call.

    grid: (T, Y, X) of the video's tokens in raster order; None when it cannot be known: `unknown` says why.
    prefix, suffix: what stands before and after the video in the same sequence. At most one length is None.
    levels: the grids of a U-Net's coarser levels.
    keys: (role, number of keys) for calls that one module makes with several kinds of keys.
    branch: (role, role there, number of queries): the same modules run another sequence too, told by its length.
    order: as of Place.
    """

    grid: Grid | None
    prefix: tuple[Span, ...] = ()
    suffix: tuple[Span, ...] = ()
    unknown: str | None = None
    levels: tuple[Grid, ...] = ()
    keys: tuple[tuple[str, int], ...] = ()
    branch: tuple[tuple[str, str, int], ...] = ()
    order: str = "raster"

    def role(self, role: str, q_len: int, kv_len: int) -> str:
        """`role` as announced, or the one that the numbers of queries and keys tell."""
        for announced, there, length in self.branch:
            if role == announced and q_len == length and (role != SELF or kv_len == length):
                return there
        return next((r for r, length in self.keys if role == CROSS and length == kv_len), role)

    def place(self, role: str, q_len: int, kv_len: int) -> Place | str:
        """Where the video is in a call of that role and those lengths, or why that cannot be told."""
        side = SIDES.get(role)
        if side is None:
            return "no video tokens"
        if self.grid is None:
            return self.unknown or "no grid"
        if side == BOTH and q_len != kv_len:
            return f"self-attention in parts ({q_len} x {kv_len} tokens)"
        length = kv_len if side == KEYS else q_len
        if role in (SPATIAL, TEMPORAL) or self.levels:
            return self._place_folded(role, length, side)
        return self._place_in(length, side)

    def _place_in(self, length: int, side: str) -> Place | str:
        spans = (*self.prefix, *self.suffix)
        rest = length - prod(self.grid) - sum(span.length or 0 for span in spans)
        open_ended = any(span.length is None for span in spans)
        if rest < 0 or (rest and not open_ended):
            t, y, x = self.grid
            return f"{length} tokens do not fit the grid {t} x {y} x {x}"
        before = tuple(Span(s.kind, rest if s.length is None else s.length) for s in self.prefix)
        after = tuple(Span(s.kind, rest if s.length is None else s.length) for s in self.suffix)
        return Place(self.grid, sum(span.length for span in before), side, before, after, self.order)

    def _place_folded(self, role: str, length: int, side: str) -> Place | str:
        """Other axes are folded into the batch: one frame, or one place over time, is the whole sequence."""
        grids = (self.grid, *self.levels)
        spatial = [(1, y, x) for _, y, x in grids if y * x == length and role != TEMPORAL]
        temporal = [(t, 1, 1) for t, _, _ in grids[:1] if t == length and role != SPATIAL]
        if spatial and temporal:
            return f"{length} tokens may be a frame or a place over time"
        if spatial or temporal:
            return Place((spatial or temporal)[0], 0, side)
        return f"{length} tokens fit no level of the grid {' x '.join(map(str, self.grid))}"
