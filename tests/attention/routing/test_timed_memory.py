"""Memory in the report of a timed run: one call of each kind is measured, what ran, as it ran."""

from __future__ import annotations

import pytest
import torch
from faulty_kernels import SITE_0, draw, run
from stand_in_host import sdpa_host

from attention.core.peak_memory import MIB
from attention.core.site import CROSS, SELF, AttentionSite
from attention.inspect.combined_report import combine
from attention.inspect.report import summarise
from attention.inspect.report_text import to_text
from attention.routing import timed_run
from attention.routing.rules import GUARD_EVERY, Rule
from attention.routing.run_stats import RunStats

torch.set_num_threads(1)
LENGTH, OUT = 64, 2 * 64 * 32 * 4


def peaks(stats):
    return {row.used: row.peak for row in summarise(stats).rows}


def test_a_kernel_with_scores_and_one_without():
    stats, tensors = RunStats(), draw(length=LENGTH)
    for backend, site in (("reference", SITE_0), ("sdpa flash", AttentionSite("LTXV", CROSS, 0))):
        for _ in range(2):
            run(tensors, Rule(backend, timing=True, choice="table order"), stats, site=site, own=sdpa_host)
    found = peaks(stats)
    scores = 2 * 2 * LENGTH * LENGTH * 4
    assert scores + OUT < found["reference"] < 5 * scores + OUT
    assert OUT <= found["sdpa flash"] < 2 * OUT
    text, data = to_text(summarise(stats)), summarise(stats).as_dict()
    assert any(line.endswith("peak MiB") for line in text.splitlines())
    assert {row["used"]: row["peak_mib"] for row in data["rows"]} == {
        name: round(peak / MIB, 3) for name, peak in found.items()
    }
    assert data["peak_mib"] is None, "the run's own is for a GPU"
    assert peaks(stats) == {row.used: row.peak for row in combine([summarise(stats), summarise(stats)]).rows}


@pytest.mark.parametrize("guard", ["off", "first call", GUARD_EVERY])
@pytest.mark.parametrize("backend", ["sdpa flash", "host default"])
def test_one_call_for_a_kernel_and_geometry(monkeypatch, guard, backend):
    measured = []

    def peak_of(run, device):
        measured.append(1)
        return run(), 7

    monkeypatch.setattr(timed_run, "peak_of", peak_of)
    stats = RunStats()
    for block in range(4):
        for _ in range(3):
            run(draw(), Rule(backend, timing=True, guard=guard), stats, site=AttentionSite("LTXV", SELF, block))
    assert len(measured) == 1 and set(peaks(stats).values()) == {7}


def test_nothing_is_measured_without_timing(monkeypatch):
    monkeypatch.setattr(timed_run, "peak_of", None)
    stats = RunStats()
    for _ in range(3):
        run(draw(), Rule("sdpa flash"), stats)
    assert peaks(stats) == {"sdpa flash": None} and "peak MiB" not in to_text(summarise(stats))


def test_a_run_that_was_measured_says_so():
    stats = RunStats()
    run(draw(), Rule("sdpa flash"), stats)

    class Measured:
        found = (4096 * MIB, 1536 * MIB)

    stats.memory = Measured
    text = to_text(summarise(stats))
    assert "Memory: 1,536 MiB at the peak of the run, beside 4,096 MiB that were taken before." in text
    assert summarise(stats).as_dict()["peak_mib"] == 1536.0
    assert combine([summarise(RunStats()), summarise(stats)]).memory == (4096 * MIB, 1536 * MIB)
