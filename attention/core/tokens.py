"""Where the tokens of one model call sit: the video's own grid, and what comes before and after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod

from .reason import Reason
from .site import AUDIO_SELF, AUDIO_VIDEO, CROSS, IMAGE, POSE_SELF, SELF, SPATIAL, TEMPORAL, TEXT, VIDEO_AUDIO

Grid = tuple[int, int, int]

BOTH, QUERIES, KEYS = "both", "queries", "keys"
# On which side of a call the video's tokens are.
SIDES = dict.fromkeys((SELF, SPATIAL, TEMPORAL), BOTH)
SIDES |= dict.fromkeys((CROSS, IMAGE, VIDEO_AUDIO), QUERIES) | {AUDIO_VIDEO: KEYS}
# Roles of calls with as many queries as keys.
SAME = (SELF, SPATIAL, TEMPORAL, AUDIO_SELF, POSE_SELF, TEXT)


@dataclass(frozen=True)
class Span:
    """Tokens in a row that are not video.

    kind: "text", "reference", "guide", "audio" and others, as reports call them.
    length: tokens; None: all that remain.
    """

    kind: str
    length: int | None = None


@dataclass(frozen=True)
class VideoSpan:
    """Says where the video's tokens are in one call.

    grid: (T, Y, X) of them, in raster order.
    start: number of the first of them in the sequence.
    side: BOTH for self-attention, where queries and keys are the same tokens; QUERIES or KEYS for cross-attention.
    before: the spans in front of them, every length known.
    after: the spans behind them, every length known.
    part: (first, one past the last) of the sequence's tokens that are queries, where a self-attention is done in
        several calls; None: all of them.
    """

    grid: Grid
    start: int
    side: str
    before: tuple[Span, ...] = ()
    after: tuple[Span, ...] = ()
    part: tuple[int, int] | None = None

    @property
    def stop(self) -> int:
        """Return the index one past the last video token."""
        return self.start + prod(self.grid)

    @property
    def length(self) -> int:
        """Count the tokens of the whole sequence."""
        return self.stop + sum(span.length for span in self.after)

    @property
    def queries(self) -> slice:
        """Return where the video's tokens are among the call's queries; empty where none is."""
        first, last = self.part or (0, self.length)
        return slice(max(self.start, first) - first, max(self.start, first, min(self.stop, last)) - first)

    @property
    def cut(self) -> tuple[int, int]:
        """Return the video's tokens that are queries: (first, one past the last), counted from the video's first."""
        first = (self.part or (0, 0))[0] - self.start
        return first + self.queries.start, first + self.queries.stop


@dataclass(frozen=True)
class Tokens:
    """Describes the token sequence of one model call.

    grid: (T, Y, X) of the video's tokens in raster order; None when it cannot be known.
    prefix: what stands before the video in the same sequence. At most one length of prefix and suffix is None.
    suffix: what stands after it.
    unknown: why the grid cannot be known, else None.
    levels: the grids of a U-Net's coarser levels.
    keys: (role, number of keys) for calls that one module makes with several kinds of keys.
    branch: (role, role there, number of queries): the same modules run another sequence too, told by its length.
    guests: tokens of such a sequence that stand behind this one's own in the keys of some of its calls in parts.
    """

    grid: Grid | None
    prefix: tuple[Span, ...] = ()
    suffix: tuple[Span, ...] = ()
    unknown: str | None = None
    levels: tuple[Grid, ...] = ()
    keys: tuple[tuple[str, int], ...] = ()
    branch: tuple[tuple[str, str, int], ...] = ()
    guests: tuple[Span, ...] = ()

    def role(self, role: str, q_len: int, kv_len: int) -> str:
        """Return a call's role: as announced, or the one that the numbers of queries and keys tell.

        role: as announced, one of ROLES.
        q_len: queries of the call.
        kv_len: keys of the call.
        """
        for announced, there, length in self.branch:
            if role == announced and q_len == length and (role != SELF or kv_len == length):
                return there
        return next((r for r, length in self.keys if role == CROSS and length == kv_len), role)

    def likely(self, roles: tuple[str, ...], q_len: int, kv_len: int) -> str:
        """Return which of several roles a call has: the first that its lengths fit, else by whether they are equal.

        roles: the likeliest first.
        q_len: queries of the call.
        kv_len: keys of the call.
        """
        fitting = next((role for role in roles if self._fits(role, q_len, kv_len)), None)
        same = q_len == kv_len
        return fitting or next((r for r in roles if (r in SAME) == same), SELF if same else CROSS)

    def _fits(self, role: str, q_len: int, kv_len: int) -> bool:
        if self.grid is None:
            return False
        if role in (SPATIAL, TEMPORAL):
            return q_len == kv_len and isinstance(self.video_span(role, q_len, kv_len), VideoSpan)
        queries, keys = (isinstance(self._span_in(length, BOTH), VideoSpan) for length in (q_len, kv_len))
        side = SIDES.get(role)
        if side == BOTH:  # in parts too: some of the queries, all of the keys
            return keys and q_len <= kv_len
        if side == QUERIES:
            return queries and not keys
        if side == KEYS:
            return keys and not queries
        return not queries and not keys and (role in SAME) == (q_len == kv_len)

    def video_span(
        self, role: str, q_len: int, kv_len: int, begin: tuple[int, int] | None = None
    ) -> VideoSpan | Reason:
        """Find where the video is in a call, or why that cannot be told.

        role: of the call, one of ROLES.
        q_len: queries of the call.
        kv_len: keys of the call.
        begin: which token of a self-attention's sequence the first query is, and how many that sequence has, where the
            queries are a part of it and that is known.
        """
        side = SIDES.get(role)
        if side is None:
            return Reason("no video tokens")
        if self.grid is None:
            return Reason(self.unknown or "no grid")
        if side == BOTH and q_len != kv_len:
            return self._span_of_part(role, q_len, kv_len, begin)
        length = kv_len if side == KEYS else q_len
        if role in (SPATIAL, TEMPORAL) or self.levels:
            return self._span_folded(role, length, side)
        return self._span_in(length, side)

    def _span_in(self, length: int, side: str) -> VideoSpan | Reason:
        spans = (*self.prefix, *self.suffix)
        rest = length - prod(self.grid) - sum(span.length or 0 for span in spans)
        open_ended = any(span.length is None for span in spans)
        if rest < 0 or (rest and not open_ended):
            t, y, x = self.grid
            return Reason(f"{length} tokens do not fit the grid {t} x {y} x {x}")
        before = tuple(Span(s.kind, rest if s.length is None else s.length) for s in self.prefix)
        after = tuple(Span(s.kind, rest if s.length is None else s.length) for s in self.suffix)
        return VideoSpan(self.grid, sum(span.length for span in before), side, before, after)

    def _span_of_part(self, role: str, q_len: int, kv_len: int, begin: tuple[int, int] | None) -> VideoSpan | Reason:
        """Find the place of some queries among all, where all keys are there, if it can be told which these are."""
        what = Reason(f"self-attention in parts ({q_len} x {kv_len} tokens)")
        length, whole = kv_len, self.video_span(role, kv_len, kv_len)
        if isinstance(whole, Reason) and self.guests:
            length = kv_len - sum(span.length for span in self.guests)
            whole = self.video_span(role, length, length)
        if isinstance(whole, Reason) or q_len > length:
            return what
        if length < kv_len:
            whole = replace(whole, after=(*whole.after, *self.guests))
        first = begin[0] if begin is not None and begin[1] == length else self._part_by_length(whole, q_len, what)
        if isinstance(first, Reason):
            return first
        return replace(whole, part=(first, first + q_len)) if first + q_len <= length else what

    def _part_by_length(self, whole: VideoSpan, q_len: int, what: Reason) -> int | Reason:
        """Find where a part begins by the ends of spans alone; `what` says that there is one."""
        # Keys of something else may stand for a span of any length; the parts beside a branch are all of one length.
        if self.branch or any(span.length is None for span in (*self.prefix, *self.suffix)):
            return what
        ends = list(accumulate((span.length for span in whole.before), initial=0))
        ends += accumulate((span.length for span in whole.after), initial=whole.stop)
        found = {a for a in ends for b in ends if b - a == q_len}
        if len(found) == 1:
            return found.pop()
        return Reason(f"{what}, which of {len(found)} is not known") if found else what

    def _span_folded(self, role: str, length: int, side: str) -> VideoSpan | Reason:
        """Find the span where other axes are in the batch: the sequence is one frame, or one place over time."""
        grids = (self.grid, *self.levels)
        spatial = [(1, y, x) for _, y, x in grids if y * x == length and role != TEMPORAL]
        temporal = [(t, 1, 1) for t, _, _ in grids[:1] if t == length and role != SPATIAL]
        if spatial and temporal:
            return Reason(f"{length} tokens may be a frame or a place over time")
        if spatial or temporal:
            return VideoSpan((spatial or temporal)[0], 0, side)
        return Reason(f"{length} tokens fit no level of the grid {' x '.join(map(str, self.grid))}")
