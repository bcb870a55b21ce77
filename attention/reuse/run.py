"""One sampling run in which outputs are kept: which step it is at, and the store of each rule."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence

from ..core.identity import KeepsIdentity
from .store import MIB, OutputStore

# Samplers compute the noise level of a step anew: it may differ by rounding from the schedule's.
NEAR = 1e-4


class About(KeepsIdentity):
    """Stands for what model calls are about. Compared by identity: one for the same prompts, window and pass."""

    __slots__ = ()


class ReuseRun(KeepsIdentity):
    """Goes along with a sampling run, from one evaluation of the model to the next.

    calls: (noise level, step from 0) of each evaluation that the sampler will make.
    most: steps in a row that may go by what is kept, None for any number.
    refused: why nothing is kept in this run, a few words; "" where something may be.
    strange: evaluations that the sampler was not known to make, in which everything attends.
    """

    def __init__(self, calls: Sequence[tuple[float, int]], most: int | None = None, refused: str = ""):
        self._calls, self._most, self.refused = calls, most, refused
        self._last = max((step for _, step in calls), default=-1)
        self._number, self._step = -1, None
        self.strange = 0
        self._stores: dict[Hashable, OutputStore] = {}
        self._abouts: dict[Hashable, About] = {}
        self._beside: dict[int, ReuseRun] = {}

    @property
    def peak(self) -> int:
        """Count the bytes that were kept at most, each rule's most added up."""
        return sum(store.peak for store in self._stores.values())

    def beside(self, rank: int) -> ReuseRun:
        """Give the run of another rank, which goes along with this one and keeps its own outputs."""
        run = self._beside.get(rank)
        if run is None:
            run = self._beside[rank] = ReuseRun(self._calls, self._most, self.refused)
            run._number, run._step = self._number, self._step
        return run

    def store_of(self, rule) -> OutputStore:
        """Give the OutputStore of a rule, at the step at hand."""
        store = self._stores.get(rule)
        if store is None:
            store = OutputStore(rule.reuse, None if self._most is None else self._most + 1)
            store.begin(self._step, self._keeps)
            self._stores[rule] = store
        return store

    def about(self, *values: Hashable) -> About:
        """Give the About of a model call that these values tell apart from others."""
        return self._abouts.setdefault(values, About())

    def begin(self, sigma: float, covering: Collection) -> None:
        """Begin an evaluation of the model.

        sigma: its noise level.
        covering: the rules that cover it; what others kept goes.
        """
        self._find(sigma)
        for rule, store in self._stores.items():
            store.begin(self._step, self._keeps)
            if rule not in covering:
                store.clear()
        for run in self._beside.values():
            run.begin(sigma, covering)

    def _find(self, sigma: float) -> None:
        """Find which of the sampler's calls this is: the next of its noise level, else the same once more. Calls in
        between are left out where another node answers for the model."""
        known = range(max(self._number, 0), len(self._calls))
        alike = [n for n in known if math.isclose(self._calls[n][0], sigma, rel_tol=NEAR, abs_tol=1e-8)]
        if not alike:
            self._step = None
            self.strange += 1
            return
        self._number = next((n for n in alike if n > self._number), alike[0])
        self._step = self._calls[self._number][1]

    @property
    def _keeps(self) -> bool:
        """Tell whether any later step could be given what this one computes."""
        return self._step is not None and self._step < self._last

    def clear(self) -> None:
        """Let go of everything that is kept."""
        for store in self._stores.values():
            store.clear()
        self._abouts.clear()
        for run in self._beside.values():
            run.clear()

    def lacks(self) -> tuple[str, ...]:
        """Say of each rule what of its outputs could not be kept, and why; nothing of those that kept all."""
        return tuple(said for rule, store in self._stores.items() for said in _lacks(rule.label, store))

    def sentences(self) -> tuple[str, ...]:
        """Say of each rule how much was kept, and how near that was. Waits for the GPU."""
        said = [f"Nothing was kept: {self.refused}."] if self.refused else []
        if self.strange:
            said.append(f"{self.strange} evaluations came otherwise than in the sampler's rehearsal: all attended.")
        return (*said, *(_sentence(rule.label, store) for rule, store in self._stores.items()))


def _lacks(label: str, store: OutputStore):
    """Say what a rule could not keep."""
    rule = f"{label[:1].upper()}{label[1:]}"
    if store.full:
        yield f"{rule}: {store.full} outputs had no room in {store.settings.budget} MiB."
    if store.refused:
        yield f"{rule}: from there on all attended: {store.refused}."


def _sentence(label: str, store: OutputStore) -> str:
    """Say what a rule kept."""
    settings, parts = store.settings, []
    if store.every < settings.every:
        parts.append(f"every {store.every} steps with this sampler, which stands no more")
    where = " in the computer's memory" if settings.offload else ""
    parts.append(f"kept up to {store.peak / MIB:.1f} of {settings.budget} MiB{where}")
    if store.full:
        parts.append(f"{store.full} outputs had no room in that")
    said = f"{label[:1].upper()}{label[1:]}: {', '.join(parts)}."
    if store.apart.count:
        mean, largest = store.apart.read()
        said += (
            f" An output {store.apart.apart} steps later differs by relative L2 {mean:.2g} on average, {largest:.2g} "
            f"at most (some tokens of {store.apart.count} calls)."
        )
    if store.rounding.count:
        said += f" Eight bits differ by {store.rounding.read()[0]:.1g}."
    if store.refused:
        said += f" From there on all attended: {store.refused}."
    return said
