"""What a guidance tells of itself: its paper, the calls it changes, what it costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guidance:
    """One row of the table.

    name: as reports and nodes call it.
    paper: its address.
    changes: which attention calls it changes.
    cost: what a covered step takes beyond the step without it.
    off: the values of widgets at which nothing changes.
    """

    name: str
    paper: str
    changes: str
    cost: str
    off: str
