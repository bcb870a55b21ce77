"""The benchmark of our kernel without a GPU: it says what it would do, and its parts work; its page is current."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import kernel_page
import pytest
import torch

from attention.backends import registry
from benchmarks import clocks, kernel
from benchmarks.floors import GPUS


def run_main(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["kernel", *arguments])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return kernel.main()


def test_without_a_gpu_it_says_what_it_would_measure(monkeypatch, capsys):
    assert run_main(monkeypatch, "--tokens", "6144,75600", "--densities", "15") == 1
    said = capsys.readouterr().out
    assert "tokens: 6144 (16 x 16 x 24), 75600 (21 x 45 x 80)" in said and "\n15 % of the tiles: " in said
    assert all(
        name in said for name in (*kernel.OURS, "comfy-kitchen sol_attn", "comfy-kitchen int8", "sage", "sdpa cudnn")
    )
    assert said.rstrip().endswith("Not measured on a GPU. This needs CUDA.")
    assert "flash_attn_interface" in said, "what is not installed is named with its reason"


def test_the_plan_is_asked_for_without_failing(monkeypatch, capsys):
    assert run_main(monkeypatch, "plan") == 0
    assert "111600" in capsys.readouterr().out


def test_unknown_sizes_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_main(monkeypatch, "--tokens", "1000")
    assert "--tokens: of 6144" in capsys.readouterr().err


@pytest.fixture
def results(monkeypatch) -> dict:
    """A run on the CPU, on a small grid: what is there runs, what is not is left out, what raises is a row."""

    def broken(q, k, v, mask=None, scale=None):
        raise RuntimeError("no such kernel\nmore")

    load = registry.load
    monkeypatch.setitem(kernel.GRIDS, 96, (2, 6, 8))
    monkeypatch.setattr(kernel.registry, "load", lambda name: broken if name == "sdpa flash" else load(name))
    options = SimpleNamespace(heads=2, densities=(50,), rounds=2)
    rows = kernel.run(96, 32, torch.device("cpu"), options)
    cpu = torch.device("cpu")
    span = {"tokens": 96, "head_dim": 32, "before": clocks.now(cpu), "after": clocks.now(cpu)}
    return {"machine": "a CPU", **clocks.driver(cpu), "versions": kernel.versions(), "dtype": "bfloat16", "heads": 2,
            "date": "today", "rounds": 2, "clocks": [span], "rows": rows}  # fmt: skip


def test_rows(results):
    rows = {(row["kernel"], row["density"]): row for row in results["rows"]}
    assert rows["sdpa", 100]["ms"] > 0 and rows["sdpa", 100]["error"] < 0.01 and rows["sdpa", 100]["mib"] is None
    assert rows["sdpa flash", 100]["failed"] == "RuntimeError: no such kernel"
    assert not any(name in kernel.OURS for name, _ in rows), "our kernel needs a GPU"
    assert json.loads(json.dumps(results)) == results
    text = kernel.markdown(results)
    assert text.count("\n| 96 | 32 |") == len(rows) + 2 and "driver not known (nvidia-smi cannot be asked" in text
    assert (
        "| 96 | 32 | before | - | - | - | - |" in text
        and text.count("Not known: ") == 1
        and f"torch {torch.__version__.split('+')[0]}" in text
    )


def row(name, density=100, **more) -> dict:
    base = {"tokens": 75600, "head_dim": 128, "ms": 10.0, "tops": 700.0, "error": 0.01, "ideal": None, "mib": 1.0}
    return {"kernel": name, "density": density, **base, **more}


def test_goals():
    rows = [
        row("video attention int8"),
        row("video attention int8", tokens=6144, tops=400.0),
        row("video attention int8, lists", 15, ideal=1.2),
        row("video attention int8, lists and means chosen in the call", 15, ms=3.0, error=0.1),
        row("video attention int8, lists and means chosen in the call", 10, ms=2.0, error=0.3),
        row("comfy-kitchen sol_attn", 15, ms=5.0, error=0.2),
        {"kernel": "sage", "density": 100, "tokens": 75600, "head_dim": 128, "failed": "no"},
    ]
    said = kernel.goals(rows)
    assert "700 TOPS" in said[0] and "1.20 x" in said[1] and "0.60 x its time" in said[2] and len(said) == 3
    assert kernel.goals([]) == []


def test_the_page_is_current():
    text = kernel_page.PAGE.read_text(encoding="utf-8")
    assert kernel_page.filled(text, kernel_page.TABLES) == text, "run: python scripts/kernel_page.py"
    assert all(name in kernel_page.floors() for name in GPUS)
    assert kernel_page.compiled().count("\n| sm_") == 6
