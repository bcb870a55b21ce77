"""Memory in Benchmark's table: the peak of a call, and how many tokens would fit."""

from __future__ import annotations

import json

import pytest
import torch
from stand_in_host import sdpa_host

from attention.backends import registry
from attention.backends.autotune import HOST_RUN, KernelTrial
from attention.core.geometry import describe
from attention.plans.bench import Bench, to_text
from attention.plans.bench_file import to_json
from attention.plans.bench_memory import half_of, measured, most_tokens
from attention.routing.attention_call import AttentionCall

torch.set_num_threads(1)
HEADS, DIM = 2, 16


def geometry(length, keys=None):
    q, k = torch.zeros(1, HEADS, length, DIM), torch.zeros(1, HEADS, keys or length, DIM)
    return describe(q, k, k)


def trial_of(name, length, text=0):
    """A kernel's trial as Benchmark makes it, without its time."""
    q, k = torch.randn(1, length, HEADS * DIM), torch.randn(1, text or length, HEADS * DIM)
    call = AttentionCall(sdpa_host, q, k, k, HEADS)
    run = AttentionCall.run_host if name == HOST_RUN else lambda one: one.run(registry.load(name))
    return measured(KernelTrial(name, 1.0), run, call), geometry(length, text)


def test_what_holds_scores_grows_with_their_square():
    """What fits by the table of a short call fits, and not much more, by the peak of a call of that length itself."""
    token = HEADS * DIM * 4
    for name, free in (("reference", 30 << 20), ("sdpa flash", 1 << 20)):
        most = most_tokens(*trial_of(name, 512), free)
        needs = trial_of(name, most)[0].peak + 3 * token * most
        assert 0.95 * free < needs <= 1.01 * free
    assert trial_of("sdpa flash", 512)[0].peak == 512 * (token + HEADS * 4), "the output, and a number for each row"
    assert trial_of(HOST_RUN, 512)[0].peak >= 512 * token


def test_keys_of_a_prompt_do_not_grow():
    scores = HEADS * 128 * 4
    most = most_tokens(*trial_of("reference", 512, text=128), 1 << 30)
    assert (1 << 30) / (3.5 * scores) < most < (1 << 30) / scores, "the scores grow with the queries alone"


@pytest.mark.parametrize("length, masked", [(200, False), (512, True)])
def test_nothing_is_said_where_nothing_tells(length, masked):
    q = torch.randn(1, length, HEADS * DIM)
    mask = torch.zeros(1, 1, 1, length) if masked else None
    assert half_of(AttentionCall(sdpa_host, q, q, q, HEADS, mask)) is None
    assert most_tokens(KernelTrial("one", peak=1), geometry(length), 1 << 30) is None
    assert most_tokens(KernelTrial("one"), geometry(512), 1 << 30) is None


def test_it_stands_in_the_table_and_in_the_file(monkeypatch):
    monkeypatch.setattr(registry, "names", lambda: ("reference", "sage", "sdpa flash"))
    bench, x = Bench(), torch.randn(1, 512, HEADS * DIM)
    bench(sdpa_host, x, x, x, HEADS, transformer_options={})
    text = to_text(bench.trials, 1 << 30)
    assert "| relative L2 error | peak MiB | most tokens that fit |\n| --- | --- | --- | --- | --- | --- |\n" in text
    assert "most tokens" not in to_text(bench.trials)
    row = next(line for line in text.splitlines() if line.startswith("| reference |"))
    assert int(row.split("|")[6].replace(",", "")) > 1000 and float(row.split("|")[5]) > 4
    made = json.loads(to_json(bench.trials, date="2026-11-29", device="cpu", model="Test", versions={}))
    kernels = {kernel["name"]: kernel for kernel in made["calls"][0]["kernels"]}
    assert kernels["reference"]["peak_mib"] > 4 and "peak_mib" not in kernels["sage"]


def test_a_kernel_that_fails_now_keeps_its_time(monkeypatch):
    from attention.core import peak_memory

    def fail(run, device):
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(peak_memory, "peak_of", fail)
    monkeypatch.setattr(registry, "names", lambda: ("reference", "sage", "sdpa flash"))
    bench, x = Bench(), torch.randn(1, 512, HEADS * DIM)
    bench(sdpa_host, x, x, x, HEADS, transformer_options={})
    text = to_text(bench.trials, 1 << 30)
    assert "peak MiB" not in text and "| sdpa flash |" in text
