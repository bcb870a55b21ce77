"""Sees announced modules that made no call of a router of ours, and says whose attention that was."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import taken
from .opaque import SLOT
from .owner import owner, patched_by
from .site import Caller, Site, Tag
from .tally import Tally


class Watch:
    """What the hooks of one model share while it is sampled; one thread drives a model.

    caller: of the model evaluation that is on, None where nobody counts. model: the diffusion model.
    """

    def __init__(self, model: object):
        self.model = model
        self.caller: Caller | None = None
        self.tally: Tally | None = None
        self._known: dict = {}

    def begin(self, caller: Caller, tally: Tally | None) -> None:
        """A model evaluation begins. tally: None where nobody counts."""
        self.caller, self.tally = (None, None) if tally is None else (caller, tally)

    def enter(self, tag: Tag) -> None:
        """An announced module is called."""
        if self.caller is not None:
            tag.routed = self.caller.routed

    def leave(self, tag: Tag, module: object, options: Mapping | None) -> None:
        """It is done. options: the host's, as that call had them."""
        if self.caller is not None and self.caller.routed == tag.routed:
            self.missed(tag.site, module, options or {})

    def missed(self, site: Site, module: object, options: Mapping) -> None:
        """A module made no call that came to us."""
        override = options.get(SLOT)
        key = site, id(override)
        if key not in self._known:
            # The override is kept with it: another one shall not get its number.
            self._known[key] = *self._taker(module, override), override
        who, how, _ = self._known[key]
        if who is not None:
            self.tally.take(who, how, site if site.role else None)

    def _taker(self, module: object, override: Callable | None) -> tuple[str | None, str]:
        if override is None:
            return patched_by(self.model) or taken.NOBODY, taken.BARE
        if taken.foreign(override):
            return owner(override), taken.how(override, self.tally.at_start)
        changed = patched_by(module)
        if changed is not None:
            return changed, taken.MODULE
        return (taken.NOBODY, taken.UNKNOWN) if isinstance(override, taken.Router) else (None, "")
