"""Ranks that are processes: here threads with a TCPStore and gloo of their own each."""

from __future__ import annotations

import platform
import socket
import threading

import pytest
import torch

from attention.parallel import group
from attention.parallel.group import GroupPeers
from attention.parallel.peers import Broken

HERE = "127.0.0.1"
CPU = torch.device("cpu")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return probe.getsockname()[1]


def together(size: int, work, patience=30.0) -> list:
    """What work(peers) gave, or how it ended, on each rank."""
    port, answers = free_port(), [None] * size

    def run(rank):
        try:
            store = group.meet(HERE, port, rank, size, 60.0)
            peers = GroupPeers.of(store, HERE, rank, size, patience, CPU)
            answers[rank] = work(peers)
            peers.leave()
        except Broken as broken:
            answers[rank] = str(broken)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [2, 3])
def test_pieces_come_where_they_belong(size, dtype):
    def work(peers):
        pieces = [torch.full((2, s + 1), 10.0 * peers.rank + s, dtype=dtype) for s in range(size)]
        came = peers.all_to_all(pieces, [(2, peers.rank + 1)] * size)
        peers.finish()
        return [(tuple(piece.shape), piece.dtype, piece.unique().tolist()) for piece in came], peers.sent

    for rank, (came, sent) in enumerate(together(size, work)):
        assert came == [((2, rank + 1), dtype, [10.0 * s + rank]) for s in range(size)]
        assert sent == sum(2 * (s + 1) * dtype.itemsize for s in range(size) if s != rank)


def test_no_numbers_at_all_are_right_too():
    assert together(2, lambda peers: len(peers.all_to_all([torch.zeros(0)] * 2, [(0,)] * 2))) == [2, 2]


def test_all_go_on_from_number_0():
    answers = together(3, lambda peers: peers.from_first(torch.full((2,), float(peers.rank))).tolist())
    assert answers == [[0.0, 0.0]] * 3


def test_what_differs_is_named_on_every_side():
    answers = together(2, lambda peers: peers.agree([1.0, 0.5 + peers.rank], ("the size", "the noise level")))
    assert answers == [
        "the noise level is 0.5 here and 1.5 at number 1: the workflows differ",
        "the noise level is 1.5 here and 0.5 at number 0: the workflows differ",
    ]


@pytest.mark.parametrize(
    "words, here, there",
    [
        (
            ("tokens", "prompts"),
            "is 'tokens' here and 'prompts' at number 1",
            "is 'prompts' here and 'tokens' at number 0",
        ),
        (("tokens",), "is another one at number 1", "is another one at number 0"),
        ((), "is another one at number 1", "is another one at number 0"),
    ],
    ids=["named", "one that is not known here", "a checksum"],
)
def test_numbers_that_say_nothing_are_named_in_words(words, here, there):
    answers = together(2, lambda peers: peers.agree([0.5, float(peers.rank)], ("size", "split"), {"split": words}))
    assert answers == [f"split {here}: the workflows differ", f"split {there}: the workflows differ"]


def test_a_mismatch_is_a_sentence_and_no_end_of_the_process():
    answers = together(2, lambda peers: peers.all_to_all([torch.zeros(1 + peers.rank)] * 2, [(1,)] * 2))
    assert all("bytes are announced where" in answer or "left the run" in answer for answer in answers)
    assert any("the workflows differ" in answer for answer in answers)


def test_one_at_its_end_is_told():
    def work(peers):
        if peers.rank:
            peers.finish()
        else:
            peers.all_to_all([torch.zeros(3)] * 2, [(3,)] * 2)

    assert all("did not compute alike" in answer or "left the run" in answer for answer in together(2, work))


def test_who_leaves_is_missed():
    def work(peers):
        return None if peers.rank else peers.all_to_all([torch.zeros(3)] * 2, [(3,)] * 2)

    assert "left the run" in together(2, work)[0]


def test_who_does_not_answer_is_given_up():
    wait = threading.Event()

    def work(peers):
        if peers.rank:
            wait.wait(60)
            return None
        try:
            peers.all_to_all([torch.zeros(3)] * 2, [(3,)] * 2)
        finally:
            wait.set()

    assert "did not answer within 2 s" in together(2, work, patience=2.0)[0]


@pytest.mark.parametrize("asked", ["set", "check", "get"])
def test_who_holds_the_store_and_leaves_is_missed(asked, monkeypatch):
    """Number 0 ends while the others meet, or right behind it."""

    class Store:
        def set(self, *_):
            self.answer("set")

        def check(self, *_):
            return self.answer("check")

        def get(self, *_):
            return self.answer("get")

        def answer(self, what):
            if what == asked:
                raise torch.distributed.DistNetworkError("Connection reset by peer")
            return True

    monkeypatch.setattr(group, "_reach", lambda *_: Store())
    with pytest.raises(Broken, match="^another ComfyUI left the run: look there for the reason$"):
        group.machines(group.meet(HERE, 1, 1, 2, 5.0), 2)


def test_the_machines_of_all():
    assert group.machines(group.meet(HERE, free_port(), 0, 1, 5.0), 1) == [platform.node()]


def test_nobody_comes():
    with pytest.raises(Broken, match="number 1 did not come to 127.0.0.1:.* within 0.3 s"):
        group.meet(HERE, free_port(), 0, 2, 0.3)


def test_an_interrupt_ends_the_waiting():
    def check():
        raise KeyError("interrupted")

    with pytest.raises(KeyError, match="interrupted"):
        group.meet(HERE, free_port(), 0, 2, 60.0, check)


def test_a_busy_place_is_told():
    with socket.socket() as busy:
        busy.bind((HERE, 0))
        busy.listen()
        with pytest.raises(Broken, match="cannot listen at"):
            group.meet(HERE, busy.getsockname()[1], 0, 2, 5.0)
