"""README's tables say what the code says."""

import tables


def test_the_compatibility_table_is_the_code_s():
    text = tables.README.read_text()
    assert tables.filled(text) == text, "run: python scripts/tables.py"


def test_every_backend_has_a_row():
    table = tables.backends()
    assert all(f"| {backend.name} |" in table for backend in tables.TABLE)
