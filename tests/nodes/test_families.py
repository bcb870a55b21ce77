"""Where the video sits in a call, from lengths alone, and what the table of families promises."""

from __future__ import annotations

import re
from collections import defaultdict
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import CASES, seedvr2
from tiny.case import sample, watch, with_sites

from attention import families
from attention.core.reason import Reason
from attention.core.site import AUDIO_VIDEO, CROSS, IMAGE, ROLES, SELF, SPATIAL, TEMPORAL
from attention.core.tokens import BOTH, KEYS, QUERIES, SIDES, Span, Tokens, VideoSpan
from attention.families import unplaced
from attention.families.spec import Family, ceil_div

CLASS, WORD = re.compile(r"^class (\w+)", re.MULTILINE), re.compile(r"\w+")
STOOD_IN = re.compile(r"Where\s+ComfyUI is too old for .*? takes the class's place", re.DOTALL)
LENGTHS = st.integers(1, 9)
GRIDS = st.tuples(LENGTHS, LENGTHS, LENGTHS)
SPANS = st.lists(st.builds(Span, st.sampled_from(("text", "reference", "audio")), st.integers(0, 40)), max_size=3)


def lengths_for(role, tokens) -> tuple[int, int]:
    """(q_len, kv_len) of a call whose other side has 3 tokens."""
    return {BOTH: (tokens, tokens), QUERIES: (tokens, 3), KEYS: (3, tokens)}[SIDES[role]]


@given(GRIDS, SPANS, SPANS, st.sampled_from((SELF, CROSS, IMAGE, AUDIO_VIDEO)))
def test_place_keeps_the_order(grid, prefix, suffix, role):
    tokens = Tokens(grid, tuple(prefix), tuple(suffix))
    start = sum(span.length for span in prefix)
    length = start + prod(grid) + sum(span.length for span in suffix)
    video_span = tokens.video_span(role, *lengths_for(role, length))
    assert video_span == VideoSpan(grid, start, SIDES[role], tuple(prefix), tuple(suffix))
    assert video_span.stop == start + prod(grid)


@given(GRIDS, SPANS, SPANS, st.integers(-400, 400).filter(bool), st.sampled_from((SELF, CROSS, IMAGE, AUDIO_VIDEO)))
def test_a_length_that_does_not_fit_has_no_place(grid, prefix, suffix, error, role):
    spans = (*prefix, *suffix)
    length = prod(grid) + sum(span.length for span in spans) + error
    video_span = Tokens(grid, tuple(prefix), tuple(suffix)).video_span(role, *lengths_for(role, length))
    assert isinstance(video_span, Reason) and "do not fit" in video_span


@given(GRIDS, SPANS, SPANS, st.integers(-30, 60), st.booleans())
def test_one_span_takes_what_remains(grid, prefix, suffix, rest, first):
    """Never a negative length: such a call is another one."""
    spans = [*prefix, Span("text")] if first else prefix, suffix if first else [*suffix, Span("text")]
    known = prod(grid) + sum(span.length for span in (*prefix, *suffix))
    video_span = Tokens(grid, *map(tuple, spans)).video_span(SELF, known + rest, known + rest)
    if rest < 0:
        assert isinstance(video_span, Reason)
        return
    lengths = [span.length for span in (*video_span.before, *video_span.after)]
    assert video_span.start == sum(span.length for span in video_span.before)
    assert sum(lengths) + prod(grid) == known + rest
    assert Span("text", rest) == (video_span.before if first else video_span.after)[-1]


@given(GRIDS, st.integers(1, 4), st.data())
def test_a_frame_or_a_line_over_time_is_a_sequence_of_its_own(grid, levels, data):
    """A U-Net's coarser levels have smaller frames, and as many of them."""
    t, y, x = grid
    pyramid = [(t, ceil_div(y, 2**level), ceil_div(x, 2**level)) for level in range(levels)]
    tokens = Tokens(pyramid[0], levels=tuple(pyramid[1:]))
    _, rows, columns = data.draw(st.sampled_from(pyramid))
    video_span = tokens.video_span(SPATIAL, rows * columns, rows * columns)
    assert (video_span.start, video_span.side, video_span.grid[0]) == (0, BOTH, 1)
    assert prod(video_span.grid) == rows * columns and (t, *video_span.grid[1:]) in pyramid
    assert tokens.video_span(TEMPORAL, t, t) == VideoSpan((t, 1, 1), 0, BOTH)
    odd = data.draw(st.integers(1, 200).filter(lambda n: n not in {rows * columns for _, rows, columns in pyramid}))
    assert "no level" in tokens.video_span(SPATIAL, odd, odd)
    assert "no level" in tokens.video_span(TEMPORAL, t + 1, t + 1)


@given(GRIDS, st.sampled_from((SELF, SPATIAL, TEMPORAL)), st.integers(1, 99), st.integers(1, 99))
def test_self_attention_in_parts_has_no_place(grid, role, q_len, kv_len):
    if q_len != kv_len:
        assert "in parts" in Tokens(grid).video_span(role, q_len, kv_len)


@pytest.mark.parametrize("role", ROLES)
def test_without_a_grid_there_is_a_reason(role):
    video_span = Tokens(None, unknown="the reason").video_span(role, 5, 5)
    assert video_span == ("the reason" if role in SIDES else "no video tokens")
    assert isinstance(Tokens(None).video_span(role, 5, 5), str)


def test_the_number_of_keys_tells_images_from_text():
    tokens = Tokens((1, 2, 3), keys=((IMAGE, 257),))
    assert tokens.role(CROSS, 6, 257) == IMAGE
    assert tokens.role(CROSS, 6, 512) == CROSS
    assert tokens.role(SELF, 257, 257) == SELF


@given(st.integers(0, 10_000), st.integers(1, 64))
def test_ceil_div_covers_all_and_no_more(length, patch):
    patches = ceil_div(length, patch)
    assert patches * patch >= length > (patches - 1) * patch


@pytest.mark.parametrize("name", ["", "ltxvmodel", "LTXVModelX", "WanVAE", "LTXVModel "])
def test_unknown_models_have_no_family(name):
    assert families.find(name) is None


def test_what_was_only_read_is_no_family(pack):
    """Nor does a ComfyUI that these tests run on have it: there a tiny model could be sampled."""
    import comfy

    assert not [name for _, name, *_ in unplaced.READ if families.find(name)]
    known = {variant.name for family in families.TABLE for variant in family.variants}
    assert not known & {name for name, *_ in unplaced.READ} and not known & set(unplaced.UNREAD)
    folder = Path(comfy.__path__[0]) / "ldm"
    defined = {name for file in folder.rglob("*.py") for name in CLASS.findall(file.read_text(encoding="utf-8"))}
    assert {"WanModel", "NaDiT"} <= defined
    assert not defined & {name for _, name, *_ in unplaced.READ}
    assert not [name for name in unplaced.UNREAD if defined & set(WORD.findall(name))]


def test_the_page_of_models_names_every_one_that_a_stand_in_plays(models):
    """Its sentence on stand-ins, and no other name: what is not said to be one is in ComfyUI's own class."""
    said = STOOD_IN.search((Path(__file__).parents[2] / "docs" / "MODELS.md").read_text()).group(0)
    played = {name for name, model in models.items() if not type(model).__module__.startswith("comfy.")}
    assert played <= {"WanAnimate2Model", "Kandinsky6NativeAVDiT"}
    for name in played:
        assert families.find(name).name in said


def test_table_rows_are_distinct():
    assert all(isinstance(family, Family) and family.models and family.variants for family in families.TABLE)
    models = [model for family in families.TABLE for model in family.models]
    assert len(set(models)) == len(models), "find() would reach the first of two rows only"
    assert len({family.name for family in families.TABLE}) == len(families.TABLE)
    variants = [variant.name for family in families.TABLE for variant in family.variants]
    assert len(set(variants)) == len(variants)
    assert all(families.find(model) is family for family in families.TABLE for model in family.models)


@pytest.mark.parametrize("family", families.TABLE, ids=lambda family: family.name)
def test_variants_are_tested_and_have_the_roles_they_promise(family):
    roles = defaultdict(set)
    for case in CASES:
        roles[case.variant].update(case.calls)
    for variant in family.variants:
        assert set(variant.roles) <= set(ROLES)
        assert roles.pop(variant.name, set()) == set(() if family.unsupported else variant.roles), variant.name


def test_every_case_belongs_to_a_variant():
    assert {case.variant for case in CASES} <= {v.name for family in families.TABLE for v in family.variants}


def test_no_call_of_an_unsupported_family_comes_through(pack, inference):
    model = seedvr2.CASE.build()
    family = pack.nodes.host.model_family.family_of(model)
    watched, seen = watch(with_sites(pack, model))
    assert family.unsupported and torch.isfinite(sample(watched, seedvr2.CASE)).all()
    assert not seen
    assert list(family.sites(model.model.diffusion_model)) == []


@st.composite
def tensors(draw):
    """A tensor of any shape up to six axes."""
    return torch.zeros(draw(st.lists(st.integers(0, 3), max_size=6)))


PLAIN = st.one_of(st.none(), st.integers(-2, 2), st.text(max_size=3), tensors())
GARBAGE = st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.dictionaries(st.text(max_size=3), PLAIN, max_size=2))


class Inputs(defaultdict):
    """Gives something for every name that a family asks for."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def __missing__(self, key):
        self[key] = self.data.draw(GARBAGE, label=str(key))
        return self[key]

    def get(self, key, default=None):
        return self[key]


@pytest.fixture(scope="module")
def models(pack):
    """(class name) -> a tiny model of that class, each made once."""
    built = {}
    for build in {case.build for case in CASES}:
        model = build().model.diffusion_model
        built.setdefault(type(model).__name__, model)
    return built


@pytest.mark.parametrize("name", sorted(name for f in families.TABLE if not f.unsupported for name in f.models))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_model_is_given_gets_a_layout_or_a_reason(name, models, pack, data):
    """Only what has the axes of a latent can have a grid; anything else is told apart before more is read of it."""
    model, known = models[name], pack.nodes.host.model_family
    x = data.draw(GARBAGE, label="x")
    tokens = known.tokens_of(pack.attention.families.find(name), model, x, Inputs(data))
    video = x[0] if isinstance(x, list) and x else x
    if getattr(video, "ndim", 0) not in (4, 5):
        assert tokens.grid is None
        assert isinstance(x, list) or "could not be read" not in tokens.unknown
    if tokens.grid is None:
        assert tokens.unknown and "\n" not in tokens.unknown
    else:
        assert len(tokens.grid) == 3 and all(isinstance(length, int) for length in tokens.grid)
    for role in ROLES:
        assert tokens.video_span(role, 7, 7)
