"""Runs a function as every rank of a group, each in a thread of its own."""

from __future__ import annotations

import threading

from attention.parallel.peers import Exchange, ThreadPeers


def ranks(size: int, work, weights=None, slices=1) -> list:
    """What work(peers) gives on each rank. What ended it first is raised."""
    exchange, answers, errors = Exchange(size), [None] * size, []

    def run(rank):
        try:
            answers[rank] = work(ThreadPeers(exchange, rank, weights or [1.0] * size, slices))
        except BaseException as error:
            errors.append(error)
            exchange.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return answers
