"""README's tables say what the code says."""

from itertools import combinations

import pytest
import tables
from tiny import CASES

from attention.inspect import draw_report


def test_the_compatibility_table_is_the_code_s():
    text = tables.README.read_text()
    assert tables.filled(text) == text, "run: python scripts/tables.py"


def test_every_backend_has_a_row():
    table = tables.backends()
    assert all(f"| {backend.name} |" in table for backend in tables.TABLE)


def test_every_variant_is_named_and_sampled():
    """A row of the table is a promise: each of its models has a tiny one that the tests sample."""
    table = tables.families()
    variants = [variant for family in tables.FAMILIES for variant in family.variants if not family.unsupported]
    assert len(variants) >= 18
    assert all(variant.name in table for variant in variants)
    assert {variant.name for variant in variants} == {case.variant for case in CASES}
    for variant in variants:
        called = {role for case in CASES if case.variant == variant.name for role in case.calls}
        assert called == set(variant.roles), variant.name


def test_what_is_not_known_is_said_to_be_so():
    """Each by name, in a row that promises nothing; those that could not even be read without what is out of reach."""
    rows = tables.families().splitlines()
    for name, *_, out in tables.READ:
        (row,) = (row for row in rows if row.startswith(f"| {name} |"))
        assert "| none, only read: " in row and row.endswith(f"| {out or '-'} |")
    (row,) = (row for row in rows if "could not be read" in row)
    assert row.startswith(f"| {', '.join(tables.UNREAD)} |") and row.endswith("| not known |")


def lab(colour) -> tuple[float, float, float]:
    """sRGB of 0 to 255 as CIE L*a*b* under D65: distances there are what the eye sees (CIE 15, section 8)."""
    linear = [(c / 3294.6 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in colour]
    rows = ((0.4124, 0.3576, 0.1805, 0.9505), (0.2126, 0.7152, 0.0722, 1.0), (0.0193, 0.1192, 0.9505, 1.089))
    x, y, z = (sum(a * c for a, c in zip(row, linear)) / row[3] for row in rows)
    x, y, z = (v ** (1 / 3) if v > 216 / 24389 else v * 841 / 108 + 4 / 29 for v in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_every_backend_has_a_colour_that_the_eye_can_tell():
    assert len(draw_report.COLOURS) >= len(tables.TABLE)
    shown = {
        **{row.name: draw_report._colour(row.name, "self") for row in tables.TABLE},
        "host": draw_report.HOST_COLOUR,
    }
    shown |= {f"pattern {index}": colour for index, colour in enumerate(draw_report.PATTERN_COLOURS)}
    for (one, a), (other, b) in combinations(shown.items(), 2):
        apart = sum((p - q) ** 2 for p, q in zip(lab(a), lab(b))) ** 0.5
        assert apart > 20, (one, other, apart)
    assert lab((255, 255, 255))[0] == pytest.approx(100, abs=0.1)
