"""Colours of kernels: one for each row of the table, told apart by every eye, and never two alike in one picture."""

from __future__ import annotations

from itertools import combinations
from math import atan2, cos, degrees, exp, hypot, radians, sin, sqrt

import pytest

from attention.backends import registry
from attention.core.canvas import CATEGORIES, INK, NEUTRAL, PAPER, WELL
from attention.inspect.draw_report import STEP_COLOUR
from attention.inspect.kernel_colours import colours_of, lighter

# What eyes without one kind of cones see, on linear sRGB: G. M. Machado et al., "A physiologically-based model for
# simulation of color vision deficiency", IEEE TVCG 2009, severity 1.
EYES = {
    "of three kinds of cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "without red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "without green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "without blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
# Least CIEDE2000, of which 1 is just seen where two colours touch. Ours lie apart, in strips of a few pixels: so the
# measure is what is made for that. matplotlib's tab10 keeps its ten colours 16.2 apart, 3.3 and 1.3 to eyes without
# green or red; Okabe and Ito's eight, made for those, 11.6 and 12.2; tab20, with its lighter twins, 12.1.
APART = dict(zip(EYES, (14.0, 9.0, 9.0, 6.0)))
# A kernel in another role is a lighter twin of itself; nobody may take it for another kernel.
TWINS_APART = 4.5
GROUNDS = {"paper": PAPER, "well": WELL, "step": STEP_COLOUR, "ink": INK, "host": NEUTRAL}


def to_lab(colour, eye=EYES["of three kinds of cones"]) -> tuple[float, float, float]:
    """sRGB of 0 to 255 as CIE L*a*b* under D65 (CIE 15, section 8), as an eye sees it."""
    linear = [c / 3294.6 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    seen = [min(1.0, max(0.0, sum(a * c for a, c in zip(row, linear)))) for row in eye]
    rows = ((0.4124, 0.3576, 0.1805, 0.9505), (0.2126, 0.7152, 0.0722, 1.0), (0.0193, 0.1192, 0.9505, 1.089))
    x, y, z = (sum(a * c for a, c in zip(row, seen)) / row[3] for row in rows)
    x, y, z = (v ** (1 / 3) if v > 216 / 24389 else v * 841 / 108 + 4 / 29 for v in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def difference(one, other) -> float:
    """CIEDE2000 of two L*a*b* colours: G. Sharma et al., Color Research and Application 30, 2005."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean = (hypot(a1, b1) + hypot(a2, b2)) / 2
    grown = 1.5 - 0.5 * sqrt(mean**7 / (mean**7 + 25.0**7))
    c1, c2 = hypot(grown * a1, b1), hypot(grown * a2, b2)
    h1, h2 = degrees(atan2(b1, grown * a1)) % 360, degrees(atan2(b2, grown * a2)) % 360
    turn = 0.0 if not c1 * c2 else (h2 - h1 + 180) % 360 - 180
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = h1 + h2 if not c1 * c2 else (h1 + turn / 2) % 360
    t = 1 - 0.17 * cos(radians(hue - 30)) + 0.24 * cos(radians(2 * hue)) + 0.32 * cos(radians(3 * hue + 6))
    t -= 0.2 * cos(radians(4 * hue - 63))
    of_light = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / sqrt(20 + (light - 50) ** 2))
    of_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    of_hue = 2 * sqrt(c1 * c2) * sin(radians(turn / 2)) / (1 + 0.015 * chroma * t)
    tilt = -sin(radians(60 * exp(-(((hue - 275) / 25) ** 2)))) * 2 * sqrt(chroma**7 / (chroma**7 + 25.0**7))
    return sqrt(of_light**2 + of_chroma**2 + of_hue**2 + tilt * of_chroma * of_hue)


def test_the_measure_is_that_of_its_paper():
    for one, other, expected in (
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ):
        assert difference(one, other) == pytest.approx(expected, abs=1e-4)
    assert to_lab((255, 255, 255))[0] == pytest.approx(100, abs=0.1)
    # Red and green of one lightness: no eye without green tells them apart.
    red, green = (220, 60, 40), (130, 122, 40)
    assert difference(to_lab(red), to_lab(green)) > 30
    assert difference(to_lab(red, EYES["without green"]), to_lab(green, EYES["without green"])) < 10


def everything() -> dict:
    """Every row of the table and as many patterns as there are colours for, in one picture."""
    patterns = [f"pattern {n} (engine)" for n in range(len(CATEGORIES) - len(registry.names()))]
    return colours_of([*registry.names(), *patterns])


@pytest.mark.parametrize("eye", EYES)
def test_every_kernel_is_told_apart(eye):
    assert len(everything()) == len(CATEGORIES) >= len(registry.names()) + 4, "a new row needs a colour of its own"
    seen = {name: to_lab(colour, EYES[eye]) for name, colour in (everything() | GROUNDS).items()}
    pairs = [pair for pair in combinations(seen, 2) if not set(pair) <= set(GROUNDS)]
    close = {pair: apart for pair in pairs if (apart := difference(*(seen[name] for name in pair))) < APART[eye]}
    assert not close


def test_a_kernel_in_another_role_is_not_taken_for_another_kernel():
    full = {name: to_lab(colour) for name, colour in (everything() | GROUNDS).items()}
    twins = {name: to_lab(lighter(colour)) for name, colour in everything().items()}
    close = {
        (twin, name): apart
        for twin, colour in twins.items()
        for name, other in (*full.items(), *((n, c) for n, c in twins.items() if n != twin))
        if (apart := difference(colour, other)) < TWINS_APART
    }
    assert not close


def test_a_kernel_has_one_colour_in_every_picture():
    alone = {name: colours_of([name])[name] for name in registry.names()}
    assert alone.items() <= colours_of(["spatial (flex)", *reversed(registry.names()), "host"], {"host"}).items()
    assert colours_of(["sage", "host"], {"host"})["host"] == NEUTRAL


def test_no_two_names_share_a_colour_while_there_are_enough():
    names = [*registry.names()[:3], *(f"pattern {n} (engine)" for n in range(len(CATEGORIES) - 3))]
    colours = colours_of(names)
    assert len(set(colours.values())) == len(names)
    more = colours_of([*names, "one more (engine)", "and one (engine)"])
    assert more["one more (engine)"] in colours.values()


def test_percentages_of_one_pattern_are_shades_of_its_colour():
    """In whatever order they come, a larger one is darker; another pattern, and a name without one, has its own."""
    seen = [f"top blocks {percent} % (blocks)" for percent in (30, 52.5, 45, 60)]
    found = colours_of(["sdpa", *seen, "spatial (folded)", "host"], {"host"})
    assert len(set(found.values())) == len(found)
    light = {float(name.split()[2]): sum(found[name]) for name in seen}
    assert [light[percent] for percent in (60, 52.5, 45, 30)] == sorted(light.values())
    taus = colours_of([f"adaptive blocks tau {tau} (blocks)" for tau in (1, 1.25)])
    assert len(set(taus.values())) == 2 and taus["adaptive blocks tau 1.25 (blocks)"] in CATEGORIES
    assert found["top blocks 60 % (blocks)"] in CATEGORIES and found["spatial (folded)"] in CATEGORIES
