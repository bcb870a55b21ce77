"""How long a run will still take, from how fast its bar has moved."""

from __future__ import annotations

from collections import deque

# Marks that count: enough to smooth, few enough to follow a second stage of another cost.
MARKS = 9


class TimeLeft:
    """Estimates the seconds until a bar is full, from its last values and when it came to them."""

    def __init__(self):
        self._marks: deque[tuple[float, float]] = deque(maxlen=MARKS)

    def mark(self, value: float, now: float) -> None:
        """Note that the bar came to `value` at `now`, in seconds."""
        self._marks.append((value, now))

    def seconds(self, total: float) -> float | None:
        """Return the seconds until the bar is at `total`; None before two marks: the first step loads the model."""
        if len(self._marks) < 2 or self._marks[-1][0] <= self._marks[0][0]:
            return None
        (begin, before), (value, now) = self._marks[0], self._marks[-1]
        return max(0.0, total - value) * (now - before) / (value - begin)


def to_text(seconds: float) -> str:
    """Write seconds as `0.4 s`, `18 s`, `3 min 20 s` or `1 h 2 min`."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
