"""The formulas of guidance, against loops that are written from the papers."""

from __future__ import annotations

import math

import pytest
import torch

from attention.core.geometry import describe
from attention.core.site import AUDIO_SELF, SELF, AttentionSite
from attention.core.tokens import BOTH, VideoSpan
from attention.guidance import TABLE, find, nag, pag, perturb, riflex, stg
from attention.guidance.strength import Strength, combined
from attention.inspect.schedule import tabulate
from attention.routing.attention_call import AttentionCall
from attention.routing.rules import Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import StepContext


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_away_from_the_weaker_model(rescale):
    guided, strong, weak = (noise(2, 3, 4, 5, 6, seed=s) for s in range(3))
    out = stg.guide(guided, strong, weak, 1.5, rescale)
    for clip in range(2):
        there = guided[clip] + 1.5 * (strong[clip] - weak[clip])
        factor = strong[clip].flatten().std() / there.flatten().std()
        assert torch.allclose(out[clip], there * (rescale * factor + 1 - rescale))
    assert torch.equal(pag.guide(guided, strong, weak, 1.5), stg.guide(guided, strong, weak, 1.5))
    assert torch.equal(stg.guide(guided, strong, weak, 0.0), guided)


@pytest.mark.parametrize(
    ("blocks", "known", "expected"), [(28, 19, 19), (48, 29, 29), (2, 19, 1), (30, None, 20), (4, 0, 0), (1, None, 0)]
)
def test_the_block_that_is_taken_for_none(blocks, known, expected):
    assert stg.usual_block(blocks, known) == expected < blocks


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("tau", [1.0, 1.5, 100.0])
def test_normalised_extrapolation(tau, split):
    positive, negative = noise(2, 5, 12), noise(2, 5, 12, seed=1)
    expected = torch.empty_like(positive)
    for b in range(2):
        for t in range(5):
            z = positive[b, t] * 7.0 - negative[b, t] * 6.0
            ratio = z.abs().sum() / positive[b, t].abs().sum()
            z = z * min(ratio, torch.tensor(tau).double()) / ratio
            expected[b, t] = 0.25 * z + 0.75 * positive[b, t]
    guide = nag.Nag(7.0, tau, 0.25).guide
    if split:  # (B, H, L, D)
        positive, negative = (z.unflatten(-1, (3, 4)).transpose(1, 2) for z in (positive, negative))
        out = guide(positive, negative).transpose(1, 2).flatten(2)
    else:
        out = guide(positive, negative)
    assert torch.allclose(out, expected, atol=1e-6)


def test_zero_features_stay_zero():
    zero = torch.zeros(1, 2, 4)
    assert torch.equal(nag.Nag().guide(zero, zero), zero)


def test_rows_of_positive_prompts():
    t = torch.arange(6.0).view(6, 1)
    positive = (False, True, True)
    assert nag.positive_rows(t, positive, 6).flatten().tolist() == [2, 3, 4, 5]
    assert nag.positive_rows(t[:1], positive, 6).shape == (1, 1), "a mask for all stays one"
    assert nag.replace_rows(t, -nag.positive_rows(t, positive, 6), positive).flatten().tolist() == [
        0,
        1,
        -2,
        -3,
        -4,
        -5,
    ]


PLACES = (
    (VideoSpan((2, 2, 2), 0, BOTH), SELF),
    (VideoSpan((2, 2, 2), 3, BOTH), SELF),  # text before
    ("no video tokens", AUDIO_SELF),
)


@pytest.mark.parametrize("how", perturb.HOWS)
@pytest.mark.parametrize(("video_span", "role"), PLACES)
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("key_heads", [1, 4])
def test_perturbed_self_attention(how, video_span, role, after, key_heads):
    length = (video_span.stop if isinstance(video_span, VideoSpan) else 8) + after
    q, k, v = noise(2, 4, length, 6), noise(2, key_heads, length, 6, seed=1), noise(2, key_heads, length, 6, seed=2)
    mask = noise(1, 1, length, length, seed=3)
    call = describe(q, k, v, mask)
    run = perturb.Perturbation("x", how).kernel(AttentionSite("", role, 0), video_span, call)
    out = run(q, k, v, mask=mask)
    whole = not isinstance(video_span, VideoSpan)
    for h in range(4):
        key_head = h * key_heads // 4
        seen = (q[:, h] @ k[:, key_head].mT / math.sqrt(6) + mask[:, 0]).softmax(-1) @ v[:, key_head]
        for t in range(length):
            if whole or video_span.start <= t < video_span.stop:
                expected = v[:, key_head, t] if how == "values" else torch.zeros(2, 6).double()
            else:
                expected = seen[:, t]
            assert torch.allclose(out[:, h, t], expected)


def test_what_cannot_be_perturbed_says_why():
    q, k = noise(1, 1, 8, 4), noise(1, 1, 9, 4)
    kernel = perturb.Perturbation("x").kernel
    assert kernel(AttentionSite("", SELF, 0), "no grid", describe(q, q, q, None)) == "no grid"
    parts = kernel(AttentionSite("", AUDIO_SELF, 0), "no video tokens", describe(q, k, k, None))
    assert parts == "self-attention in parts (8 x 9 tokens)"


def test_turning_slower():
    theta, half, frames = 256.0, 8, 66
    rates = [theta ** (-i / half) for i in range(half)]
    positions = torch.arange(frames).double()
    angles = positions[:, None] * torch.tensor(rates)
    matrices = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], -1).unflatten(-1, (2, 2))
    out = riflex.slow_rotations(matrices, positions, 4, frames)
    rates[3] = 0.9 * 2 * math.pi / frames
    for t in range(frames):
        for i, rate in enumerate(rates):
            c, s = math.cos(t * rate), math.sin(t * rate)
            assert torch.allclose(out[t, i], torch.tensor([[c, -s], [s, c]]).double(), atol=1e-5)
    assert rates[3] * (frames - 1) < 2 * math.pi, "the clip stays within one turn"
    assert torch.equal(out[:, [0, 1, 2, 4, 5, 6, 7]], matrices[:, [0, 1, 2, 4, 5, 6, 7]])


def test_enhance_a_video_as_published():
    """One gain for a clip: max(1, CFI * (frames + weight)), CFI the mean of what is off the diagonal over time."""
    grid, weight = (3, 2, 2), 60.0
    q, k, out = noise(1, 2, 14, 4), noise(1, 2, 14, 4, seed=1), noise(1, 14, 8, seed=2)
    video_span = VideoSpan(grid, 1, BOTH)  # a token before the video, one behind
    total, count = 0.0, 0
    for head in range(2):
        for spot in range(4):
            tokens = [1 + t * 4 + spot for t in range(3)]
            scores = torch.stack([torch.stack([q[0, head, a] @ k[0, head, b] / 2.0 for b in tokens]) for a in tokens])
            attended = scores.softmax(-1)
            for a in range(3):
                for b in range(3):
                    if a != b:
                        total, count = total + attended[a, b], count + 1
    gain = max(1.0, float(total / count) * (3 + weight))
    got = Strength(cross_frame=weight).amplify(out, video_span, AttentionCall(None, q, k, k, 2, split_in=True))
    assert gain > 1.5
    assert torch.allclose(got[:, 1:13], out[:, 1:13] * gain, atol=1e-5)
    assert torch.equal(got[:, [0, 13]], out[:, [0, 13]])


def test_strengths_add_up_in_any_order():
    warm, steady = Strength(temperature=0.7), Strength(cross_frame=4.0)
    assert combined([warm, steady]) == combined([steady, warm]) == Strength(0.7, 4.0)
    assert combined([Strength(0.5), warm]) == warm, "the later one of a kind"
    assert combined([]) is combined([Strength()]) is None


def test_kinds_of_rules():
    extra = perturb.Perturbation("x")
    kinds = {
        "strength": Rule(strength=Strength(2.0)),
        "perturbation": Rule(perturbation=extra),
        "nag": Rule(nag=nag.Nag()),
        "": Rule(),
    }
    assert {kind: rule.kind for kind, rule in kinds.items()} == {kind: kind for kind in kinds}
    context = StepContext()
    assert context.but(perturbation=extra) is context.but(perturbation=extra) is not context
    assert context.but(perturbation=perturb.Perturbation("x")) is not context.but(perturbation=extra), (
        "two nodes make two passes"
    )
    assert context.but(perturbation=extra).but(perturbation=None) is context


def test_costs_are_told():
    stats = RunStats()
    for _ in range(2):
        stats.spend(stg.NAME, "model call")
    stats.spend(nag.NAME, "attention call")
    assert stats.costs() == (f"{stg.NAME}: 2 model calls more.", f"{nag.NAME}: 1 attention call more.")


def test_every_row_has_a_paper_and_a_cost():
    assert len({row.name for row in TABLE}) == len(TABLE) > 1
    for row in TABLE:
        assert row.paper.startswith("https://arxiv.org/abs/") and row.cost and row.off and find(row.name) is row


def test_the_schedule_names_guidance():
    extra = perturb.Perturbation("Spatiotemporal guidance")
    rules = (Rule(role="self", blocks=((1, 1),), perturbation=extra), Rule(nag=nag.Nag()))
    table = tabulate([("self", 0), ("self", 1), ("cross", 0)], rules, [(True, True), (False, False)], [1.0, 0.5, 0.0])
    host = "host default"
    assert table.roles["self"] == {0: (host, host), 1: (f"{host} + {extra.name}", host)}
    assert table.roles["cross"] == {0: (f"{host} + {nag.NAME}", host)}
