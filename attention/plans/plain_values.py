"""Values of a plan's file as JSON has them: each is asked for by name, and of exactly one kind."""

from __future__ import annotations


class BadPlan(ValueError):
    """A file that is no plan; the sentence says where."""


def table(pairs: list) -> dict:
    """Read a JSON object. Of two equal names one would win without a word."""
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a name twice in one table")
    return data


def only(data: dict, known: list[str], where: str) -> None:
    """Ask for exactly these names: a missing one has no value to take, a strange one a meaning that nobody knows."""
    strange, lacking = [key for key in data if key not in known], [key for key in known if key not in data]
    if strange:
        raise BadPlan(f"{where}: {strange[0][:40]!r} does not belong there.")
    if lacking:
        raise BadPlan(f"{where}: {lacking[0]!r} is missing.")


def number(data: dict, name: str, high: float = 1e12, where: str = "plan") -> float:
    """Read a number from 0 to `high`."""
    # Compared before it is converted: an integer of 1000 digits is no float. NaN compares false.
    if type(data[name]) not in (int, float) or not 0 <= data[name] <= high:
        raise BadPlan(f"{where}: {name} is not a number from 0 to {high:g}.")
    return float(data[name])


def count(value, name: str) -> int:
    """Read a count."""
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise BadPlan(f"plan: {name} is not a count.")
    return value


def short(value, name: str) -> str:
    """Read a short text."""
    # What cannot be printed cannot be shown on a node, or, as half of a surrogate pair, not even be written.
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise BadPlan(f"plan: {name} is not a short text.")
    return value


def no_constant(name: str):
    """Refuse NaN and the like."""
    raise ValueError(f"{name} is no JSON number")
