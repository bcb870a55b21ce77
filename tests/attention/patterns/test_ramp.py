"""A pattern's percentage over the steps: few values, from the first to the last; and the rules that have it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention import patterns
from attention.backends.registry import AUTO
from attention.core.site import SELF, AttentionSite
from attention.patterns.ramp import APART, CONSTANT, COSINE, LINEAR, MOST, SHAPES, STAIRS, STEPS, Ramp
from attention.routing.rules import Rule, Shape, covering

PERCENT = st.floats(0.1, 100).map(lambda number: round(number, 1))


@given(PERCENT, PERCENT, st.sampled_from(SHAPES))
def test_percentages_go_from_the_first_to_the_last(begin, end, shape):
    found = Ramp(end, shape).percentages(begin)
    assert found[0] == begin and found[-1] == (begin if shape == CONSTANT else end)
    assert len(found) <= (STAIRS if shape == STEPS else MOST) and len(set(found)) == len(found)
    assert list(found) == sorted(found, reverse=begin > end)
    # None is planned that hardly differs from its neighbour.
    assert len(found) <= 2 or shape == COSINE or min(abs(a - b) for a, b in pairwise(found)) > APART / 2 - 1


def test_shapes_by_hand():
    assert Ramp(30.0).percentages(50.0) == (50.0, 45.0, 40.0, 35.0, 30.0)
    assert Ramp(10.0).percentages(10.0) == (10.0,)
    assert Ramp(15.0, STEPS).percentages(45.0) == (45.0, 30.0, 15.0)
    cosine = Ramp(0.0 + 10.0, COSINE).percentages(80.0)
    # Slow at both ends, symmetric about the middle.
    assert len(cosine) == MOST and cosine[0] - cosine[1] < cosine[3] - cosine[4]
    assert all(a + b == pytest.approx(90.0, abs=1) for a, b in zip(cosine, reversed(cosine)))


@pytest.mark.parametrize(
    ("end", "shape", "words"), [(0.0, LINEAR, "keep_end: 0"), (101, LINEAR, "101"), (5, "x", "'x'")]
)
def test_a_ramp_that_cannot_be_is_refused(end, shape, words):
    with pytest.raises(ValueError, match=words):
        Ramp(end, shape)


def test_groups_of_heads_keep_their_share():
    found = Ramp(20.0).patterns(patterns.TopBlocks(40.0, tail=True, by_heads=(40.0, 10.0)))
    assert [one.by_heads for one in found] == [(one.keep, pytest.approx(one.keep / 4)) for one in found]
    assert all(one.tail for one in found) and [one.keep for one in found] == [40.0, 35.0, 30.0, 25.0, 20.0]


@pytest.mark.parametrize("row", patterns.TABLE)
def test_patterns_without_a_percentage_have_no_ramp(row):
    if row in (patterns.TopBlocks, patterns.MassBlocks):
        assert len(Shape(row(80.0), ramp=Ramp(20.0)).stretches) == MOST
        return
    if row is patterns.AdaptiveBlocks:
        assert [one.pattern.tau for one in Shape(row(1.0), ramp=Ramp(2.0)).stretches] == [1.0, 1.25, 1.5, 1.75, 2.0]
        return
    pattern = row((patterns.Spatial(),)) if row in (patterns.Union, patterns.Intersection) else row()
    with pytest.raises(ValueError, match=f"ramp: {pattern.name} has no percentage"):
        Shape(pattern, ramp=Ramp(20.0))


def test_a_rule_says_what_holds_in_each_stretch():
    rule = Rule("", SELF, shape=Shape(patterns.TopBlocks(50.0), AUTO, 7, Ramp(30.0)))
    assert not rule.always and rule.stretches == 5
    site = AttentionSite("Wan", SELF, 3)
    held = [covering((rule,), (stretch,), site) for stretch in range(6)]
    assert held[0] == []
    shapes = [one.shape for (one,) in held[1:]]
    assert [shape.pattern.keep for shape in shapes] == [50.0, 45.0, 40.0, 35.0, 30.0]
    assert all(shape.min_tokens == 7 and shape.ramp is None and shape.of == rule.shape for shape in shapes)
    assert shapes[1].label == "top blocks 45 %" and rule.shape.label == "top blocks"
    # The same object each time: what is decided for a stretch is found again.
    assert covering((rule,), (2,), site)[0] is held[2][0]
    plain = Rule("", SELF, shape=Shape(patterns.TopBlocks(50.0)))
    assert plain.always and plain.at(1) is plain


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.sampled_from(SHAPES))
def test_thresholds_go_from_the_first_to_the_last(begin, end, shape):
    found = Shape(patterns.AdaptiveBlocks(begin), ramp=Ramp(end, shape)).stretches
    taus = [one.pattern.tau for one in found]
    assert taus[0] == begin and taus[-1] == (begin if shape == CONSTANT else end)
    assert len(taus) <= (STAIRS if shape == STEPS else MOST) and taus == sorted(taus, reverse=begin > end)
    assert len(taus) < 2 or len({one.label for one in found}) == len({f"{tau:g}" for tau in taus})
    assert all(one.label == f"adaptive blocks tau {one.pattern.tau:g}" for one in found if one.of)
