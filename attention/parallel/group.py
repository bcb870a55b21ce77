"""Ranks that are processes, on one machine or several: they meet at a TCPStore and talk through a ProcessGroup object.

Nothing of torch.distributed is switched on for the process: no default group, no environment variable.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.distributed as dist

from .peers import UNLIKE, Broken, Peers

GLOO, NCCL = "gloo", "nccl"
# Addresses that nobody reaches from another machine.
NEAR = ("127.0.0.1", "localhost")
# How long one attempt to reach the others may block: an interrupt waits for it.
ATTEMPT = 5.0
LEFT = "another ComfyUI left the run: look there for the reason"
# What an evaluation announces in place of bytes when it is at its end.
AT_END = -1
NO_WORDS: Mapping[str, Sequence[str]] = MappingProxyType({})


def available() -> bool:
    """Tell whether this torch can talk between processes."""
    return dist.is_available() and hasattr(dist, "ProcessGroupGloo")


def meet(host: str, port: int, number: int, of: int, patience: float, check: Callable[[], None] = lambda: None):
    """Meet the other processes: a TCPStore that all of them have reached.

    host: of number 0, which listens there.
    number: of this process, from 0.
    of: how many there are.
    patience: seconds to wait for the others.
    check: called again and again while waiting; may raise.
    Raises Broken where somebody does not come in time or leaves, or the place cannot be used.
    """
    if not available():
        raise Broken("this torch was built without what processes talk through (torch.distributed with gloo)")
    place, end = f"{host}:{port}", time.monotonic() + patience
    store = _reach(host, port, number, of, end, check)
    _asked(store.set, _here(number), platform.node())
    for other in range(of):
        while not _asked(store.check, [_here(other)]):
            if time.monotonic() > end:
                raise Broken(f"number {other} did not come to {place} within {patience:g} s")
            check()
            time.sleep(0.05)
    return store


def _here(number: int) -> str:
    """Under which key a process says that it is there, and on which machine."""
    return f"here {number}"


def machines(store, of: int) -> list[str]:
    """Name the machine of each of the processes that have met at `store`; Broken where number 0 has left it."""
    return [_asked(store.get, _here(number)).decode() for number in range(of)]


def _asked(run: Callable, *given):
    """Ask a store, which number 0 holds; Broken where that is gone."""
    try:
        return run(*given)
    except RuntimeError:
        raise Broken(LEFT) from None


def _reach(host, port, number, of, end, check):
    wait = datetime.timedelta(seconds=ATTEMPT)
    if number == 0:
        try:
            return dist.TCPStore(host, port, of, True, wait, wait_for_workers=False)
        except (RuntimeError, ValueError) as error:
            raise Broken(f"number 0 cannot listen at {host}:{port}: {_short(error)}") from None
    while True:
        check()
        try:
            return dist.TCPStore(host, port, of, False, wait, wait_for_workers=False)
        except (RuntimeError, ValueError):
            if time.monotonic() > end:
                raise Broken(f"number 0 did not come to {host}:{port} in time") from None


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:160]


def _refuse(name: str, here: float, there: float, other: int, words: Sequence[str] | None) -> None:
    """Raise Broken for what is not the same here and at number `other`; words: as of GroupPeers.agree."""
    if words is None:
        raise Broken(f"{name} is {here:g} here and {there:g} at number {other}: the workflows differ")
    if not {here, there} <= {*range(len(words))}:
        raise Broken(f"{name} is another one at number {other}: the workflows differ")
    own, theirs = words[int(here)], words[int(there)]
    raise Broken(f"{name} is '{own}' here and '{theirs}' at number {other}: the workflows differ")


class GroupPeers(Peers):
    """One rank of several that are processes.

    group: a ProcessGroup object.
    patience: seconds after which a rank that does not answer is given up.
    kind: GLOO, which takes tensors of the CPU, or NCCL, which takes those of a CUDA GPU.
    """

    def __init__(self, group, rank: int, size: int, patience: float, kind: str = GLOO):
        super().__init__(rank, size, (1.0,) * size)
        self.group, self.patience, self.kind = group, patience, kind

    @classmethod
    def of(cls, store, host: str, rank: int, size: int, patience: float, device: torch.device) -> GroupPeers:
        """Make the rank of a process that has met the others.

        store: as `meet` gives it.
        host: where they met; a loopback address keeps the talk on this machine.
        patience: seconds after which a rank that does not answer is given up.
        device: on which the model is.
        """
        wait = datetime.timedelta(seconds=patience)
        if device.type == "cuda" and dist.is_nccl_available():
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = wait
            return cls(dist.ProcessGroupNCCL(store, rank, size, options), rank, size, patience, NCCL)
        options = dist.ProcessGroupGloo._Options()
        options._timeout = wait
        near = host in NEAR
        gloo = dist.ProcessGroupGloo
        options._devices = [gloo.create_device(hostname=NEAR[0]) if near else gloo.create_default_device()]
        return cls(dist.ProcessGroupGloo(store, rank, size, options), rank, size, patience)

    def _trade(self, pieces, shapes) -> list[torch.Tensor]:
        device, dtype = pieces[self.rank].device, pieces[self.rank].dtype
        flat = self._there(torch.cat([piece.reshape(-1).view(torch.uint8) for piece in pieces]))
        sent = [piece.numel() * piece.element_size() for piece in pieces]
        due = [torch.Size(shape).numel() * pieces[self.rank].element_size() for shape in shapes]
        # A mismatch would end the process in gloo and hang in NCCL: sizes go ahead.
        self._compare(sent, due)
        came = self._all_to_all(flat, sent, due).to(device)
        return [part.view(dtype).view(shape) for part, shape in zip(came.split(due), shapes, strict=True)]

    def _all_to_all(self, flat: torch.Tensor, sent: list[int], due: list[int]) -> torch.Tensor:
        came = flat.new_empty(sum(due))
        try:
            self.group.alltoall_base(came, flat, due, sent, dist.AllToAllOptions()).wait()
        except RuntimeError as error:
            if "imed out" in str(error):
                raise Broken(f"another ComfyUI did not answer within {self.patience:g} s") from None
            raise Broken(LEFT) from None
        return came

    def _there(self, flat: torch.Tensor) -> torch.Tensor:
        """Bring numbers to where the group takes them."""
        return flat.cuda() if self.kind == NCCL else flat.cpu()

    def _announced(self, numbers: list[int]) -> list[int]:
        """Tell each rank a number; return what each told this one."""
        told, each = torch.tensor(numbers, dtype=torch.int64).view(torch.uint8), [8] * self.size
        return self._all_to_all(self._there(told), each, each).cpu().view(torch.int64).tolist()

    def _compare(self, sent: list[int], due: list[int]) -> None:
        came = self._announced(sent)
        if AT_END in came:
            raise Broken(UNLIKE)
        if came != due:
            raise Broken(f"{came} bytes are announced where {due} are due: the workflows differ")

    def finish(self) -> None:
        if any(number != AT_END for number in self._announced([AT_END] * self.size)):
            raise Broken(UNLIKE)

    def agree(self, header: list[float], names: tuple[str, ...], words: Mapping[str, Sequence[str]] = NO_WORDS) -> None:
        """Compare what this rank is about to evaluate with what the others are.

        header: numbers, as many on all ranks.
        names: what each is, for the sentence.
        words: for some names, what their numbers 0, 1, ... stand for; none where a number says nothing to people.
        Raises Broken where one differs.
        """
        mine = torch.tensor(header, dtype=torch.float64)
        came = self.all_to_all([mine] * self.size, [(len(header),)] * self.size)
        for other, theirs in enumerate(came):
            for name, here, there in zip(names, header, theirs.tolist(), strict=True):
                if here != there:
                    _refuse(name, here, there, other, words.get(name))

    def from_first(self, x: torch.Tensor) -> torch.Tensor:
        """Return number 0's tensor, of the same shape on all ranks."""
        return self.all_to_all([x] * self.size, [tuple(x.shape)] * self.size)[0]

    def leave(self) -> None:
        """Leave the others; they get an error should they still wait for this rank."""
        self.group = None
