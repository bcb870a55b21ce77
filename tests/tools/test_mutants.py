"""The small changes that scripts/mutate.py makes: each one alone, readable, and none where nothing could notice."""

from __future__ import annotations

import ast

import pytest
from mutants import mutants

CHANGES = {
    "a < b": {"a <= b"},
    "a is None": {"a is not None"},
    "x = a * b": {"x = a / b"},
    "x -= 1": {"x += 1", "x -= (2)"},
    "a and b and c": {"(a) or (b and c)", "(a and b) or (c)"},
    "not a": {"bool(a)"},
    "x = -a": {"x = a"},
    "x = True": {"x = False"},
    "x = 0.5": {"x = (1.5)"},
    "min(a, b)": {"max(a, b)"},
    "f(a, key=b)": {"f(a)"},
    "f(one=a, two=b)": {"f( two=b)", "f(one=a)"},
    "if a: pass": {"if (not (a)): pass"},
    "[x for x in y if x]": {"[x for x in y if (not (x))]"},
    "def f(): return a": {"def f(): return None"},
    # Words and types, and what a check of types reads.
    "x = 'a' + b": set(),
    "x = f'{a:3}'": set(),
    "x: tuple[int, 3] = a": set(),
    "def f(a: 'int | 3') -> 4: pass": set(),
    "assert a < b": set(),
    "def f(): return None": set(),
}


@pytest.mark.parametrize("text", CHANGES)
def test_changes(text):
    assert {found.apply(text) for found in mutants("a.py", text)} == CHANGES[text]


def test_lines_below_stay_where_they_are():
    text = "f(\n    a,\n    key=[\n        b,\n    ],\n)\nx = 1\n"
    for found in mutants("a.py", text):
        assert ast.parse(found.apply(text)).body[-1].lineno == 7
        assert text.splitlines()[found.line - 1].strip() == found.around or found.kind == "keyword"
