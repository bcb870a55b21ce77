"""The page that teaches attention: what it names is there, and its script makes it of the model's own tensors."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import attention_charts
import attention_page
import attention_pictures
import attention_runs
import host
import pytest
import tables
import torch
from PIL import Image

from benchmarks.demo_model import TESTBEDS, apart

PAGE = attention_page.PAGE
TEXT = PAGE.read_text(encoding="ascii")
# Just above `min_tokens` of the patterns, so that they apply.
SMALL = attention_runs.Subject(
    replace(TESTBEDS["small"], shape=(1, 128, 3, 5, 5)), temporal="video-attention-temporal.safetensors", steps=2
)


@pytest.fixture(scope="module")
def lesson(comfy_host):
    """All of the page, of a small clip sampled in two steps."""
    with torch.inference_mode():
        return attention_runs.gather(SMALL)


def test_every_node_that_it_names_is_there_and_every_section_names_one(pack):
    known = {node.GET_SCHEMA().node_id for node in pack.nodes.NODES}
    for section in TEXT.split("\n## ")[1:-1]:
        acts, change = (
            re.search(rf"^- \*\*{name}:\*\*(.*?)(?=^- |\Z)", section, re.M | re.S)
            for name in ("Acts on it", "Change it")
        )
        named = set(re.findall(r"\]\((VideoAttention\w+)\.md\)", section))
        assert acts and change and named and named <= known, section[:40]
    folder = PAGE.parent
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in link]
    assert all((folder / link).exists() for link in links)


def test_its_pictures_are_those_that_the_script_makes():
    shown = set(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT))
    made = {f"{PAGE.stem}-{name}.png" for name in attention_page.PICTURES} | {f"{PAGE.stem}-ways.webp"}
    assert shown == made == {file.name for file in PAGE.parent.glob(f"{PAGE.stem}-*")}


def test_its_figures_stand_between_markers():
    empty = tables.filled(TEXT, dict.fromkeys(attention_page.TABLES, str))
    assert len(TEXT) > len(empty) + 1000 and not re.search(r"<!-- (\w+) --><!-- /\1 -->", TEXT)


def test_boxes_that_it_speaks_of_are_the_workflow_s():
    workflow = json.loads((host.ROOT / "workflows" / "Learn attention in video.json").read_text())
    numbers = {group["title"].split(" ")[0] for group in workflow["groups"]}
    assert set(re.findall(r"[Bb]ox (\d)", TEXT)) <= numbers
    titles = {node.get("title") for node in workflow["nodes"]}
    assert {"The softmax", "Who may see whom", "Sample A", "Trained temporal blocks: Ctrl+B"} <= titles


def test_it_is_made_anew(lesson, tmp_path):
    page = tmp_path / PAGE.name
    shutil.copy(PAGE, page)
    attention_page.write(lesson, page)
    text = page.read_text(encoding="ascii")
    assert "24 pictures of 160 x 160 pixels become 3 x 5 x 5 = 75 tokens" in text
    assert attention_page.figures(lesson) in text and attention_page.sound(lesson) in text
    for name in attention_page.PICTURES:
        with Image.open(tmp_path / f"{PAGE.stem}-{name}.png") as picture:
            assert picture.width <= 900 and len(set(picture.convert("RGB").getdata())) > 8
    with Image.open(tmp_path / f"{PAGE.stem}-ways.webp") as clip:
        assert clip.n_frames > 1


def test_ways_to_attend_give_clips_of_their_own(lesson):
    latents = [clip.latent for clip in lesson.clips.values()]
    assert set(lesson.clips) == set(attention_pictures.WAYS) == set(attention_page.HOW)
    assert all(not torch.equal(a, b) for at, a in enumerate(latents) for b in latents[:at])


def test_weights_are_those_that_the_model_attends_with(lesson):
    for (role, block), (q, k, v) in lesson.calls.items():
        weights = lesson.weights(role, block)
        assert torch.allclose(weights @ v, torch.nn.functional.scaled_dot_product_attention(q, k, v), atol=1e-4)
    assert {role for role, _ in lesson.calls} == {"self", "cross"}
    block, head = lesson.sharpest()
    others = lesson.shape.clone()
    others[lesson.query // 25] = False
    mine = lesson.weights("self", block)[head, lesson.query, others.flatten()].sum()
    assert all(
        lesson.weights("self", b)[:, lesson.query, others.flatten()].sum(-1).max() <= mine
        for b in lesson.blocks("self")
    )


def test_the_shape_is_found_and_the_query_lies_on_it():
    frames = torch.full((16, 64, 64, 3), 0.5)
    frames[:8, 16:48, 16:48, 0] = 1.0
    frames[8:, 16:48, 32:64, 0] = 1.0
    shape = attention_runs.find_shape(apart(frames), (2, 4, 4))
    assert shape[0, 1:3, 1:3].all() and shape[1, 1:3, 2:4].all() and shape.sum() == 8
    frame, place = divmod(attention_runs.middle_of(shape), 16)
    assert frame == 0 and shape[0].flatten()[place]


def test_costs_are_the_benchmark_s(lesson):
    rows = attention_charts.costs()
    assert len(rows) == 12 and {row.model for row in rows} == {attention_charts.TRANSFORMER, attention_charts.UNET}
    for row in rows:
        assert abs(row.attention / (row.attention + row.rest) - row.share / 100) < 0.01
    assert attention_page.costs(lesson) in TEXT, "run: python scripts/attention_page.py"
    with pytest.raises(ValueError, match="has no table"):
        attention_charts.costs("| 1 |")


def test_sound_is_what_the_host_s_class_attends_with(lesson):
    assert attention_page.sound(lesson) in TEXT, "run: python scripts/attention_page.py"
    (asks, hears), (listens, sees) = lesson.sound["video to audio"], lesson.sound["audio to video"]
    assert asks[1] == sees[1] == 60 and hears[1] == listens[1] == 9
