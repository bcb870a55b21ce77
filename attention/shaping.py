"""How many of the calls that a pattern covers it really shaped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .site import SELF, SPATIAL, TEMPORAL
from .tally import TAKEN, Record, Tally


@dataclass(frozen=True)
class Shaping:
    """What the patterns of a run did.

    shaped: calls that ran by one. covered: calls that a pattern's rule covers. seen: calls that attend among the
    video's own tokens, covered or not. reasons: why a covered call stayed dense -> calls.
    """

    shaped: int = 0
    covered: int = 0
    seen: int = 0
    reasons: Counter = field(default_factory=Counter)

    def __add__(self, other: Shaping) -> Shaping:
        values = ("shaped", "covered", "seen", "reasons")
        return Shaping(*(getattr(self, name) + getattr(other, name) for name in values))

    def sentence(self) -> str:
        """Says what stayed dense and the first reason; empty when every covered call was shaped, or none was seen."""
        if not self.seen or (self.covered and self.shaped == self.covered):
            return ""
        if not self.covered:
            why = "none is in its blocks and steps"
        else:
            why, others = self.reasons.most_common(1)[0][0], len(self.reasons) - 1
            why += f", and {others} more reason{'s' if others > 1 else ''}" if others else ""
        return f"The pattern shaped {self.shaped} of {self.covered or self.seen} self-attention calls: {why}."

    def as_dict(self) -> dict:
        """Plain data, for JSON."""
        reasons = [{"reason": reason, "calls": calls} for reason, calls in self.reasons.most_common()]
        return {"shaped": self.shaped, "covered": self.covered, "seen": self.seen, "reasons": reasons}


def shaping_of(tally: Tally) -> Shaping | None:
    """The Shaping of a run; None without any pattern."""
    shaped = covered = seen = 0
    reasons: Counter = Counter()
    for key, record in tally.whole():
        own = record.site.role in (SELF, SPATIAL, TEMPORAL)
        seen += record.answered if own else 0
        by_rule = record.rule is not None and record.rule.shape is not None
        lost = _taker(key, record) if own and any(rule.covers(record.site) for rule in tally.patterned) else None
        if not (by_rule or lost or record.dense is not None):
            continue
        covered += record.answered
        dense = record.fell_back - record.below if by_rule else record.answered
        shaped += record.answered - dense
        if dense:
            reasons[record.reason if by_rule else record.dense or f"taken by {lost}"] += dense
    return Shaping(shaped, covered, max(seen, covered), reasons) if tally.patterned or covered else None


def _taker(key: tuple, record: Record) -> str | None:
    """Who ran the calls of a Record that no router with a pattern was asked for; None where one was."""
    if key[0] == TAKEN:
        return record.used
    # The pattern's node stands before another pack's override, and this router behind that.
    router = key[0]
    return record.used if router.previous is not None and not any(r.shape for r in router.rules) else None
