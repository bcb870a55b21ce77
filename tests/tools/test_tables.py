"""The pages' tables say what the code says."""

import pytest
import tables
from tiny import CASES


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_what_follows_from_the_code_is_the_code_s(page):
    text = page.read_text()
    assert tables.filled(text, tables.PAGES[page]) == text, "run: python scripts/tables.py"


def test_a_page_s_starting_values_are_those_of_the_presets():
    said = tables.pattern_start()
    for model in tables.SHOWN:
        preset = tables.presets.find(model, tables.presets.BALANCED)
        assert (
            f"`keep` {preset.pattern.percentages[0]:g}" in said and type(preset.pattern.pattern).__name__ == "TopBlocks"
        )
        assert f"`start_percent` {preset.pattern.start:g}" in said
        assert f"`max_error` {preset.forecast.max_error:g}" in tables.forecast_start()


def test_every_backend_has_a_row():
    table = tables.backends()
    assert all(f"| {backend.name} |" in table for backend in tables.TABLE)


def test_every_variant_is_named_and_sampled():
    """A row of the table is a promise: each of its models has a tiny one that the tests sample."""
    table = tables.families()
    variants = [variant for family in tables.FAMILIES for variant in family.variants if not family.unsupported]
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
