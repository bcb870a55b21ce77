"""Every picture with long words: its type can be read, no text leaves it, and none lies over another."""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from counted_runs import add

import attention
from attention import patterns
from attention.backends import registry
from attention.backends.autotune import KernelTrial
from attention.core.canvas import MARGIN, WIDTH, Canvas, font
from attention.core.geometry import describe
from attention.core.site import CROSS, SELF, SPATIAL
from attention.inspect.draw_info import draw_info
from attention.inspect.draw_maps import draw_heat, draw_shares, draw_token_shares
from attention.inspect.draw_pattern import draw_pattern
from attention.inspect.draw_report import draw_report
from attention.inspect.draw_schedule import LEFT, draw_schedule
from attention.inspect.info import Info
from attention.inspect.kernel_colours import colours_of
from attention.inspect.map_summary import Maps, TokenShares
from attention.inspect.maps import ELSEWHERE, SAME_FRAME, SAME_PLACE, Query
from attention.inspect.report import summarise
from attention.inspect.schedule import ScheduleTable
from attention.measure.draw_metrics import draw_pair, draw_series
from attention.measure.series import Series
from attention.plans.calibrate import EXACT, PlanOption, PlanPart
from attention.plans.choose_whole import choose_whole, range_of
from attention.plans.draw_bench import draw_trials
from attention.plans.draw_plan import draw_plan
from attention.plans.draw_verify import draw_verified
from attention.plans.verify import VerifiedSampling
from attention.routing.run_stats import RunStats

REASON = "a reason that goes on and on, as those of packages that are not installed do, with what would work instead"


def report():
    stats = RunStats("SomeVideoTransformer3DModel", (21, 45, 80), 50)
    used = "intersection of radial and neighbourhood (video attention 16 bit)"
    decisions = [add(stats, SELF, b, used, 0, wanted="sage", reason=REASON) for b in range(3)]
    decisions.append(add(stats, CROSS, 0, "other override (SomePack.with_a_long_name.attention_of_it)", 0))
    stats.begun = 1.0
    for _ in range(60):
        for decision in decisions:
            decision.calls += 3
            decision.fell_back += 1
        stats.mark()
    stats.notes += [f"{REASON}. {REASON}."]
    return draw_report(summarise(stats))


def stages(number):
    """Of so many samplers, one after the other."""
    stats = RunStats("SomeVideoTransformer3DModel", (21, 45, 80), 50)
    add(stats, SELF, 0, "sdpa", 75)
    said = tuple(f"{n}. SamplerOfSomePack (node {n}): {REASON}." for n in range(1, number + 1))
    return draw_report(replace(summarise(stats), stages=said))


def schedule(steps=()):
    label = "video attention 16 bit + strength + spatiotemporal guidance + normalized attention guidance"
    names = (registry.HOST, f"sliding tile + {label}", label)
    return draw_schedule(
        ScheduleTable((0.99987, 0.5, 0.25, 0.0), {SELF: dict.fromkeys(range(60), names), CROSS: {0: names}}, steps)
    )


def forecasts(*steps):
    """Of a model of which no attention is known."""
    return draw_schedule(ScheduleTable((1.0, 0.5, 0.25, 0.0), {}, steps))


def trials():
    x, long = torch.zeros(1, 24, 16, 128), "attention_sage_that_some_file_names"
    found = [KernelTrial(name, 0.12345, 1e-7) for name in registry.names()]
    host = KernelTrial("host", 1.23456, 1e-7, host=long, named=True)
    return draw_trials({(role, describe(x, x, x)): (host, *found) for role in (SELF, SPATIAL)})


def plan():
    names = [*registry.names()[:4], "sliding tile (frames 12, height 50, width 50, tile 2/4/4, order hilbert)"]
    options = {
        PlanPart("video to audio", (10 * n, 10 * n + 9), 0.25, 0.75): [
            PlanOption(EXACT, 1000.0, 0.0),
            *(PlanOption(name, 10.0 * k, 10.0 ** (k - 6)) for k, name in enumerate(names, 1)),
        ]
        for n in range(30)
    }
    steps = {range_of(0.25, 0.75): [PlanOption(EXACT, 1e6, 0.0)]}
    return draw_plan(SimpleNamespace(every=options, steps=steps), choose_whole(options, steps, 0.01))


def pattern():
    both = patterns.Intersection((patterns.Radial(), patterns.Neighbourhood()))
    return draw_pattern(both, (21, 45, 80))[0]


def shares():
    parts = {SAME_FRAME: 0.3, SAME_PLACE: 0.1, ELSEWHERE: 0.4, "text": 0.1, "reference": 0.04, "first frame": 0.06}
    blocks = tuple(range(0, 40, 2))
    heat, queries = torch.zeros(2, 3, 4), torch.tensor([0])
    return draw_shares(Maps(heat, queries, dict.fromkeys(range(40), parts), blocks, parts, parts, ()))


def spreads():
    weights = torch.rand(48, 512).softmax(1)
    return draw_token_shares([TokenShares("text", CROSS, tuple(range(48)), (True,) * 48, weights)])


def series():
    values = tuple(math.sin(n) + 1.5 for n in range(241))
    unit = "mean absolute difference of luma, 0 to 1"
    title = "241 frames of 1280 x 720, 100% of the pixels matched, mean motion 12.34 pixels per frame"
    return draw_series("Steadiness over time", title, [Series("identity drift", unit, values)] * 2, [REASON] * 3)


def heat(size):
    """Of a clip so large."""
    clip, query = torch.rand(9, *size, 3), Query(50, 50, 1)
    maps = Maps(torch.rand(2, 14, 24), torch.tensor([400]), {}, (), {}, {}, ())
    return draw_heat(maps, query, clip)


# Every function that draws a picture -> makers of pictures by it, with long words.
PICTURES = {
    draw_report: (report, lambda: stages(2), lambda: stages(6)),
    draw_schedule: (
        schedule,
        lambda: schedule(("computed", "forecast taylor 1, 12 in a row", f"adaptive: {REASON}")),
        lambda: forecasts("computed", "forecast taylor 1, 12 in a row", f"adaptive: {REASON}"),
        lambda: forecasts("computed", "computed", "computed"),
        forecasts,
    ),
    draw_trials: (trials,),
    draw_plan: (plan,),
    draw_shares: (shares,),
    draw_token_shares: (spreads, lambda: draw_token_shares(())),
    draw_series: (series,),
    draw_pair: tuple(
        lambda width=width: draw_pair(torch.zeros(200, 16, width, 3), torch.ones(200, 16, width, 3) / 3, 123)
        for width in (16, 400, 1280)
    ),
    draw_info: (
        lambda: draw_info(Info("SomeModel", "", named=REASON)),
        *(
            lambda heads=heads: draw_info(
                Info("SomeModel", "Some", (SELF, CROSS), tuple(range(40)), heads, 128, 6.0, (21, 45, 80), named=REASON)
            )
            for heads in (1, 40, 4000)
        ),
    ),
    draw_pattern: (pattern,),
    draw_verified: (
        lambda: draw_verified([VerifiedSampling("exact, flash attention 2", 1.0, "", 1.0, 31.25, 0.97)] * 2, 0.03),
    ),
    draw_heat: (lambda: heat((100, 60)), lambda: heat((480, 832)), lambda: heat((720, 1280))),
}
MAKERS = {f"{draw.__name__} {n}": make for draw, makers in PICTURES.items() for n, make in enumerate(makers)}


def drawing_modules():
    found = (name for _, name, _ in pkgutil.walk_packages(attention.__path__, "attention."))
    return [importlib.import_module(name) for name in found if name.rpartition(".")[2].startswith("draw_")]


def test_every_picture_of_the_pack_is_tried():
    """What writes type on a picture stands in a module that is called so, and each function of those is in PICTURES."""
    functions = {
        function
        for module in drawing_modules()
        for name, function in vars(module).items()
        if name.startswith("draw_") and getattr(function, "__module__", "") == module.__name__
    }
    assert functions == set(PICTURES)
    folder = Path(attention.__path__[0]).parent
    pens = [
        str(path.relative_to(folder))
        for room in ("attention", "nodes")
        for path in (folder / room).rglob("*.py")
        if re.search(r"\bCanvas\b|ImageDraw|ImageFont", path.read_text(encoding="utf-8"))
    ]
    others = [pen for pen in pens if not Path(pen).name.startswith("draw_")]
    assert len(pens) > 8 and others == ["attention/core/canvas.py"]


@pytest.fixture
def texts(monkeypatch):
    """What is written on the pictures made in a test: (left, top, right, bottom, text, height of type, canvas)."""
    boxes: list[tuple] = []
    finish = Canvas.picture

    def picture(canvas, *args):
        drawn = finish(canvas, *args)
        for at, text, _, size, anchor in canvas._texts:
            left, top, right, bottom = font(size).getbbox(text, anchor=anchor)
            boxes.append((at[0] + left, at[1] + top, at[0] + right, at[1] + bottom, text, size, canvas))
        return drawn

    monkeypatch.setattr(Canvas, "picture", picture)
    return boxes


@pytest.mark.parametrize("name", MAKERS)
def test_type_is_read_where_the_picture_is_shown(name, texts):
    """15 pixels high or more where the picture is 480 pixels wide; no text leaves it or lies over another."""
    MAKERS[name]()
    assert texts
    small = [
        (text, size * 480 / canvas.size[0]) for *_, text, size, canvas in texts if size * 480 < 15 * canvas.size[0]
    ]
    assert not small
    outside = [
        one[:5] for one in texts if min(one[:2]) < 0 or one[2] > one[6].size[0] or one[3] > one[6].size[1]
    ]  # fmt: skip
    assert not outside
    over = [
        (one[4], other[4])
        for one, other in combinations(texts, 2)
        if one[6] is other[6]
        and min(one[2], other[2]) - max(one[0], other[0]) > 1
        and min(one[3], other[3]) - max(one[1], other[1]) > 1
    ]
    assert not over


@pytest.mark.parametrize("draw", [draw for draw in PICTURES if draw not in (draw_heat, draw_pair)])
def test_pictures_are_as_wide_as_the_canvas(draw):
    """Type is chosen for this width. The others are as wide as the clip, and choose their type by that."""
    for make in PICTURES[draw]:
        drawn = make()
        assert drawn.mode == "RGB" and drawn.width == WIDTH


@pytest.mark.parametrize("number", [0, 1, 4, 5, 6])
def test_what_a_picture_has_no_room_for_is_counted(number, texts):
    """Of samplers in a row the first four, and how many more there are."""
    stages(number)
    said = " ".join(text for *_, text, _, _ in texts)
    assert [f"{n}. SamplerOfSomePack" in said for n in range(1, 7)] == [n <= min(number, 4) for n in range(1, 7)]
    assert re.findall(r"and \d+ more", said) == ([f"and {number - 4} more"] if number > 4 else [])
    assert ("All of it together" in said) == (number > 0)


def test_forecasts_are_drawn_where_no_attention_is_known(texts):
    """Step two alone is forecast: its third of the row, and no other, has a colour."""
    drawn = forecasts("computed", "forecast taylor 1, 1 in a row", "computed")
    said = [text for *_, text, _, _ in texts]
    assert "steps" in said and "forecast taylor 1, 1 in a row" in said and not any("Nothing" in text for text in said)
    (colour,) = colours_of(["forecast taylor 1, 1 in a row"]).values()
    top = next(one[1] for one in texts if one[4] == "steps")
    row = drawn.crop((0, int(top), drawn.width, drawn.height))
    at = [x for x in range(row.width) if any(row.getpixel((x, y)) == colour for y in range(row.height))]
    third = (WIDTH - MARGIN - LEFT) / 3
    assert (at[0], at[-1] + 1) == pytest.approx((LEFT + third, LEFT + 2 * third), abs=2)
    forecasts()
    assert any("Nothing to draw" in text for *_, text, _, _ in texts)
