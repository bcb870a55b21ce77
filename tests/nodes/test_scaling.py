"""What an evaluation costs against the clip's size, counted in the host's own classes."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks import scaling

SVD, LTX = scaling.KINDS
CLIP, LONGER = (25, 128, 192), (57, 128, 192)  # 4 and 8 latent frames of 4 x 6 tokens


@pytest.mark.parametrize("kind", scaling.KINDS, ids=lambda kind: kind.name)
def test_attention_is_what_its_calls_multiply(comfy_host, kind):
    """Counted from the calls' sizes, and by torch while small models compute with attention written out."""
    from torch.utils.flop_counter import FlopCounterMode

    clip, attended = (9, 64, 64), scaling.Attended()
    counted, rest = scaling.count(kind, kind.small, clip)
    assert counted.calls and attended.seconds == 0

    def written_out(q, k, v, heads, *args, **kwargs):
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        return ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2).flatten(2)

    def slot(func, *args, **kwargs):
        return attended.clock(written_out, *args, **kwargs)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        kind.run(kind.build(kind.small, "cpu"), kind.small, clip, "cpu", {scaling.SLOT: slot})
    assert attended.calls == counted.calls and attended.seconds > 0
    assert counter.get_total_flops() == counted.operations + rest


def test_the_transformer_costs_what_its_matrices_say(comfy_host):
    found, rest = scaling.count(LTX, LTX.small, CLIP)
    tokens, text, width, blocks = 4 * 4 * 6, 128, 256, 4
    assert found.operations == blocks * 4 * width * (tokens**2 + tokens * text)
    # Queries, output and the same of the prompt's attention, the feed-forward; keys and values of both.
    linear = blocks * 2 * width**2 * (tokens * (4 + 2 + 8) + text * 2)
    assert linear < rest < 1.1 * linear


def test_joint_attention_grows_with_the_square_and_the_rest_does_not(comfy_host):
    """Twice the latent frames, eight instead of four: four times the pairs of tokens, twice as much of the rest."""
    (short, rest), (long, more) = (scaling.count(LTX, LTX.small, clip) for clip in (CLIP, LONGER))
    pairs = [sum(math.prod(call) for call in found.calls if call[2] == call[3]) for found in (short, long)]
    assert pairs[1] == 4 * pairs[0] and 1.8 < more / rest < 2
    others = [scaling.count_other(LTX, found, clip) for found, clip in ((short, CLIP), (long, LONGER))]
    assert others[0] < short.operations and others[1] / others[0] < 2.5
    unet, _ = scaling.count(SVD, SVD.small, CLIP)
    assert scaling.count_other(SVD, unet, CLIP) > 5 * unet.operations


def test_factorised_attention_sees_the_frame_and_the_place():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 12, 10, generator=generator, dtype=torch.float64) for _ in range(3))
    grid, attended = (3, 2, 2), scaling.Attended()

    def attention(q, k, v, heads, **kwargs):
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    out = scaling.factorise(grid, attended)(attention, q, k, v, 2)
    frame, place = torch.arange(12) // 4, torch.arange(12) % 4
    heads = [x.unflatten(-1, (2, -1)).transpose(1, 2) for x in (q, k, v)]
    wanted = sum(
        torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=seen[:, None] == seen[None])
        for seen in (frame, place)
    )
    assert (out - wanted.transpose(1, 2).flatten(2) / 2).norm() / out.norm() < 1e-12
    assert attended.calls == [(6, 2, 4, 4, 5), (8, 2, 3, 3, 5)]


def test_calls_of_another_layout_are_refused():
    x = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ValueError, match="three dims"):
        scaling.Attended().count(None, x, x, x, 2, skip_reshape=True)


def test_a_table_has_a_row_for_each_clip_and_model(comfy_host):
    lines = scaling.tabulate_counts([(25, 128, 192)])
    assert [line.split(" | ")[1] for line in lines[2:]] == [kind.name for kind in scaling.KINDS]
    assert " | 96 | " in lines[3] and " | 9,600 | " in lines[2]
