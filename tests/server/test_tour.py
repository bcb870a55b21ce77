"""The tour: a page that needs nothing from elsewhere, of what the nodes of a real run gave."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tour
import tour_page

LAP = {"step": 1, "seconds": 0.5, "rows": [{"role": "self", "used": "sdpa", "calls": 2, "seconds": 0.1}]}
REPORT = {
    "rows": [{"role": "self", "used": "sdpa", "calls": 4, "seconds": 0.2}], "calls": 4, "seconds": 0.2,
    "timeline": [LAP, LAP], "fallbacks": [{"role": "self", "wanted": "sage", "reason": "<b> is & bad", "calls": 3}],
}  # fmt: skip
FIGURES = {"flicker": 0.02, "warping error": 0.001, "acceleration": 1.0, "identity drift": 0.0, "sharpness": 0.1}


def way(name: str, **more) -> dict:
    files = ("clip file", "report picture", "metrics picture", "worst frame", "token_heat", "plan picture")
    return {
        "name": name, "report": REPORT, "figures": dict(FIGURES),
        **{file: [f"tour/{name} {file}.png"] for file in files}, **more,
    }  # fmt: skip


@pytest.fixture
def ways() -> list[dict]:
    shares = {"same frame": 0.25, "same place, other frames": 0.5, "elsewhere in other frames": 0.25}
    looked = {"blocks": {"0": shares}, "mean": shares, "even": shares}
    dense = way(
        "dense", **{"maps text": "View of the token at frame 3, row 1, column 2, of 8 x 8 x 8", "shares data": looked},
        heat=[f"tour/dense heat {i}.png" for i in range(8)],
    )  # fmt: skip
    other = {**FIGURES, "flicker": 0.04, "PSNR": 21.26, "SSIM": 0.8}
    spatial = way("inside each frame", **{"compare text": "two clips"}, figures=other)
    plan = way(
        "plan at quality", **{"compare text": "two", "plan text": "3 % & <all>"}, figures={**other, "PSNR": None}
    )
    return [dense, spatial, plan]


def test_the_page_stands_alone(ways):
    page = tour_page.page("red <disc>", ways, "two cores")
    assert not re.search(r"<script|https?:|@import|url\(|on\w+=", page)
    files = re.findall(r'src="([^"]+)"', page)
    assert len(files) >= 3 + 8 + 2 + 2 + 1 and all(re.fullmatch(r"tour/[\w%.]+", file) for file in files)
    assert "red &lt;disc&gt;" in page and "3 % &amp; &lt;all&gt;" in page and "&lt;b&gt; is &amp; bad" in page
    for tag in ("div", "table", "tr", "p", "small", "figure", "svg", "details", "main", "pre", "dl"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(f"</{tag}>"), tag


def test_the_page_tells_the_figures(ways):
    page = tour_page.page("red disc", ways, "two cores")
    assert "21.3" in page and ">equal<" in page and "frame 3, row 1, column 2" in page and "two cores" in page
    assert page.count('class="best">0.0200') == 1, "the steadiest clip is marked"
    assert '<i style="width:50.00%;background:#38a6a5">50 %</i>' in page
    assert "2 steps in 1.0 s, 20% of it attention.<br>3 calls fell back" in page


def test_the_plan_s_three_lines(ways):
    """Seconds, decibels, what ran."""
    dense, _, plan = ways
    laps = [{"seconds": 9.0}, {"seconds": 1.0}, {"seconds": 0.1, "forecast": 1}, {"seconds": 1.2}]
    quick = {**plan, "report": {**REPORT, "timeline": laps}, "figures": {"PSNR": 38.14}}
    slow = {**dense, "report": {**REPORT, "seconds": 0.6, "timeline": [{"seconds": 2.0}] * 4}}
    assert tour_page.plan_lines(quick, slow) == {
        "seconds": "3.50 s instead of 8.00 s: whole sampling 2.29x as fast, attention 3.00x",
        "decibels": "38.1 dB to the dense clip", "what ran": "1 of 4 steps forecast; self on sdpa",
    }  # fmt: skip
    page = tour_page.page("red disc", ways, "two cores")
    assert '<dl class="lines"><dt>seconds</dt><dd>1.00 s instead of 1.00 s' in page
    assert "<dt>decibels</dt>" in page and "<dt>what ran</dt><dd>self on sdpa</dd>" in page


def test_a_clip_is_asked_about_at_its_shape():
    """The shape of the first colour, not the other's."""
    clip = np.full((128, 80, 100, 3), 128, np.uint8)
    clip[:, 60:71, 20:31] = (220, 30, 30)
    clip[:, 10:30, 60:90] = (30, 220, 220)
    clip[:32] = 128
    assert tour.query(clip, "red") == (25.5, 100 * 65.5 / 80, 5)
    assert tour.query(clip[:1], "red")[2] == 5, "a still clip"


def test_a_clip_with_a_hole_in_its_shape():
    clip = np.full((128, 80, 100, 3), 128, np.uint8)
    clip[:, 20:60, 20:60] = (220, 30, 30)
    clip[:, 25:55, 25:55] = 128
    x, y, frame = tour.query(clip, "red")
    assert clip[frame * 8 + 4, int(y * 0.8), int(x)].tolist() == [220, 30, 30]


def test_a_prompt_links_and_keeps_defaults():
    info = {
        "A": {"input": {"required": {"size": ["INT", {"default": 3}]}}, "output_name": ["first", "second"]},
        "B": {"input": {"required": {"given": ["THING"]}, "optional": {"mode": [["x", "y"], {}]}}, "output_name": []},
    }
    prompt = tour.Prompt(info)
    a = prompt.add("A")
    prompt.add("B", given=a["second"])
    prompt.add("B", given=a, mode="y")
    assert [node["inputs"] for node in prompt.nodes.values()] == [
        {"size": 3}, {"mode": "x", "given": ["1", 1]}, {"mode": "y", "given": ["1", 0]},
    ]  # fmt: skip
    with pytest.raises(KeyError, match="A has no input length"):
        prompt.add("A", length=1)


def test_the_tour_on_a_real_server(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tour, "FOLDER", tmp_path / "tour")
    monkeypatch.setattr(tour, "PAGE", tmp_path / "tour.html")
    monkeypatch.setattr(tour, "SHOWN", replace(tour.SHOWN, side=64, length=17, steps=2))
    monkeypatch.setattr(tour, "QUICK", {**tour.QUICK, "seeds": 1})
    options = SimpleNamespace(**dict.fromkeys((*tour.SHOWN.words, "seed", "steps")) | {"direction": "down"})
    page = tour.run(server[0], options, server[1])["the page"].read_text()
    assert (
        "red square moving down, cyan triangle moving up, first in front" in page
        and "spatial" in page
        and page.count("<figure>") == 3
    )
    for file in re.findall(r'src="([^"]+)"', page):
        assert (tmp_path / file.replace("%20", " ")).stat().st_size > 100
    assert page.count("2 steps in") == 3
