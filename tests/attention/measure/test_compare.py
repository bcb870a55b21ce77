"""Two clips that are made so that their distance is known; charts, pictures and tables of measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from clips_made import make_pan, make_still, noise, texture

from attention.core.canvas import LINE, length
from attention.measure import compare, draw_metrics, temporal
from attention.measure.frames import Unmeasurable
from attention.measure.series import Series, number, to_table


@pytest.mark.parametrize("error", [0.001, 0.01, 0.1])
def test_psnr_of_a_known_error(error):
    found = compare.compare_clips(make_still(3), make_still(3) + error)
    assert found.psnr.mean == pytest.approx(-20 * math.log10(error), abs=0.01)


def test_psnr_of_a_clip_is_that_of_its_mean_error():
    other = make_still(2)
    other[1] += 0.1
    found = compare.compare_clips(make_still(2), other)
    assert found.psnr.values == (math.inf, pytest.approx(20.0, abs=0.01)) and found.worst == 1 and not found.equal
    assert found.psnr.mean == pytest.approx(20 + 10 * math.log10(2), abs=0.01)


def test_ssim_of_flat_frames():
    # Without structure only the luminance term is left: (2 a b + C1) / (a^2 + b^2 + C1).
    a, b, c = 0.2, 0.6, 0.01**2
    found = compare.compare_clips(torch.full((1, 20, 30, 3), a), torch.full((1, 20, 30, 3), b))
    assert found.ssim.mean == pytest.approx((2 * a * b + c) / (a * a + b * b + c), abs=1e-3)


def test_more_noise_is_farther():
    clip = make_still(2)
    found = [compare.compare_clips(clip, clip + s * noise(clip.shape)) for s in (0.0, 0.01, 0.05, 0.2)]
    for name in ("psnr", "ssim"):
        values = [getattr(one, name).mean for one in found]
        assert values == sorted(values, reverse=True) and len(set(values)) == 4
    assert found[0].equal and found[0].psnr.mean == math.inf and "All pixels are equal" in compare.to_text(found[0])


def alternate(size):
    return size * (-1.0) ** torch.arange(8)[:, None, None, None]


@pytest.mark.parametrize(
    "error, share, words",
    [
        (lambda clip: clip + 0.03, 0.0, "The error stays"),
        (lambda clip: clip + alternate(0.03), 2.0, "The error flickers"),
        (lambda clip: clip + 0.03 * noise(clip.shape), 1.0, "changes from frame to frame"),
        (lambda clip: clip + 0.03 * noise(clip.shape[1:]), 0.0, "The error stays"),
    ],
)
def test_an_error_that_stays_and_one_that_flickers(error, share, words):
    clip = make_pan(2, 1, 8)
    found = compare.compare_clips(clip, error(clip))
    assert found.unsteady.mean == pytest.approx(share, abs=0.03) and words in compare.judge(found)
    assert all(value == pytest.approx(share, abs=0.05) for value in found.unsteady.values[1:])
    assert math.isnan(found.unsteady.values[0]) and "It moves as much as the reference" in compare.judge(found)


def test_motion_that_is_lost_is_told():
    clip = make_pan(2, 1, 8)
    frozen, half = (compare.compare_clips(clip, clip[order]) for order in ([0] * 8, [0, 1, 2, 3, 3, 3, 3, 3]))
    assert frozen.motion.mean == 0 and frozen.frozen == 1 and frozen.reference_frozen == 0
    assert "Next to nothing moves in it" in compare.judge(frozen)
    assert half.frozen == pytest.approx(4 / 7) and half.motion.mean == pytest.approx(
        3 / 7 * half.reference_motion, rel=0.05
    )
    assert "It moves 0.4" in compare.judge(half) and "57% of its frames are frozen, 0%" in compare.judge(half)
    moving = compare.compare_clips(clip[[0] * 8], clip)
    assert moving.reference_motion == 0 and "the reference hardly does" in compare.judge(moving)
    # As Temporal Metrics has it, for frames that are no larger than where motion is looked for.
    assert half.reference_motion == pytest.approx(temporal.measure_clip(clip).motion.mean, rel=1e-6)


def test_motion_of_a_large_frame_is_a_share_of_its_height():
    large = texture(300, 500, grain=30)
    clip = torch.stack([large[10 - 2 * n :][:280, 10 - n : 490 - n] for n in range(4)])
    found = compare.compare_clips(clip, clip)
    assert found.motion.mean == pytest.approx(100 * 5**0.5 / 280, rel=0.05)


def test_one_frame_has_no_time():
    found = compare.compare_clips(make_still(1), make_still(1) + 0.1)
    assert math.isnan(found.unsteady.mean) and math.isnan(found.frozen) and math.isnan(found.motion.mean)
    assert compare.judge(found) == "Far apart: 20.0 dB, another picture in places."
    assert "Motion:" not in compare.to_text(found)


@pytest.mark.parametrize(
    "error, words",
    [(0.001, "Closer than the eye sees: 60.0 dB"), (0.01, "Close: 40.0 dB"), (0.02, "Visibly apart: 34.0 dB")],
)
def test_a_distance_in_words(error, words):
    assert compare.judge(compare.compare_clips(make_still(2), make_still(2) + error)).startswith(words)


@pytest.mark.parametrize("other", [(3, 70, 90, 3), (2, 70, 91, 3)])
def test_sizes_that_differ_are_named(other):
    with pytest.raises(Unmeasurable, match="3 frames of 91 x 70, the other . frames of 9. x 70"):
        compare.compare_clips(make_still(3), torch.zeros(other))


def test_wipe():
    black, white = torch.zeros(2, 10, 20, 3), torch.ones(2, 10, 20, 3)
    half = compare.wipe(black, white, 1, 0.5)
    assert half.shape == (1, 10, 20, 3) and (half[:, :, :8] == 0).all() and (half[:, :, 12:] == 1).all()
    assert (compare.wipe(black, white, 0, 0.0) == 1).all() and (compare.wipe(black, white, 0, 1.0) == 0).all()


# --- figures as text and pictures ------------------------------------------------------------------------------------


def test_figures_of_a_series():
    series = Series("flicker", "unit", (math.nan, 1.0, 3.0, 3.0))
    assert series.mean == pytest.approx(7 / 3) and series.worst == (2, 3.0)
    assert Series("x", "", (2.0, 1.0, 1.0), lowest_is_worst=True).worst == (1, 1.0)
    assert Series("x", "", (2.0, math.inf), overall=5.0).mean == 5.0
    empty = Series("x", "", (math.nan,))
    assert math.isnan(empty.mean) and empty.worst is None and number(empty.mean) == "not measured"


def test_table_is_aligned():
    lines = to_table((Series("flicker", "0 to 1", (math.nan, 0.5)), Series("none", "px", (math.nan,)))).splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == ["measure", "flicker", "none"]
    assert lines[1].index("0.5") == lines[0].index("clip") == lines[2].index("not measured")
    assert "0.5 at 1" in lines[1] and lines[2].split()[-2:] == ["-", "px"]


def draw(*values, notes=()):
    return np.asarray(draw_metrics.draw_series("Title", "below", [Series("one", "unit", v) for v in values], notes))


def colour_of(chart, colour):
    """Rows and columns of the pixels of a colour right of the figures."""
    rows, columns = np.nonzero((np.abs(chart.astype(int) - colour) < 40).all(-1))
    below = rows > draw_metrics.FIGURE + 130
    return rows[below], columns[below]


def test_a_chart_rises_where_its_figures_rise():
    rows, columns = colour_of(draw(tuple(range(10))), draw_metrics.CURVES[0])
    assert len(rows) > 50
    assert np.corrcoef(columns, rows)[0, 1] < -0.99  # rows grow downwards
    assert np.ptp(columns) > 0.9 * (draw_metrics.RIGHT - draw_metrics.LEFT - 24)


def test_a_chart_leaves_gaps_where_there_is_nothing():
    _, columns = colour_of(draw((1.0, 1.0, math.nan, math.nan, 1.0, 1.0)), draw_metrics.CURVES[0])
    middle = (draw_metrics.LEFT + draw_metrics.RIGHT) / 2
    assert len(columns) and not ((columns > middle - 30) & (columns < middle + 30)).any()


@pytest.mark.parametrize(
    "values",
    [(math.nan,), (0.0,), (0.3,), (5.0,) * 4, (math.inf, 40.0), (math.inf, math.inf), (-0.5, 0.2), (1e-9, 2e-9)],
)
def test_a_chart_of_anything(values):
    height, *others = draw(values).shape
    assert others == [draw_metrics.WIDTH, 3] and height == draw((1.0, 2.0)).shape[0]


def test_a_chart_grows_with_what_it_says():
    base, two, told = draw((1.0, 2.0)), draw((1.0, 2.0), (3.0, 1.0)), draw((1.0, 2.0), notes=("A cut.", "Another."))
    assert two.shape[0] > base.shape[0] + draw_metrics.PLOT and told.shape[0] == base.shape[0] + 2 * LINE
    assert len(colour_of(two, draw_metrics.CURVES[1])[0])


def test_a_pair_shows_both_and_their_difference():
    first, second = torch.full((2, 30, 160, 3), 0.2), torch.full((2, 30, 160, 3), 0.4)
    picture = np.asarray(draw_metrics.draw_pair(first, second, 1))
    middles = [picture[50, 8 + 168 * place + 80].tolist() for place in range(3)]
    assert middles == [[51] * 3, [102] * 3, [255] * 3]
    same = np.asarray(draw_metrics.draw_pair(first, first, 0))
    assert same[50, 8 + 168 * 2 + 80].tolist() == [0, 0, 0]
    # Frames narrower than their names: those stand beside each other still.
    assert draw_metrics.draw_pair(first[:, :, :8], second[:, :, :8], 1).width > 3 * length("reference, frame 1", 15)
