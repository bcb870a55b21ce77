"""What a user sees while a run goes on: bar, line, previews."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from studio import CASES, STEPS, Studio, latent_of
from studio import bar as bar
from studio import previews as previews
from tiny import case as tiny_case

from attention.sampling import preview_frames, time_left

SID = "page"


@pytest.fixture(params=CASES, ids=str)
def studio(pack, request, inference):
    return Studio(pack, request.param)


@pytest.fixture
def progress(pack):
    return pack.nodes.runs.progress


class Page:
    """The host's server as far as samplers talk to it. moving: whether its page shows WebP."""

    def __init__(self, moving=True):
        self.client_id, self.last_node_id, self.lines = SID, "12", []
        self.sockets_metadata = {SID: {"feature_flags": {"supports_preview_metadata": moving}}}

    def send_sync(self, event, data, sid=None):
        """Takes what Report nodes are told; tests of it are in test_timeline.py."""

    def send_progress_text(self, text, node_id, sid=None):
        self.lines.append((text, node_id, sid))


@pytest.fixture
def page(progress, monkeypatch):
    """A page that is open, and told of every step, however quick."""
    monkeypatch.setattr(progress, "APART", 0.0)
    made = Page()
    monkeypatch.setattr(progress.PromptServer, "instance", made, raising=False)
    return made


# --- the bar and the line --------------------------------------------------------------------------------------------


def test_bar_moves_step_by_step(studio, bar):
    studio.sample()
    assert [(value, total) for value, total, _ in bar] == [(i + 1, STEPS) for i in range(STEPS)]


def test_each_step_has_a_line_with_the_seconds_left(pack, inference, page, progress, monkeypatch):
    seconds = iter(range(0, 10000, 30))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(seconds) / 3)
    Studio(pack, CASES[0]).sample()
    lines = [text for text, node, sid in page.lines if (node, sid) == ("12", SID)]
    assert len(lines) == STEPS and lines[0] == "Step 1 of 4" and lines[-1] == "Step 4 of 4"
    # Two of the clock's ticks in a step, 10 seconds each.
    assert lines[1:3] == ["Step 2 of 4, 40 s left", "Step 3 of 4, 20 s left"]


def test_lines_name_the_stage_and_the_window(pack, inference, page):
    studio = Studio(pack, CASES[0])
    studio.two(switch_step=1)
    assert [text.split(",")[0] for text, *_ in page.lines] == [
        "Step 1 of 1 of the first model",
        *(f"Step {step} of 3 of the second model" for step in (1, 2, 3)),
    ]


def test_nobody_is_told_without_a_page(pack, inference, progress, monkeypatch):
    monkeypatch.delattr(progress.PromptServer, "instance", raising=False)
    Studio(pack, CASES[0]).sample()
    quiet = Page()
    quiet.client_id = None
    monkeypatch.setattr(progress.PromptServer, "instance", quiet, raising=False)
    Studio(pack, CASES[0]).sample()
    assert not quiet.lines


def test_seconds_left():
    marks = time_left.TimeLeft()
    assert marks.seconds(10) is None
    marks.mark(1, 100.0)
    assert marks.seconds(10) is None, "the first step loads the model"
    marks.mark(2, 102.0)
    assert marks.seconds(10) == pytest.approx(16.0)
    for value in range(3, 20):
        marks.mark(value, 200.0 + value)
    assert marks.seconds(20) == pytest.approx(1.0), "an earlier stage of another pace is forgotten"
    marks.mark(25, 230.0)
    assert marks.seconds(20) == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.4, "9.4 s"), (59.4, "59 s"), (200, "3 min 20 s"), (3720, "1 h 2 min")]
)
def test_seconds_as_text(seconds, text):
    assert time_left.to_text(seconds) == text


# --- previews --------------------------------------------------------------------------------------------------------


def opened(preview) -> Image.Image:
    """What ComfyUI's server sends of a preview, opened again."""
    kind, image, edge = preview
    if edge is not None:
        image = preview_frames.fit(image, edge)
    sent = io.BytesIO()
    image.save(sent, format=kind, quality=95, compress_level=1)
    return Image.open(sent)


def test_a_page_gets_a_moving_preview(studio, bar, previews, page):
    studio.sample()
    shown = [preview for *_, preview in bar if preview is not None]
    count = tiny_case.parts(studio.case.latent())[0].shape[2]
    made = opened(shown[0])
    # The encoder takes guide frames that are alike for one.
    assert getattr(made, "n_frames", 1) == (4 if "guides" in str(studio.case) else count)
    assert max(made.size) == previews.MAX_PREVIEW_RESOLUTION
    assert made.format == ("WEBP" if count > 1 else "JPEG")


def test_others_get_a_contact_sheet(pack, inference, bar, previews, page):
    page.sockets_metadata[SID]["feature_flags"]["supports_preview_metadata"] = False
    studio = Studio(pack, CASES[0])
    studio.sample()
    made = opened(bar[0][2])
    frame_count, height, width = studio.case.latent().shape[-3:]
    assert made.format == "JPEG" and frame_count == 3
    assert made.size[0] / made.size[1] == pytest.approx(2 * width / (2 * height), rel=0.05)


def test_no_previews_when_they_are_off(pack, inference, bar):
    Studio(pack, CASES[0]).sample()
    assert all(preview is None for *_, preview in bar)


def test_previews_take_a_tenth_of_the_time(pack, inference, progress, previews, monkeypatch):
    """A preview of one second: the next one nine seconds later at the earliest."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    studio = Studio(pack, CASES[0])
    shown = progress.Previews(studio.model)
    decode = shown._previewer.decode_latent_to_preview_image

    def slow(kind, x0):
        now[0] += 1 / 3
        return decode(kind, x0)

    monkeypatch.setattr(shown._previewer, "decode_latent_to_preview_image", slow, raising=False)
    x0 = torch.zeros(1, 128, 3, 4, 5)
    assert shown.of(x0, None) is not None
    begin = now[0]
    for later, expected in ((0.0, False), (8.9, False), (9.1, True)):
        now[0] = begin + later
        assert (shown.of(x0, None) is not None) is expected, later


def test_another_packs_previewer_gets_the_whole_clip(pack, inference, progress, previews, monkeypatch):
    seen = []

    class Previewer:
        def decode_latent_to_preview_image(self, kind, x0):
            seen.append(tuple(x0.shape))

    monkeypatch.setattr(previews, "get_previewer", lambda *_: Previewer())
    Studio(pack, CASES[0]).sample()
    assert seen == [(1, 128, 3, 4, 5)] * STEPS


@given(st.integers(0, 20), st.integers(1, 100), st.integers(2, 20))
def test_frames_are_spread(first, count, most):
    at = preview_frames.pick_evenly(first, first + count, most)
    assert at[0] == first and at[-1] == first + count - 1 and len(at) == min(count, most)
    steps = {b - a for a, b in zip(at, at[1:], strict=False)}
    assert not steps or max(steps) - min(steps) <= 1 and min(steps) >= 1


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 40))
def test_a_sheet_holds_every_picture(count, width, height):
    shades = [Image.new("RGB", (width, height), (20 * i + 10,) * 3) for i in range(count)]
    made = preview_frames.contact_sheet(shades, 512)
    assert max(made.size) <= 512
    assert {colour[0] for _, colour in made.getcolors(maxcolors=1 << 20)} >= {20 * i + 10 for i in range(count)}


def test_calibrate_moves_the_page_s_bar_too(pack, bar):
    move = pack.nodes.plan._bar()
    for done in (1, 3):
        move(done, 3)
    assert [(value, total) for value, total, _ in bar] == [(1, 3), (3, 3)]


def test_verify_s_bar_is_full_at_its_end_and_not_before(lab, bar):
    latent = {"samples": torch.zeros(1, 128, 2, 3, 4)}
    lab.pack.nodes.verify.VideoAttentionVerify.execute(lab.backend(), *lab.prompt, latent, 1, 2, 1.0, "euler", "simple")
    values, (total,) = [value for value, _, _ in bar], {total for _, total, _ in bar}
    assert values[:6] == list(range(1, 7)) and values == sorted(values)
    assert values[-1] == total and (len(values) == total or total not in values[:-1])


def test_quick_steps_share_a_line(pack, inference, progress, monkeypatch):
    """Ten steps a second: a line every third of them, the first and the last one always."""
    page, now = Page(), [100.0]
    monkeypatch.setattr(progress.PromptServer, "instance", page, raising=False)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    bar = progress.Progress(Studio(pack, CASES[0]).model, 12)
    for step in range(1, 13):
        bar.move(step, f"Step {step}")
        now[0] += 0.1
    assert [text.split(",")[0] for text, *_ in page.lines] == [f"Step {n}" for n in (1, 4, 7, 10, 12)]


# --- what is measured by several samplings ---------------------------------------------------------------------------


def test_a_measurement_says_which_of_how_many_and_how_long_all_still_take(page, progress, bar, monkeypatch):
    seconds = iter(range(0, 10000, 30))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: float(next(seconds)))
    counted = progress.Counted("Sampling", 4, 12)
    for _ in range(12):
        counted.step()
    assert [text for text, *_ in page.lines][:5] == [
        "Sampling 1 of 3, step 1 of 4",
        "Sampling 1 of 3, step 2 of 4, about 10 min 0 s left",
        "Sampling 1 of 3, step 3 of 4, about 9 min 0 s left",
        "Sampling 2 of 3, about 8 min 0 s left",
        "Sampling 2 of 3, step 1 of 4, about 7 min 0 s left",
    ]
    assert [(value, total) for value, total, _ in bar][-1] == (12, 12) and len(page.lines) == 11


def test_verify_and_benchmark_count(pack, inference, page):
    studio = Studio(pack, CASES[0])
    verify, bench = pack.nodes.verify.VideoAttentionVerify, pack.nodes.benchmark.VideoAttentionBenchmark
    model = pack.nodes.host.model_rules.add_rule(studio.model, pack.attention.routing.rules.Rule("sdpa"))
    latent, prompt = latent_of(CASES[0]), studio.positive
    verify.execute(model, prompt, prompt, latent, 1, 2, 1.0, "euler", "simple")
    assert any(text.startswith("Sampling 2 of ") for text, *_ in page.lines)
    page.lines.clear()
    bench.execute(studio.model, prompt, latent, 1)
    count = pack.nodes.host.model_family.count_sites(studio.model)
    assert any(text.startswith(f"Attention call 2 of {count}") for text, *_ in page.lines)
