"""What a run's report says of several GPUs."""

from __future__ import annotations

from collections import Counter

from ..core.peak_memory import in_mib
from .ring import ALL, AROUND, KEYS


class RanksRecord:
    """Collects what was shared out in one run.

    what: what the ranks are, in the plural.
    evaluations: how many were shared out among them.
    refused: why others did not, and how many.
    """

    def __init__(self, what: str = "GPUs"):
        self.what, self.evaluations = what, 0
        self.refused: Counter = Counter()
        self.dealt = 0
        self._devices: list[str] = []
        self._groups: list = []
        self._stats: dict = {}

    def note(self, groups, devices, stats) -> None:
        """Note an evaluation whose tokens were shared out.

        groups: lists of ThreadPeers, each of which evaluated some prompts.
        devices: of all ranks, in their order.
        stats: rank among all -> RunStats that count its calls, but for the first.
        """
        self.evaluations += 1
        self._groups, self._devices, self._stats = groups, [str(device) for device in devices], stats

    def note_prompts(self, devices) -> None:
        """Note an evaluation in which each GPU had prompts of its own, as ComfyUI deals them out."""
        self.dealt += 1
        self._devices = [str(device) for device in devices]

    def refuse(self, why: str) -> None:
        """Note an evaluation that ran without."""
        self.refused[why] += 1

    def sentences(self) -> tuple[str, ...]:
        """Say what lay where, what was exchanged, and what did not run on several GPUs."""
        found = []
        if self.evaluations:
            found += [self._shared(), *self._traded(), *self._others()]
        if self.dealt:
            found.append(f"{self._where()}: one prompt each, as ComfyUI does.")
        found += [f"On one of the {self.what} in {_times(n)}: {why}." for why, n in self.refused.items()]
        return tuple(found)

    def _shared(self) -> str:
        first = self._groups[0]
        spread = max(first[0].spreads, key=lambda spread: spread.length)
        heads, traded = first[0].heads, first[0].halos + first[0].kept < first[0].calls
        parts = f", {_sum(heads)} heads" if traded and len(heads) > 1 else ""
        sent = max(peers.sent for group in self._groups for peers in group) / self.evaluations
        more = f" in each of {len(self._groups)} groups, one for each prompt" if len(self._groups) > 1 else ""
        return (
            f"{self._where()}: {_sum(spread.sizes)} tokens{parts}{more}; each handed {_bytes(sent)} to "
            "others in a step."
        )

    def _traded(self):
        first = self._groups[0][0]
        if first.halos:
            yield f"In {first.halos} of {first.calls} attention calls each fetched only what its tokens may see."
        if first.kept:
            yield (
                f"In {first.kept} of {first.calls} attention calls each took what it had kept, and nothing was traded."
            )
        if first.parts > 1:
            yield f"The heads were traded in {first.parts} slices."
        yield from (self._carried(way, count, first) for way, count in first.rounds.items())

    def _carried(self, way: str, count: int, first) -> str:
        near = len(first.heads)
        among = f"{first.size // near} groups of {near}" if near > 1 else f"all {first.size}"
        sent = _bytes(max(peers.carried[way] for group in self._groups for peers in group) / self.evaluations)
        return {
            AROUND: f"In {count} of {first.calls} attention calls keys went around {among}: {sent} of that in a step.",
            KEYS: f"In {count} of {first.calls} attention calls keys were gathered from {among}: {sent} of that in a "
            "step.",
            ALL: f"In {count} of {first.calls} attention calls keys and queries were gathered from {among}, and each "
            f"computed them all: {sent} of that in a step.",
        }[way]

    def _where(self) -> str:
        return f"On {len(self._devices)} {self.what} ({', '.join(self._devices)})"

    def _others(self):
        for rank, stats in self._stats.items():
            used = Counter()
            for _, decision in stats.counted():
                used[decision.used] += decision.calls
                if decision.fell_back:
                    yield f"{self._devices[rank]}: {decision.fell_back} calls fell back: {decision.reason}."
            if stats.reuse is not None:
                yield f"{self._devices[rank]} kept up to {in_mib(stats.reuse.peak)} MiB."
                # Where one lacks an output, all attend.
                yield from (f"{self._devices[rank]}: {said}" for said in stats.reuse.lacks())
            ran = ", ".join(f"{name} ({count} calls)" for name, count in used.most_common() if count)
            if ran:
                yield f"{self._devices[rank]} ran {ran}."


def _times(count: int) -> str:
    return "1 evaluation" if count == 1 else f"{count} evaluations"


def _sum(parts) -> str:
    return " + ".join(f"{part:,}" for part in parts)


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
