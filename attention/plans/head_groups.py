"""Head groups of a calibration: how many blocks each needs for an error that one number for all heads makes as well."""

from __future__ import annotations

from dataclasses import replace

from ..patterns.blocks import TopBlocks

# Percentages of key blocks whose error is measured for each group of heads.
LEVELS = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0)
MOST_GROUPS = 8
# Seeing hardly less is not worth a measurement.
SAVES = 0.95


def count(heads: int) -> int:
    """Count the groups of equal size into which heads are divided: MOST_GROUPS or the next fewer that fits."""
    return next(groups for groups in range(MOST_GROUPS, 0, -1) if heads % groups == 0)


def levels(patterns) -> tuple[TopBlocks, ...]:
    """List what to measure for each group of heads before `assign`: TopBlocks of one number, each at all LEVELS too."""
    uniform = [pattern for pattern in patterns if isinstance(pattern, TopBlocks) and not pattern.by_heads]
    return tuple(dict.fromkeys(replace(p, keep=number) for p in uniform for number in (p.keep, *LEVELS)))


def assign(pattern: TopBlocks, measured: list[dict]) -> TopBlocks | None:
    """Give a pattern a number for each group of heads.

    pattern: TopBlocks of one number.
    measured: for each call one {TopBlocks of one number: squared error of each group, over the squared norm of the
        whole output}; of these the mean counts.

    Each of G groups gets the smallest number measured at which its squared error is at most 1 / G of the squared error
    that `pattern` makes with its one number; all blocks where none is small enough. So together they make no more.
    None where `pattern` was not measured or makes no error, or where its groups would not see less than SAVES of what
    it sees.
    """
    known = [one for one in levels([pattern]) if measured and all(one in call for call in measured)]
    errors = {
        one.keep: [sum(group) / len(measured) for group in zip(*(call[one] for call in measured))] for one in known
    }
    if not sum(errors.get(pattern.keep, ())):
        return None
    groups = len(errors[pattern.keep])
    limit = sum(errors[pattern.keep]) / groups
    numbers = tuple(
        min((number for number, error in errors.items() if error[group] <= limit), default=100.0)
        for group in range(groups)
    )
    made = replace(pattern, keep=max(numbers), by_heads=numbers)
    return made if _sees(made) < SAVES * pattern.keep else None


def best(patterns, measured: list[dict]) -> TopBlocks | None:
    """Choose, of what `assign` makes of these patterns, what sees least beside the one it was made of."""
    uniform = [pattern for pattern in patterns if isinstance(pattern, TopBlocks) and not pattern.by_heads]
    made = [(_sees(found) / pattern.keep, found) for pattern in uniform if (found := assign(pattern, measured))]
    return min(made, key=lambda one: one[0], default=(1.0, None))[1]


def _sees(pattern: TopBlocks) -> float:
    return sum(pattern.by_heads) / len(pattern.by_heads)
