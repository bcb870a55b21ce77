"""That our Triton kernel reads and writes nothing but its own: an illegal address on a GPU ends the process.

In Triton's interpreter, each address of each lane checked (checked_memory.py), and 32-bit integers too.
"""

from __future__ import annotations

import interpreted
import pytest
import torch

from attention.backends.triton import block_lists, launch, reorder, tiling


@pytest.fixture(scope="module")
def results():
    return interpreted.run("triton_memory.py")


@pytest.fixture(scope="module")
def faults():
    return interpreted.run("triton_guards.py")


def test_at_every_edge(results):
    """Lengths around whole blocks, every head size, views that end where their memory ends, every way to cut a call."""
    assert results["edges"]["wrong"] == {} and results["edges"]["calls"] > 100


def test_every_line_that_reaches_memory_was_reached(results):
    assert set(results["edges"]["lines"]) <= set(results["edges"]["seen"]) and len(results["edges"]["lines"]) > 20


def test_the_largest_calls(results):
    """Twice the elements that 32 bits can count: no integer overflows, no address leaves what it belongs to."""
    assert results["largest"]["wrong"] == {} and results["largest"]["calls"] > 20


def test_no_guard_can_be_missing_or_one_too_far(faults):
    assert {name for name, said in faults["without"].items() if said is None} == set()
    assert len(faults["without"]) > 30


def test_the_check_sees_one_element(faults):
    said = faults["by one"]
    assert said.pop("right") is None
    for name, words in {
        "reads behind": "program 1, triton_guards.py", "reads in front": "reads X at byte -4, 1 of 64 lanes",
        "writes behind": "writes OUT at byte 512, 1 of 64 lanes", "writes in front": "writes OUT at byte -4",
        "writes an input": "writes X, which is an input", "writes twice": "programs 1 and 0 write alike in OUT",
        "overflows": "int32 overflow",
    }.items():  # fmt: skip
        assert words in said.pop(name)
    assert not said


def some(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, 8, device="meta")


ONE = tiling.tiling_for((8, 0), True, 8, bias=False, listed=True)
ALL = torch.ones(1, 1, 1, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q: launch.attention(q, q, q, torch.zeros(3, 1, 1, 100), quantized=True), "mask"),
        (lambda q: launch.attention(q, q, q, torch.zeros(1, 2, 1, 100), quantized=True), "mask"),
        (lambda q: launch.check(some(2, 4, (1 << 23) + 1), q, q, None, 1.0), "takes up to 8388608 tokens"),
        (lambda q: reorder.prepare(q, q, q, (q, q), torch.arange(99), None, quantized=True), "an order of 99 tokens"),
        (lambda q: reorder.prepare(q, q, q, (q[:1], q[:1]), None, None, quantized=True), "in front of k"),
        (lambda q: reorder.prepare(q, q, q, (q, q[:, :, 1:]), None, None, quantized=True), "in front of k"),
        (
            lambda q: reorder.attend(
                launch.KernelInputs(ONE, 1.0, (99, 100, 8), q, q, q), q, block_lists.of_blocks(ALL, 100)
            ),
            "not what was prepared",
        ),
        (lambda q: block_lists.of_blocks(ALL, 129), "2 blocks of keys, 129 keys have 3"),
    ],
)
def test_what_would_be_read_past_its_end_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(some(2, 4, 100))


def test_lists_count_no_more_than_they_hold():
    made = block_lists.of_blocks(torch.ones(1, 1, 1, 4, dtype=torch.bool), 256, max_blocks=3)
    assert made.index.shape[-1] == 3 and made.count.tolist() == [[[[3, 3]]]]


@pytest.mark.parametrize("tokens", [1, 2])
def test_tokens_that_stand_too_far_apart_are_copied(tokens):
    far = torch.zeros(tokens, 1 << 21, 8, device="meta").transpose(0, 1)[:, None]
    assert far.stride(2) == 1 << 24 and launch.with_near_rows(far)[0].stride(2) == 8
    near = torch.zeros(tokens, 1 << 20, 8, device="meta").transpose(0, 1)[:, None]
    assert launch.with_near_rows(near)[0] is near
