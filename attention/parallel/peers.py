"""Who talks to whom: the ranks of a group. Those here are threads of one process, one for each GPU."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

import torch

from ..core.identity import KeepsIdentity
from .spread import Spread, cut

UNLIKE = "another one was at the end of its step before: they did not compute alike"


class Broken(RuntimeError):
    """Ranks could not go on together. Its text says why; the error of another rank says more."""


class Exchange:
    """What the threads of one group of ranks share. Whoever fails lets all others go instead of leaving them to wait.

    size: ranks.
    """

    def __init__(self, size: int):
        self.size = size
        self.barrier = threading.Barrier(size)
        self.box: list[list] = [[None] * size for _ in range(size)]

    def abort(self) -> None:
        """Let every rank that waits, or will, raise Broken."""
        self.barrier.abort()

    def reset(self) -> None:
        """Forget what was left in the middle. Only while no rank is at work."""
        self.barrier.reset()
        self.box = [[None] * self.size for _ in range(self.size)]

    def meet(self) -> None:
        """Wait for all ranks."""
        try:
            self.barrier.wait()
        except threading.BrokenBarrierError:
            raise Broken("another GPU stopped in the middle of this step") from None


class Peers(KeepsIdentity):
    """One rank of several that evaluate a model together. Subclasses say how they talk.

    rank: of this one.
    size: how many there are.
    weights: how much of the work each rank takes, relative.
    sent: bytes that this rank has handed to others.
    calls: attention calls whose keys lie over the ranks.
    heads: of the last of them that was traded, those of each rank that trades heads with this one.
    halos: how many of them fetched only what their queries may see.
    kept: how many of them were given what each rank had kept, so that nothing was traded.
    rounds: how many of them there were for each way in which keys came from other groups of ranks, see parallel.ring.
    carried: bytes that this rank handed to other groups, by that way.
    inner: how many ranks may trade heads, a divisor of all. The same on all ranks.
    slices: of the heads that are to be traded one after the other, so that copies run beside attention; 1: all at once.
    parts: slices of the last of those calls.
    fetches: whether calls may fetch only what their queries may see, which takes more memory than trading heads. The
        same on all ranks, and changed between evaluations alone.
    """

    slices, fetches = 1, True

    def __init__(self, rank: int, size: int, weights: Sequence[float]):
        self.rank, self.size, self.weights = rank, size, tuple(weights)
        self.sent = self.calls = self.halos = self.kept = self.parts = 0
        self.heads: tuple[int, ...] = ()
        self.rounds, self.carried, self.inner = Counter(), Counter(), size
        self._shares: dict[tuple[int, int], Share] = {}

    @property
    def spreads(self) -> list[Spread]:
        """List how sequences lay until now."""
        return [share.spread for share in self._shares.values()]

    def share(self, tokens: int, before: int) -> Share:
        """Return what tells an attention call how its sequence lies: one object for the same lengths.

        tokens: to share out.
        before: tokens in front of them that every rank has.
        """
        found = self._shares.get((tokens, before))
        if found is None:
            found = self._shares[tokens, before] = Share(self, Spread(cut(tokens, self.weights), before))
        return found

    def all_to_all(self, pieces: list[torch.Tensor], shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
        """Hand pieces[s] to rank s; return what came from each rank, on this rank's device.

        pieces: one for each rank, this one's own among them.
        shapes: of what will come. Broken where it is of another shape: ranks that disagree make a wrong clip.
        """
        self._count(pieces)
        return self._trade(pieces, shapes)

    def _count(self, pieces) -> None:
        self.sent += sum(p.numel() * p.element_size() for s, p in enumerate(pieces) if s != self.rank)

    def begin(self, pieces: list[torch.Tensor], shapes: list[tuple[int, ...]]) -> Callable[[], list[torch.Tensor]]:
        """As all_to_all; gives a function that waits for what comes. Here it has come already."""
        came = self.all_to_all(pieces, shapes)
        return lambda: came

    def _trade(self, pieces, shapes) -> list[torch.Tensor]:
        raise NotImplementedError

    def finish(self) -> None:
        """Meet the other ranks behind an evaluation. Broken where one of them is not at its end."""
        raise NotImplementedError

    def all_of(self, good: bool) -> bool:
        """Tell whether something is true on all ranks."""
        marks = self.all_to_all([torch.tensor([good])] * self.size, [(1,)] * self.size)
        return all(bool(mark) for mark in marks)

    def mean(self, value: torch.Tensor, weight: float) -> torch.Tensor:
        """Return the mean over all ranks of a small tensor, each with its weight.

        value: alike in shape on all ranks.
        """
        pair = torch.cat([value.reshape(-1) * weight, value.new_tensor([weight])])
        total = sum(self.all_to_all([pair] * self.size, [tuple(pair.shape)] * self.size))
        return (total[:-1] / total[-1]).view(value.shape)


class ThreadPeers(Peers):
    """One rank of several that are threads of this process. Tensors are copied from device to device by torch.

    exchange: of all ranks.
    slices: as of Peers.
    """

    def __init__(self, exchange: Exchange, rank: int, weights: Sequence[float], slices: int = 1):
        super().__init__(rank, exchange.size, weights)
        self.exchange, self.slices = exchange, slices
        self._copiers: dict[torch.device, torch.cuda.Stream] = {}

    def finish(self) -> None:
        self.exchange.box[self.rank] = [None] * self.size
        self.exchange.meet()
        alike = all(piece is None for row in self.exchange.box for piece in row)
        self.exchange.meet()
        if not alike:
            raise Broken(UNLIKE)

    def begin(self, pieces, shapes) -> Callable[[], list[torch.Tensor]]:
        device = pieces[self.rank].device
        if self.slices == 1 or device.type != "cuda":
            return super().begin(pieces, shapes)
        self._count(pieces)
        came, dones = zip(*self._handed(pieces, shapes, lambda handed, own: self._copied(handed, device, own)))

        def wait() -> list[torch.Tensor]:
            stream = torch.cuda.current_stream(device)
            for piece, done in zip(came, dones, strict=True):
                if done is not None:
                    stream.wait_event(done)
                    piece.record_stream(stream)
            return list(came)

        return wait

    def _trade(self, pieces, shapes) -> list[torch.Tensor]:
        device = pieces[self.rank].device

        def take(handed, own: bool) -> tuple:
            piece, ready = handed
            if own:
                return piece, None
            if ready is not None:
                torch.cuda.current_stream(device).wait_event(ready)
            return piece.to(device, non_blocking=True, copy=True), None

        def taken() -> None:
            if device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()

        return [piece for piece, _ in self._handed(pieces, shapes, take, taken)]

    def _handed(self, pieces, shapes, take: Callable, taken: Callable = lambda: None) -> list[tuple]:
        """Hand pieces over by the box, and take what is there: take(handed, whether it is this rank's own).

        taken: called before others may free or overwrite what they handed over.
        """
        box, rank, ready = self.exchange.box, self.rank, None
        if pieces[rank].device.type == "cuda":
            ready = torch.cuda.Event()
            ready.record()
        for s, piece in enumerate(pieces):
            box[rank][s] = (piece, ready)
        self.exchange.meet()
        handed = [box[s][rank] for s in range(self.size)]
        if None in handed:
            raise Broken(UNLIKE)
        came = [take(each, s == rank) for s, each in enumerate(handed)]
        taken()
        self.exchange.meet()
        box[rank] = [None] * self.size
        for s, ((piece, _), shape) in enumerate(zip(came, shapes, strict=True)):
            if tuple(piece.shape) != tuple(shape):
                raise Broken(f"GPU {s} handed over {tuple(piece.shape)} numbers, {tuple(shape)} were due")
        return came

    def _copied(self, handed, device: torch.device, own: bool) -> tuple:
        """Begin to copy a piece on streams of this rank's own: (the copy, the event of its end)."""
        piece, ready = handed
        if own:
            return piece, None
        source, target = self._copier(piece.device), self._copier(device)
        # torch copies between GPUs on the source's current stream, and lets the target's wait for it.
        with torch.cuda.stream(source), torch.cuda.stream(target):
            source.wait_event(ready)
            copy = piece.to(device, non_blocking=True, copy=True)
            done = torch.cuda.Event()
            done.record(target)
        # Its owner frees it while the copy may still run: the allocator gives the memory to nobody before.
        piece.record_stream(source)
        return copy, done

    def _copier(self, device: torch.device) -> torch.cuda.Stream:
        if device not in self._copiers:
            self._copiers[device] = torch.cuda.Stream(device)
        return self._copiers[device]


class Share(KeepsIdentity):
    """Tells an attention call who its peers are and how its sequence lies over them.

    peers: this rank.
    spread: of the sequence that the video is in.
    rings: for a number of key heads, how the ranks trade, see parallel.ring.
    """

    def __init__(self, peers: Peers, spread: Spread):
        self.peers, self.spread, self.rings = peers, spread, {}
