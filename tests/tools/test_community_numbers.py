"""Shared benchmark files, made up here: what is read, what is refused with which sentence, and the table by GPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import community_numbers as numbers
import pytest
import torch

from attention.backends.autotune import KernelTrial
from attention.core.geometry import describe
from attention.plans.bench_file import BadBenchmark, from_json, to_json

PAGE = Path(numbers.ROOT, "benchmarks", "COMMUNITY.md")


def made_up(device="a made-up GPU", model="MadeUpModel", date="2001-02-03", fast=0.001, **more) -> dict:
    """A file that nobody measured; it says so in its words."""
    x = torch.zeros(1, 2, 40, 16)
    trials = (
        KernelTrial("host", 0.002, 1e-6, host="made_up_attention"),
        KernelTrial("sdpa", fast, 2e-6),
        KernelTrial("sage", 0.0, float("nan")),
        KernelTrial("flex", reason="made up: it refused"),
    )
    trials = (trials[0], trials[1], KernelTrial("sage", 0.004, float("nan")), trials[3])
    about = {"date": date, "device": device, "model": model, "versions": {"comfyui": "0.0", "torch": "0.1"}}
    text = to_json({("self", describe(x, x, x)): trials, ("cross", describe(x, x, x)): trials[:1]}, **about)
    return {**json.loads(text), **more}


def changed(path: str, value) -> dict:
    """A made-up file with one value changed, or deleted where it is `...`. path: names and numbers with dots."""
    data = made_up()
    *way, last = (int(word) if word.isdigit() else word for word in path.split("."))
    at = data
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return data


def test_what_was_measured_comes_back():
    data = from_json(json.dumps(made_up()))
    assert data["video_attention_benchmark"] == 1 and [call["role"] for call in data["calls"]] == ["self", "cross"]
    rows = {row["name"]: row for row in data["calls"][0]["kernels"]}
    assert rows["sdpa"]["ms"] == pytest.approx(1.0) and rows["host"]["host"] == "made_up_attention"
    assert rows["sage"]["error"] is None and rows["flex"] == {
        "name": "flex", "ms": None, "error": None, "reason": "made up: it refused"
    }  # fmt: skip


def test_a_newer_schema_that_adds_fields_is_read():
    newer = made_up(video_attention_benchmark=7, clocks=[1, 2])
    newer["calls"][0]["kernels"][0]["joules"] = 3
    assert from_json(json.dumps(newer))["clocks"] == [1, 2]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("video_attention_benchmark", ..., "not of Video Attention Benchmark"),
        ("video_attention_benchmark", True, "not of Video Attention Benchmark"),
        ("device", ..., "file: device is missing"),
        ("versions", {"torch": 2}, "not a table of words"),
        ("calls.0", 3, "call 0 is not a table"),
        ("calls.0.heads", "2", "call 0: heads is missing or str"),
        ("calls.0.heads", True, "call 0: heads is missing or bool"),
        ("calls.0.role", "made up", "role 'made up'"),
        ("calls.0.kernels.1.ms", None, "'sdpa' has both or neither"),
        ("calls.0.kernels.1.ms", -1.0, "'sdpa' takes -1.0 ms"),
        ("calls.0.kernels.1.name", ..., "call 0, kernels: name is missing"),
        ("model", "x" * 500, "file: model is too long"),
    ],
)
def test_what_is_wrong_is_told(path, value, said):
    with pytest.raises(BadBenchmark, match=said):
        from_json(json.dumps(changed(path, value)))


@pytest.mark.parametrize("text", ["", "[]", "NaN", '{"video_attention_benchmark": 1, "x": Infinity}', "[" * 100000])
def test_what_is_no_file_at_all_is_told(text):
    with pytest.raises(BadBenchmark):
        from_json(text)


def written(folder: Path, **files) -> Path:
    for name, data in files.items():
        (folder / f"{name}.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return folder


def test_the_table_is_by_gpu_and_fastest_first(tmp_path):
    folder = written(tmp_path, b=made_up("B, made up"), a=made_up("A, made up", fast=0.0005), broken="{")
    files, wrong = numbers.read(folder)
    rows = numbers.table(files).splitlines()[2:]
    assert len(files) == 2 and len(wrong) == 1 and wrong[0].startswith("broken.json: not JSON")
    assert [row.split("|")[1].strip()[0] for row in rows] == list("AAABBB")
    assert "| sdpa | 0.500 | 4.00x | 2.0e-06 | 2001-02-03 | comfyui 0.0, torch 0.1 |" in rows[0]
    assert "ComfyUI's own (made_up_attention) | 2.000 | 1.00x" in rows[1] and "| sage | 4.000 | 0.50x | - |" in rows[2]
    assert numbers.table([]) == numbers.NOTHING


def test_words_of_strangers_stay_words(tmp_path):
    folder = written(tmp_path, evil=made_up("a | b\n| <img src=x> [made](up)"))
    assert all(row.count("|") == 11 and "<" not in row for row in numbers.table(numbers.read(folder)[0]).splitlines())


def test_the_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "files").mkdir()
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8"))
    folder = written(tmp_path / "files", a=made_up())
    monkeypatch.setattr(sys, "argv", ["community_numbers", str(folder)])
    assert numbers.main() == 0 and "a made-up GPU" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["community_numbers", str(folder), "--page", str(page)])
    assert numbers.main() == 0 and "a made-up GPU" in page.read_text() and "## Share yours" in page.read_text()
    written(folder, bad="[]")
    assert numbers.main() == 1 and "left out: bad.json" in capsys.readouterr().err


def test_no_number_stands_on_the_page_that_nobody_shared():
    text = PAGE.read_text(encoding="utf-8")
    assert f"<!-- numbers -->\n{numbers.NOTHING}\n<!-- /numbers -->" in text
