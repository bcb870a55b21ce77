"""Video Attention Sparse Pattern and Strength in a real ComfyUI, on tiny models of three ways to lay out tokens."""

from __future__ import annotations

import math

import pytest
import torch
from shaping import CHOSEN, FIXED, error, shaped, strengthened
from tiny import plain
from tiny.case import sample, with_sites

SLOT = "optimized_attention_override"
PLAIN = plain()
# Video alone; video with text before it in one sequence; video and sound.
FAMILIES = ("LTXV", "Wan", "HunyuanVideo", "LTX-2", "CogVideoX", "Mochi")


@pytest.fixture(scope="module")
def built(pack):
    import functools

    return functools.cache(lambda name: PLAIN[name].build())


def masked(pack, model, pattern, case):
    """The MODEL with torch's attention under the pattern's own mask: what the engines must agree with."""
    told = with_sites(pack, model)
    relation = pack.attention.patterns.spec.relation_of(pattern, case.grid)
    locate = pack.attention.routing.step_context.locate

    def attend(func, q, k, v, heads, *args, **kwargs):
        site, video_span = locate(kwargs["transformer_options"], q.shape[-2], k.shape[-2])
        if site.role == "self" and not isinstance(video_span, str):
            seen = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool)
            at = torch.arange(math.prod(video_span.grid))
            seen[video_span.start : video_span.stop, video_span.start : video_span.stop] = relation.mask_mod(
                0, 0, at[:, None], at[None]
            )
            kwargs["mask"], args = torch.where(seen, 0.0, -torch.inf)[None, None], args[1:]
        return func(q, k, v, heads, *args, **kwargs)

    told.model_options["transformer_options"][SLOT] = attend
    return told


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("pattern", FIXED)
def test_a_shaped_model_is_the_model_under_the_mask(name, pattern, pack, built, inference):
    case, model = PLAIN[name], built(name)
    patched = shaped(pack, model, pattern).args[0]
    rule = pack.nodes.host.model_rules.pattern_of(patched)
    out = sample(patched, case, steps=2)
    report = pack.nodes.host.run_history.find(out)
    ran = {row.used for row in report.rows if row.role == "self"}
    truth = sample(masked(pack, model, rule, case), case, steps=2)
    density = pack.attention.patterns.density.density(rule, case.grid)
    if density == 1.0:
        assert report.fallbacks and not any(used.startswith(pattern) for used in ran)
    else:
        assert ran == {used for used in ran if used.startswith(f"{pattern} (")}, report.fallbacks
        # Small random weights make attention matter little: measure against what the mask itself changes.
        effect = error(sample(model, case, steps=2), truth)
        assert effect > 2e-5 and error(out, truth) <= 0.1 * effect
    assert error(out, truth) <= 1e-4


def test_dense_steps_run_on_the_chosen_backend(lab, pack):
    for first in (True, False):
        model = lab.backend(backend="reference") if first else lab.model
        model = shaped(pack, model, "spatial", start_percent=0.5).args[0]
        model = model if first else lab.backend(model, backend="reference")
        calls = lab.counted(model, steps=4)
        assert calls["cross", "reference"] == 8
        assert calls["self", "reference"] + calls["self", "spatial (folded)"] == 8
        assert calls["self", "spatial (folded)"] > 0 < calls["self", "reference"]


def test_some_blocks_alone(lab, pack):
    report = lab.report(lab.sample(shaped(pack, lab.model, "temporal", blocks="1").args[0]))
    rows = {(row.role, row.used.split(" (")[0]): row.blocks for row in report.rows}
    assert rows["self", "temporal"] == {1} and rows["self", "host default"] == {0}


def test_too_few_tokens_stay_dense_and_are_counted(lab, pack):
    report = lab.report(lab.sample(shaped(pack, lab.model, "spatial", min_tokens=25).args[0]))
    assert report.fallbacks == {("self", "spatial", "24 video tokens, fewer than min_tokens"): 8}
    with pytest.raises(
        pack.attention.routing.errors.UnsupportedAttention, match="^pattern: 'spatial' cannot run the self-"
    ):
        lab.sample(shaped(pack, lab.model, "spatial", min_tokens=25, on_unsupported="error").args[0])


def test_patterns_combine(lab, pack):
    first = shaped(pack, lab.model, "spatial").args[0]
    both = shaped(pack, first, "temporal", combine="union").args[0]
    assert lab.counted(both)["self", "union (tiles)"] == 8
    with pytest.raises(
        ValueError, match="^combine: 'union' needs another Video Attention Sparse Pattern before this one.$"
    ):
        shaped(pack, lab.model, "temporal", combine="union")


@pytest.mark.parametrize("pattern", CHOSEN)
def test_patterns_that_follow_the_tensors(pattern, lab, pack):
    calls = lab.counted(shaped(pack, lab.model, pattern, choice={"tail": False}).args[0])
    assert sum(n for (role, used), n in calls.items() if role == "self") == 8
    with pytest.raises(ValueError, match="^combine: 'union' of spatial and .* is not possible: "):
        shaped(pack, shaped(pack, lab.model, "spatial").args[0], pattern, combine="union")


def test_the_picture_and_the_words(lab, pack):
    _, picture, words = shaped(pack, lab.model, "spatial", latent={"samples": torch.zeros(1, 128, 5, 6, 7)}).args
    assert words.startswith("Grid: 5 x 6 x 7 = 210 tokens (time x height x width)\nDensity: 20.0% of ")
    assert "; 20.0% of the FLOPs; " in words
    assert "at most 5.0x as fast" in words
    assert picture.ndim == 4 and picture.shape[-1] == 3 and 0 <= picture.min() < picture.max() <= 1
    assert shaped(pack, lab.model, "spatial").args[2].startswith("No latent connected; on an example of ")


def test_a_prompt_without_a_pattern_gets_a_sentence(lab, pack):
    widgets = {"time_unit": "latent frames", "fps": 24.0, "combine": "replace"}
    with pytest.raises(ValueError, match="^pattern: none is given. Known: sliding tile, radial, "):
        pack.nodes.pattern.VideoAttentionPattern.execute(lab.model, **widgets)


def test_engines_are_measured_once(lab, pack, monkeypatch):
    """As for dense kernels: the report says what was timed; later runs remember."""
    monkeypatch.setattr(pack.attention.sparse.autotune, "_CHOSEN", {})
    model = shaped(pack, lab.model, "spatial", auto_choice="measure").args[0]
    reports = [lab.report(lab.sample(model)) for _ in range(2)]
    assert reports[0].choosing > 0 == reports[1].choosing
    for report in reports:
        (line,) = report.measured
        assert line.startswith("self 24x24: ") and all(name in line for name in ("host", "folded", "slabs", "tiles"))
        (used,) = (row.used for row in report.rows if row.role == "self")
        assert used == f"spatial ({line.rsplit(' -> ')[1]})"


def test_spared_steps_and_blocks_stay_dense(lab, pack):
    def shaped_calls(**widgets):
        calls = lab.counted(shaped(pack, lab.model, "spatial", **widgets).args[0], steps=5)
        return calls.get(("self", "spatial (folded)"), 0)

    assert shaped_calls() == 10
    assert shaped_calls(dense_first_steps=1, dense_last_steps=2) == 4
    assert shaped_calls(dense_first_steps=9) == 0
    assert shaped_calls(start_percent=0.5, dense_first_steps=1) == shaped_calls(start_percent=0.5)
    assert shaped_calls(dense_first_blocks=1) == shaped_calls(dense_last_blocks=1) == 5
    with pytest.raises(ValueError, match="^dense_first_blocks and dense_last_blocks: 1 and 1 leave no block for the "):
        shaped_calls(dense_first_blocks=1, dense_last_blocks=1)


@pytest.mark.parametrize(
    ("spans", "first", "last", "left"),
    [
        ((), 0, 0, ()),
        ((), 2, 0, ((2, 9),)),
        ((), 0, 3, ((0, 6),)),
        (((0, 3), (7, None)), 2, 1, ((2, 3), (7, 8))),
        (((0, 1), (4, 4)), 2, 0, ((4, 4),)),
    ],
)
def test_blocks_without_the_spared(spans, first, last, left, pack):
    assert pack.nodes.widgets.pattern_reach.without(spans, first, last, 10) == left


def test_blocks_of_an_unknown_model(pack):
    without = pack.nodes.widgets.pattern_reach.without
    assert without((), 2, 0, None) == ((2, None),)
    with pytest.raises(ValueError, match="^dense_last_blocks: 1 cannot be told apart, this model's blocks are not kno"):
        without((), 0, 1, None)


@pytest.mark.parametrize(
    ("name", "unit", "time", "frames"),
    [
        ("LTXV", "latent frames", 3, 3),
        ("LTXV", "frames", 24, 3),
        ("LTXV", "seconds", 1.5, 4),  # 36 frames of 24 a second, 8 in a latent one
        ("Wan", "seconds", 1.0, 6),
        ("HunyuanVideo", "frames", 1, 1),  # never none
        ("LTX-2", "frames", 16, 2),
        ("Mochi", "frames", 12, 2),
        ("Wan", "frames", 81, 21),  # a clip's own length is all of its latent frames
        ("Wan", "seconds", 81 / 24, 21),
        ("LTXV", "frames", 97, 13),
        ("HunyuanVideo", "frames", 129, 33),
        ("Wan", "latent frames", 81, 81),
        ("MiniMax-H3", "frames", 124, 37),  # 17 frames of the video are 5 latent ones, of 1, 4, 4, 4 and 4
        ("MiniMax-H3", "frames", 362, 107),
        ("MiniMax-H3", "frames", 1, 1),
        ("MiniMax-H3", "seconds", 22 / 24, 7),
    ],
)
def test_time_in_units_of_the_user(name, unit, time, frames, pack, built, inference):
    patched = shaped(pack, built(name), "temporal window", choice={"time": time}, time_unit=unit, fps=24.0).args[0]
    assert pack.nodes.host.model_rules.pattern_of(patched).frames == frames


# --- strength --------------------------------------------------------------------------------------------------------


def test_strength_of_one_and_zero_changes_nothing(lab, pack, plain):
    assert torch.equal(lab.sample(strengthened(pack, lab.model)), plain)


@pytest.mark.parametrize("backend", [None, "reference", "sdpa flash"])
def test_temperature_is_the_scale_of_the_scores(lab, pack, backend):
    model = lab.model if backend is None else lab.backend(backend=backend)
    colder = lab.sample(strengthened(pack, model, temperature=0.5, role="all"))
    scaled = lab.model.clone()

    def look(func, q, k, v, heads, *args, **kwargs):
        return func(q * 2.0, k, v, heads, *args, **kwargs)

    scaled.model_options["transformer_options"][SLOT] = look
    assert lab.error(colder, lab.sample(scaled)) <= 1e-5
    assert lab.error(colder, lab.sample()) > 1e-3


def test_cross_frame_strengthens_what_comes_from_other_frames(lab, pack, plain):
    errors = [lab.error(lab.sample(strengthened(pack, lab.model, cross_frame=weight)), plain) for weight in (5, 50)]
    assert 0 <= errors[0] < errors[1]
    report = lab.report(lab.sample(strengthened(pack, lab.backend(), cross_frame=50.0)))
    assert report.ruled == report.calls, "the backend still runs every call"


def test_strength_on_top_of_a_pattern(lab, pack):
    model = shaped(pack, strengthened(pack, lab.model, temperature=0.7), "spatial").args[0]
    calls = lab.counted(model)
    assert calls["self", "spatial (folded)"] == 8
    assert lab.error(lab.sample(model), lab.sample(shaped(pack, lab.model, "spatial").args[0])) > 1e-4


def test_a_latent_that_lies_on_no_grid_has_no_layout(pack, built, monkeypatch):
    node, tokens = pack.nodes.pattern, pack.attention.core.tokens.Tokens
    model, latent = built("Wan"), {"samples": PLAIN["Wan"].latent()}
    assert node._tokens(model, None) is None and node._tokens(model, latent).grid == PLAIN["Wan"].grid
    for found in (None, tokens(None, unknown="no grid")):
        monkeypatch.setattr(node.model_family, "tokens_of_latent", lambda model, samples, found=found: found)
        assert node._tokens(model, latent) is None
