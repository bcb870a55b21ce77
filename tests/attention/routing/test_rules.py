"""Rules: which site they cover, what their block lists mean, and the sentence for each wrong widget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention.backends import registry
from attention.core.site import CROSS, ROLES, SELF, AttentionSite
from attention.routing.rules import CHOICES, Rule, check, format_blocks, parse_blocks

PARSED = (
    ("", ()),
    ("  ", ()),
    ("7", ((7, 7),)),
    ("0-3", ((0, 3),)),
    ("40-", ((40, None),)),  # open: to the last block, however many there are
    ("0-3,7,40-", ((0, 3), (7, 7), (40, None))),
    (" 0 - 3 , 7 ", ((0, 3), (7, 7))),
    ("40 -", ((40, None),)),
    ("3-3", ((3, 3),)),
    ("0-3,,7,", ((0, 3), (7, 7))),  # what is left after deleting an entry
    ("5,1,5", ((5, 5), (1, 1), (5, 5))),  # order and repeats are the user's own
    ("007", ((7, 7),)),
)


@pytest.mark.parametrize(("text", "expected"), PARSED)
def test_parse_blocks(text, expected):
    assert parse_blocks(text) == expected


NOT_BLOCKS = (
    "a",
    "-3",  # negative indices count from the end elsewhere: refused rather than guessed
    "1-2-3",
    "1.5",
    "0:3",  # a slice
    "0;3",
    "1 2",  # a forgotten comma must not become block 12
    "-",
    "all",
)


@pytest.mark.parametrize("text", NOT_BLOCKS)
@pytest.mark.parametrize("around", ["{}", "0-3,{}", "{},9"])
def test_what_is_no_block_is_quoted(text, around):
    with pytest.raises(ValueError) as error:
        parse_blocks(around.format(text))
    assert str(error.value) == (f"blocks: {text!r} is not a block or a span of blocks; write 0-3,7,40- for example.")


def test_a_span_that_ends_before_it_begins():
    with pytest.raises(ValueError) as error:
        parse_blocks("1,9-2")
    assert str(error.value) == "blocks: '9-2' ends before it begins; write 2-9."


FORMATTED = (
    ((), ""),
    ({5}, "5"),
    ({0, 1, 2, 5}, "0-2,5"),
    ([2, 0, 1], "0-2"),
    (range(28), "0-27"),
    ({1, 3, 5}, "1,3,5"),
)


@pytest.mark.parametrize(("blocks", "expected"), FORMATTED)
def test_format_blocks(blocks, expected):
    assert format_blocks(blocks) == expected


@given(st.sets(st.integers(0, 80)))
def test_blocks_survive_the_round_trip(blocks):
    spans = parse_blocks(format_blocks(blocks))
    assert {block for lo, hi in spans for block in range(lo, hi + 1)} == blocks
    # Sorted, apart, and none of them open.
    assert all(hi is not None and lo <= hi for lo, hi in spans)
    assert all(hi + 1 < lo for (_, hi), (lo, _) in zip(spans, spans[1:]))


@given(st.sets(st.integers(0, 80), min_size=1), st.integers(0, 80))
def test_a_rule_covers_the_blocks_it_names(blocks, block):
    rule = Rule(blocks=parse_blocks(format_blocks(blocks)))
    assert rule.covers(AttentionSite("LTXV", SELF, block)) is (block in blocks)


@pytest.mark.parametrize("role", ["all", SELF, CROSS])
@pytest.mark.parametrize("site", [SELF, CROSS])
@pytest.mark.parametrize("block", [None, 3])
def test_roles(role, site, block):
    assert Rule(role=role).covers(AttentionSite("", site, block)) is (role in ("all", site))
    # An unknown block is in no list, not even in one that is open from 0.
    assert Rule(role=role, blocks=((0, None),)).covers(AttentionSite("", site, block)) is (
        role in ("all", site) and block is not None
    )


@pytest.mark.parametrize(
    ("start", "end", "always"), [(0.0, 1.0, True), (0.0, 0.99, False), (0.01, 1.0, False), (0, 1, True)]
)
def test_always(start, end, always):
    assert Rule(start=start, end=end).always is always


GOOD = {"backend": "sdpa", "role": "all", "blocks": "", "start": 0.0, "end": 1.0}
WRONG = (
    ({"backend": "nonsense"}, f"backend: 'nonsense' is not known. Known: {', '.join(CHOICES)}."),
    ({"role": "tempo"}, f"role: 'tempo' is not known. Known: all, {', '.join(ROLES)}."),
    ({"role": ""}, f"role: '' is not known. Known: all, {', '.join(ROLES)}."),
    ({"start": -0.1}, "start_percent and end_percent: -0.1 and 1 must lie between 0 and 1."),
    ({"end": 1.5}, "start_percent and end_percent: 0 and 1.5 must lie between 0 and 1."),
    ({"end": float("nan")}, "start_percent and end_percent: 0 and nan must lie between 0 and 1."),
    ({"start": 0.5, "end": 0.25}, "start_percent: 0.5 must be below end_percent, which is 0.25."),
    ({"start": 0.5, "end": 0.5}, "start_percent: 0.5 must be below end_percent, which is 0.5."),
    ({"blocks": "x"}, "blocks: 'x' is not a block or a span of blocks; write 0-3,7,40- for example."),
    ({"blocks": "4-1"}, "blocks: '4-1' ends before it begins; write 1-4."),
)


@pytest.mark.parametrize(("change", "sentence"), WRONG, ids=lambda value: str(value)[:40])
def test_every_error_is_one_sentence(change, sentence):
    assert check(**{**GOOD, **change}) == sentence


RIGHT = ({}, {"blocks": "0-3,40-"}, {"role": "cross"}, {"start": 0.2, "end": 0.8}, *({"backend": b} for b in CHOICES))


@pytest.mark.parametrize("change", RIGHT, ids=str)
def test_right_widgets_pass(change):
    assert check(**{**GOOD, **change}) is None


def test_first_wrong_widget_is_named():
    assert check("nonsense", "nobody", "x", 2, 1).startswith("backend:")
    assert check("sdpa", "nobody", "x", 2, 1).startswith("role:")
    assert check("sdpa", "all", "x", 2, 1).startswith("start_percent and end_percent:")


def test_choices_list_what_is_not_installed_too():
    """A workflow made on another machine must open here."""
    assert list(CHOICES) == [registry.AUTO, registry.HOST, *registry.names()]
    assert len(set(CHOICES)) == len(CHOICES)
