"""The page of the tour: one HTML file with pictures beside it, no scripts, nothing from elsewhere."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from urllib.parse import quote

STYLE = Path(__file__).with_name("tour.css").read_text(encoding="ascii")
ABOUT = {
    "dense": "Every token of the clip sees every other: what the model was trained with.",
    "inside each frame": "Same weights, same noise, but no token sees another frame. One Pattern node.",
    "plan at quality": "Calibrate tried kernels, patterns and forecast steps, and kept the error below 3\u00a0%.",
}
# name -> (heading, unit, digits, best: min or max, None for neither)
FIGURES = {
    "motion": ("motion", "% of height / frame", 2, None),
    "brightness flicker": ("brightness flicker", "luma, 0 to 1", 5, min),
    "flicker": ("flicker", "luma, 0 to 1", 5, min),
    "warping error": ("warping error", "RGB, 0 to 1", 5, min),
    "acceleration": ("acceleration", "px / frame\u00b2", 2, min),
    "identity drift": ("identity drift", "1 - cosine", 3, None),
    "sharpness": ("sharpness", "Laplacian", 5, None),
    "PSNR": ("PSNR", "dB to dense", 1, None),
    "SSIM": ("SSIM", "to dense", 3, None),
}
PARTS = {"same frame": "#1d6996", "same place, other frames": "#38a6a5", "text": "#edad08"}
REST, COLOURS = "#b0b4bc", ("#94346e", "#5f4690", "#0f8554", "#cc503e", "#e17c05", "#1d6996")


def page(words: str, ways: list[dict], machine: str) -> str:
    """The page. words: the prompt; ways: what tour.gather_way gives, the dense one first."""
    colours = kernel_colours(ways)
    parts = [
        f"<h1>One video, three kinds of attention</h1><p>Prompt: <b>{escape(words)}</b>. The demo transformer that "
        "comes with ComfyUI-VideoAttention, sampled in ComfyUI with one seed. Every clip, figure and picture below is "
        "what a node of the graph gives.</p>",
        f'<div class="ways">{"".join(map(card, ways))}</div>',
        figures(ways),
        look(ways[0]),
        '<section id="ran"><h2>What ran, and what it cost</h2>'
        "<p>From Video Attention Report: each role of attention, the kernel that "
        "ran it, and a column for each step of the sampling, attention in colour. Seconds are of one run each, one "
        "after the other: whatever else the machine did counts. Video Attention Benchmark times kernels in turns.</p>"
        f'<div class="ran">{"".join(ran(way, colours) for way in ways)}</div></section>',
        changed(ways[1:]),
        *(plan(way, ways[0]) for way in ways),
        f"<footer>python scripts/demo.py --tour &middot; {escape(machine)}. Frames are numbered from 0.</footer>",
    ]
    head = f"<title>Tour: {escape(words)}</title><style>{STYLE}</style>"
    body = "\n".join(filter(None, parts))
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8">{head}<main>{body}</main></html>\n'


def picture(file: str, words: str = "", kind: str = "") -> str:
    return f'<img src="{quote(file)}" alt="{escape(words)}"{f" class={kind}" if kind else ""}>'


def seconds(way: dict) -> tuple[float, float]:
    """(all steps but the first, which also warms up; attention in all of them)."""
    laps = way["report"]["timeline"]
    return sum(lap["seconds"] for lap in laps[1:]) / max(1, len(laps) - 1), way["report"]["seconds"]


def card(way: dict) -> str:
    each, attention = seconds(way)
    rows = {"attention, all steps": f"{attention:.2f} s", "a step": f"{1000 * each:.0f} ms"}
    rows["flicker"] = number(way["figures"].get("flicker"), 5)
    if "PSNR" in way["figures"]:
        rows["to the dense clip"] = number(way["figures"]["PSNR"], 1, " dB")
    else:
        rows["to the dense clip"] = "the reference"
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows.items())
    about = escape(ABOUT.get(way["name"], ""))
    return (
        f'<div class="card">{picture(way["clip file"][0], way["name"])}<div><h3>{escape(way["name"].capitalize())}</h3>'
        f"<p>{about}</p><dl>{told}</dl></div></div>"
    )


def number(value: float | None, digits: int, unit: str = "") -> str:
    """None is what JSON has for infinity: a PSNR of equal clips."""
    return "equal" if value is None else f"{value:.{digits}f}{unit}"


def figures(ways: list[dict]) -> str:
    """The table of what the metrics say."""
    heads = "".join(f"<th>{h}<small>{u}</small></th>" for h, u, _, _ in FIGURES.values())
    body = ""
    for way in ways:
        cells = ""
        for name, (_, _, digits, best) in FIGURES.items():
            known = [w["figures"][name] for w in ways if w["figures"].get(name) is not None]
            value = way["figures"].get(name)
            told = number(value, digits) if name in way["figures"] else "-"
            mark = ' class="best"' if best and value is not None and told == number(best(known), digits) else ""
            cells += f"<td{mark}>{told}</td>"
        body += f"<tr><td>{escape(way['name'])}</td>{cells}</tr>"
    return (
        '<section id="figures"><h2>What it changed</h2>'
        "<p>From Temporal Metrics and Compare; less flicker, error, acceleration and drift is "
        "steadier. A clip of unrelated frames flickers; one that follows the dense clip has a high PSNR.</p>"
        f"<table><tr><th></th>{heads}</tr>{body}</table></section>"
    )


def look(way: dict) -> str:
    """Heat over the clip, shares by block, words."""
    where = re.search(r"View of (.*?), of", way["maps text"])
    shares = way["shares data"]
    names = list(dict.fromkeys(part for of in (*shares["blocks"].values(), shares["even"]) for part in of))
    film = "".join(
        f"<figure>{picture(file, f'heat, frame {frame}')}frame {frame}</figure>"
        for frame, file in enumerate(way["heat"])
    )
    rows = [(f"block {block}", of, "") for block, of in shares["blocks"].items()]
    rows += [("mean", shares["mean"], "strong"), ("if even", shares["even"], "")]
    bars = "".join(
        f'<span class="{strong}">{name}</span><div class="bar">{stack(of, names)}</div>' for name, of, strong in rows
    )
    key = "".join(f'<span><i style="background:{PARTS.get(name, REST)}"></i>{escape(name)}</span>' for name in names)
    words = picture(way["token_heat"][0], "what each token of the prompt receives")
    return (
        '<section id="look"><h2>Where the model looks</h2>'
        f"<p>From Video Attention Maps: the attention of {escape(where[1])}, ringed, "
        "over the whole clip, in the mean of all blocks and heads; brighter is more. On the node, a click on a frame "
        f'asks again from there.</p><div class="film">{film}</div>'
        "<p><b>How that attention is divided.</b> The same frame, the same place at other times, or elsewhere: what a "
        f'spatial or temporal pattern would keep.</p><div class="bars">{bars}</div><div class="key">{key}</div>'
        f"<details><summary>What each word of the prompt receives</summary>{words}"
        f"<pre>{escape(way['maps text'])}</pre></details></section>"
    )


def stack(of: dict[str, float], names: list[str]) -> str:
    return "".join(
        f'<i style="width:{100 * of.get(name, 0):.2f}%;background:{PARTS.get(name, REST)}">'
        f"{f'{100 * of[name]:.0f} %' if of.get(name, 0) > 0.06 else ''}</i>"
        for name in names
    )


def kernel_colours(ways: list[dict]) -> dict[str, str]:
    used = dict.fromkeys(row["used"] for way in ways for row in way["report"]["rows"])
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(used)}


def ran(way: dict, colours: dict[str, str]) -> str:
    """The rows of a report and its steps."""
    report, rows = way["report"], ""
    for row in report["rows"]:
        share = row["seconds"] / report["seconds"] if report["seconds"] else row["calls"] / report["calls"]
        rows += (
            f'<div class="row"><span>{escape(row["role"])} on {escape(row["used"])}</span>'
            f"<small>{row['calls']} calls, {row['seconds']:.2f} s</small></div>"
            f'<div class="bar"><i style="width:{100 * share:.1f}%;background:{colours[row["used"]]}"></i></div>'
        )
    each, attention = seconds(way)
    total = sum(lap["seconds"] for lap in report["timeline"])
    cost = f"{len(report['timeline'])} steps in {total:.1f} s, {attention / total:.0%} of it attention."
    fell = "".join(f"<br>{f['calls']} calls fell back: {escape(f['reason'])}" for f in report["fallbacks"][:2])
    return (
        f"<div><h3>{escape(way['name'].capitalize())}</h3>{rows}{steps(report['timeline'], colours)}"
        f"<small>{cost}{fell}</small></div>"
    )


def steps(laps: list[dict], colours: dict[str, str]) -> str:
    """Columns, as high as the steps took, those that take longer than three usual ones cut."""
    usual = sorted(lap["seconds"] for lap in laps)[len(laps) // 2]
    most, wide, shapes = min(max(lap["seconds"] for lap in laps), 2.5 * usual), 300 / len(laps), ""
    for index, lap in enumerate(laps):
        x, high = index * wide, min(1.0, lap["seconds"] / most) * 60
        shapes += box(x, 62 - high, wide - 2, high, "#d6d9e0")
        y = 62.0
        for row in lap["rows"]:
            part = min(1.0, row["seconds"] / most) * 60
            y -= part
            shapes += box(x, y, wide - 2, part, colours[row["used"]])
    return f'<svg viewBox="0 0 300 64" style="margin:16px 0 6px">{shapes}</svg>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def changed(ways: list[dict]) -> str:
    """The worst frames beside the dense clip."""
    cells = "".join(
        f"<div><h3>{escape(way['name'].capitalize())}</h3>{picture(way['worst frame'][0], 'worst frame')}"
        f"<details><summary>figures for each frame</summary>{picture(way['metrics picture'][0], 'metrics')}"
        f"<pre>{escape(way['compare text'])}</pre></details></div>"
        for way in ways
    )
    return (
        '<section id="differs"><h2>The frame that differs most</h2><p>From Video Attention Compare.</p>'
        f'<div class="two">{cells}</div></section>'
    )


def plan(way: dict, dense: dict) -> str:
    if "plan text" not in way:
        return ""
    lines = "".join(f"<dt>{name}</dt><dd>{escape(told)}</dd>" for name, told in plan_lines(way, dense).items())
    return (
        '<section id="plan"><h2>The plan</h2>'
        "<p>From Video Attention Calibrate: what was tried, error against time, and the choice.</p>"
        f'<dl class="lines">{lines}</dl>{picture(way["plan picture"][0], "plan")}<details><summary>in words</summary>'
        f"<pre>{escape(way['plan text'])}</pre></details></section>"
    )


def plan_lines(way: dict, dense: dict) -> dict[str, str]:
    """What a plan took, what it cost and what it was: three lines."""
    (took, attention), (whole, before) = sampled(way), sampled(dense)
    made = sum(bool(lap.get("forecast")) for lap in way["report"]["timeline"])
    ran = [f"{made} of {len(way['report']['timeline'])} steps forecast"] if made else []
    ran += [f"{row['role']} on {row['used']}" for row in way["report"]["rows"]]
    alone = f", attention {before / attention:.2f}x" if attention else ""
    return {
        "seconds": f"{took:.2f} s instead of {whole:.2f} s: whole sampling {whole / took:.2f}x as fast{alone}",
        "decibels": f"{number(way['figures'].get('PSNR'), 1, ' dB')} to the dense clip",
        "what ran": "; ".join(ran),
    }


def sampled(way: dict) -> tuple[float, float]:
    """(seconds of all steps, of their attention), the first of them, which also loads, as a usual computed one."""
    laps = way["report"]["timeline"]
    usual = sorted(lap["seconds"] for lap in laps[1:] if not lap.get("forecast")) or [laps[0]["seconds"]]
    return sum(lap["seconds"] for lap in laps[1:]) + usual[len(usual) // 2], way["report"]["seconds"]
