"""More ranks than heads, each a process of its own, and one of them that is gone in the middle."""

from __future__ import annotations

import multiprocessing
import os

import torch
from test_group import CPU, HERE, free_port
from test_shared_call import answered, made, mask_of

from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.site import SELF
from attention.parallel import group, ring
from attention.parallel.group import GroupPeers
from attention.parallel.peers import Broken
from attention.parallel.spread import Spread, cut
from attention.routing.rules import Rule

SIZE, HEADS = 4, 2
# Seconds: a busy machine takes long to start them.
STARTING, PATIENCE = 300.0, 60.0


def attend(rank: int, port: int, ends: bool, answers) -> None:
    """What one process does: both ways, or the first of them until number 1 ends in it."""
    torch.set_num_threads(1)
    if ends and rank == 1:
        ring.Seen.add = lambda *_: os._exit(3)
    tensors, mask = made(1, HEADS, HEADS, 67, 67), mask_of("heads", HEADS, 67, 67)
    spread = Spread(cut(62, [1.0] * SIZE), 5)
    truth = scaled_dot_product_attention(*(t.double() for t in tensors), mask=mask)
    peers = GroupPeers.of(group.meet(HERE, port, rank, SIZE, STARTING), HERE, rank, SIZE, PATIENCE, CPU)
    errors = []
    try:
        for backend in ("sdpa flash", "reference"):
            out, _ = answered(peers, tensors, mask, spread, "both", SELF, HEADS, (Rule(backend),))
            errors.append(relative_l2(out, spread.part(truth, rank, 2)))
        peers.finish()
        answers.put((errors, dict(peers.rounds)))
    except Broken as broken:
        answers.put(str(broken))


def together(ends: bool) -> list:
    spawn, port = multiprocessing.get_context("spawn"), free_port()
    answers = spawn.Queue()
    processes = [spawn.Process(target=attend, args=(rank, port, ends, answers)) for rank in range(SIZE)]
    for process in processes:
        process.start()
    # All that end in an orderly way answer, well within their patience once they have met.
    found = [answers.get(timeout=STARTING + PATIENCE) for _ in range(SIZE - ends)]
    for process in processes:
        process.join(30)
    assert sorted(process.exitcode for process in processes) == [0] * (SIZE - ends) + [3] * ends
    return found


def test_they_give_what_one_gives():
    for errors, rounds in together(ends=False):
        assert max(errors) < 1e-5 and rounds == {ring.AROUND: 1, ring.KEYS: 1}


def test_one_that_is_gone_is_missed_by_all():
    assert together(ends=True) == ["another ComfyUI left the run: look there for the reason"] * (SIZE - 1)
