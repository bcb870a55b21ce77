"""The outputs that one rule keeps during one run: whose they are, how much room they take, how far off they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import torch

from ..core.allocation_record import record_paused
from ..core.error_handling import error_text, free_cached_memory, free_frames
from ..core.identity import KeepsIdentity
from .errors import ErrorSums
from .kept_output import KeptOutput, sample_of, size_of
from .settings import EIGHT_BIT, ReuseSettings

MIB = 1 << 20


class OutputStore(KeepsIdentity):
    """Keeps the outputs of a rule's calls while one run lasts.

    settings: how long, how much, in which form.
    every: steps from one that attends to the next that does: no more than the sampler stands.
    step: of the sampler at hand, from 0; None where it is not known: nothing is kept or given then.
    keeps: whether what is computed now could be given later.
    peak: the most bytes that were kept at once, of the device that had most.
    full: calls whose output was not kept, since the budget had no room.
    refused: why nothing is kept any more, a few words; "" while something may be.
    apart: how far an output is from the one that it replaces.
    rounding: how far what is kept in eight bits is from the output.
    """

    def __init__(self, settings: ReuseSettings, every: int | None = None):
        self.settings, self.every = settings, settings.every if every is None else min(every, settings.every)
        self.step: int | None = None
        self.keeps, self.peak, self.full, self.refused = True, 0, 0, ""
        self.apart, self.rounding = ErrorSums(), ErrorSums()
        self._places: dict[Hashable, Place] = {}
        self._used: Counter = Counter()
        # (model call, its mask, a mask of ours, whether they are alike).
        self._compared: tuple = (None,) * 4

    @property
    def size(self) -> int:
        """Count the bytes that are kept, on all devices."""
        return sum(self._used.values())

    def place(self, key: Hashable) -> Place:
        """Give the Place of the calls of one site and geometry, which `key` names."""
        return self._places.setdefault(key, Place(self))

    def begin(self, step: int | None, keeps: bool = True) -> None:
        """Begin an evaluation. What nothing was written over since it was too old goes.

        step: of the sampler, from 0; None where it is not known.
        keeps: whether any later evaluation could be given what this one computes.
        """
        if step is not None and step != self.step:
            for place in self._places.values():
                place.forget(before=step - self.every)
        self.step, self.keeps = step, keeps

    def clear(self) -> None:
        """Let go of all that is kept."""
        for place in self._places.values():
            place.forget()
        self._compared = (None,) * 4

    def give_up(self, reason: str) -> None:
        """Keep nothing any more in this run, for a reason of a few words."""
        self.refused = self.refused or reason
        self.clear()

    def room(self, out: torch.Tensor, heads: int, split: bool, mask: torch.Tensor | None) -> KeptOutput | None:
        """Make room for an output like this one; None where the budget has none.

        heads: as a KeptOutput has it.
        split: as a KeptOutput has it.
        mask: of the call. It is kept too; calls may share it, which is not counted on.
        """
        masked = 0 if mask is None else mask.nbytes
        size, device = size_of(out, heads, self.settings) + masked, out.device
        if self._used[device] + size > self.settings.budget * MIB:
            self.full += 1
            return None
        kept = KeptOutput(out, heads, split, self.settings)
        kept.size += masked
        self._used[device] += kept.size
        self.peak = max(self.peak, self._used[device])
        return kept

    def free(self, kept: KeptOutput) -> None:
        """Count an output no more, which its Place lets go of."""
        self._used[kept.device] -= kept.size

    def write(self, kept: KeptOutput, out: torch.Tensor, mask: torch.Tensor | None) -> None:
        """Keep a copy of an output; measure how far it is from what was kept there before.

        mask: of the call.
        """
        sampled = sample_of(out)
        if 0 <= kept.step < self.step:
            self.apart.add(kept.sample(), sampled, self.step - kept.step)
        # Half written, it is nobody's.
        kept.step = -1
        kept.put(out)
        if self.settings.storage == EIGHT_BIT:
            self.rounding.add(kept.sample(), sampled)
        kept.mask, kept.step = mask, self.step

    def copy_of(self, mask: torch.Tensor | None, caller) -> torch.Tensor | None:
        """Copy a call's mask, once for all calls of a model call that have it.

        caller: of the model call.
        """
        if mask is None:
            return None
        before, seen, ours, alike = self._compared
        if before is not caller or seen is not mask or not alike:
            self._compared = caller, mask, (ours := mask.clone()), True
        return ours

    def has_mask(self, kept: KeptOutput, mask: torch.Tensor | None, caller) -> bool:
        """Tell whether an output was computed with a call's mask: by its values, since hosts make masks anew in each
        step. That waits for the GPU, once for each mask of a model call.

        caller: of the model call.
        """
        if mask is None or kept.mask is None:
            return mask is kept.mask
        before, seen, ours, alike = self._compared
        if before is not caller or seen is not mask or ours is not kept.mask:
            alike = kept.mask.shape == mask.shape and torch.equal(kept.mask, mask)
            self._compared = caller, mask, kept.mask, alike
        return alike


class Place(KeepsIdentity):
    """Keeps the outputs of the calls of one site and geometry: one for all that a model call can be about.

    store: of the rule.
    found: what the call at hand is given; None: it attends.
    """

    __slots__ = ("_caller", "_number", "_rows", "found", "store")

    def __init__(self, store: OutputStore):
        self.store, self.found = store, None
        self._caller, self._number = None, 0
        self._rows: dict[object, list[KeptOutput | None]] = {}

    def find(self, caller, mask: torch.Tensor | None, split: bool) -> bool:
        """Look for an output that the call at hand can be given, which is `found` then.

        caller: the Caller of the model call that it is part of; its `about` is None where that cannot be told.
        mask: of the call.
        split: whether the heads are an axis of their own in what is asked for.
        """
        # A module may attend several times in one model call, always in the same order.
        if caller is self._caller:
            self._number += 1
        else:
            self._caller, self._number = caller, 0
        self.found, store = None, self.store
        row = self._rows.get(caller.about)
        if store.step is None or row is None or self._number >= len(row):
            return False
        kept = row[self._number]
        if kept is None or kept.step < 0 or not 0 < store.step - kept.step < store.every or kept.split is not split:
            return False
        if store.has_mask(kept, mask, caller):
            self.found = kept
        return self.found is not None

    def keep(self, out: torch.Tensor, heads: int, split: bool, mask: torch.Tensor | None) -> None:
        """Keep the output of the call at hand, for which nothing was found, where it may be given later and has room.

        out: as the host gets it.
        heads: of the call.
        split: whether they are an axis of their own in `out`.
        mask: of the call.
        """
        store, caller = self.store, self._caller
        if store.step is None or not store.keeps or store.refused or caller.about is None:
            return
        try:
            with record_paused():
                self._keep(out, 1 if split else heads, split, mask)
        except Exception as error:  # keeping must not cost a render
            store.give_up(f"keeping an output failed ({error_text(error)})")
            free_frames(error)
            free_cached_memory(out.device)

    def _keep(self, out: torch.Tensor, heads: int, split: bool, mask: torch.Tensor | None) -> None:
        row, number = self._rows.setdefault(self._caller.about, []), self._number
        row += [None] * (number + 1 - len(row))
        if row[number] is not None and not row[number].fits(out, split):
            self.store.free(row[number])
            row[number] = None
        if row[number] is None:
            row[number] = self.store.room(out, heads, split, mask)
        if row[number] is not None:
            self.store.write(row[number], out, self.store.copy_of(mask, self._caller))

    def forget(self, before: float = float("inf")) -> None:
        """Let go of all outputs that were computed before a step."""
        self.found = self._caller = None
        for about, row in tuple(self._rows.items()):
            for number, kept in enumerate(row):
                if kept is not None and kept.step < before:
                    self.store.free(kept)
                    row[number] = None
            if not any(row):
                del self._rows[about]
