"""Tokens by kind and memory by kernel, from shapes alone."""

from __future__ import annotations

import torch

from attention.backends import registry
from attention.core.geometry import describe
from attention.core.peak_memory import MIB
from attention.core.tokens import Span, Tokens
from attention.inspect.token_count import count, count_line, memory_lines, sequence


def test_kinds():
    tokens = Tokens((2, 3, 4), prefix=(Span("text", 7), Span("reference", 5)), suffix=(Span("reference", 6),))
    assert count(tokens, 7) == {"video": 24, "text": 7, "reference": 11}
    assert count(tokens) == {"video": 24, "text": None, "reference": 11}, "without a prompt its length is a guess"
    assert count_line(tokens) == "Tokens: video 24, text by the prompt, reference 11."
    assert sequence(tokens) == 42
    apart = Tokens((2, 3, 4))
    assert count_line(apart, 512, 126) == "Tokens: video 24, text 512, audio 126." and sequence(apart) == 24
    rest = Tokens((2, 3, 4), suffix=(Span("audio"),))
    assert count(rest, 3, 9) == {"video": 24, "audio": None, "text": 3}


def test_memory_of_a_call_by_kernel():
    q = torch.zeros(1, 8, 1, 128, dtype=torch.bfloat16, device="meta")
    only = {"sdpa", "sdpa flash", "reference"}
    given, beside = memory_lines(describe(q, q, q), 16384, lambda name, call: None if name in only else "no")
    size = 8 * 16384 * 128 * 2 / MIB
    assert given == (
        f"One call of self-attention (1x8 heads, 16384x16384 tokens, head size 128, bfloat16): q, k and v are "
        f"{3 * size:.0f} MiB."
    )
    scores = 8 * 16384 * 16384 * 4 / MIB
    assert beside.startswith("Beside them, the output included, it takes about 32 MiB on sdpa, sdpa flash; ")
    words = beside.split("; ")[1]
    assert words.endswith(" MiB on reference.") and 3 * scores < float(words.split()[0].replace(",", "")) < 4 * scores


def test_nothing_is_said_of_kernels_where_none_runs():
    q = torch.zeros(1, 8, 1, 128, device="meta")
    assert len(memory_lines(describe(q, q, q), 64, lambda name, call: "no")) == 1


def test_every_row_says_something():
    q = torch.zeros(1, 8, 2048, 128, dtype=torch.bfloat16, device="meta")
    call = describe(q, q, q)
    for row in registry.TABLE:
        assert row.takes(call) >= q.numel() * 2, row.name
