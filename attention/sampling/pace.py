"""How long a run will still take, from how fast its bar has moved."""

from __future__ import annotations

from collections import deque

# Marks that count: enough to smooth, few enough to follow a second stage of another cost.
MARKS = 9


class Pace:
    """Values of a bar and the seconds at which it came to them."""

    def __init__(self):
        self._marks: deque[tuple[float, float]] = deque(maxlen=MARKS)

    def mark(self, value: float, now: float) -> None:
        self._marks.append((value, now))

    def left(self, total: float) -> float | None:
        """Seconds until the bar is at `total`, None before two marks: the first step also loads the model."""
        if len(self._marks) < 2 or self._marks[-1][0] <= self._marks[0][0]:
            return None
        (begin, before), (value, now) = self._marks[0], self._marks[-1]
        return max(0.0, total - value) * (now - before) / (value - begin)


def to_text(seconds: float) -> str:
    """`0.4 s`, `18 s`, `3 min 20 s`, `1 h 2 min`."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
