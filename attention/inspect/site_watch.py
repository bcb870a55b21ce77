"""Sees announced modules that made no call of a router of ours, and says whose attention that was."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..core.function_owner import owner_of, patched_by
from ..core.site import AttentionSite, Caller, SiteTag
from ..routing.compiled_op import SLOT
from ..routing.run_stats import RunStats
from . import bypasses


class SiteWatch:
    """What the hooks of one model share while it is sampled; one thread drives a model.

    model: the diffusion model.
    caller: of the model evaluation that is on, None where nobody counts.
    """

    def __init__(self, model: object):
        self.model = model
        self.caller: Caller | None = None
        self.stats: RunStats | None = None
        self._known: dict = {}

    def begin(self, caller: Caller, stats: RunStats | None) -> None:
        """Begin a model evaluation.

        stats: None where nobody counts.
        """
        self.caller, self.stats = caller, stats

    def enter(self, tag: SiteTag) -> None:
        """Note that an announced module is called."""
        if self.caller is not None:
            self.caller.heard += 1
            if self.stats is not None:
                self.stats.chunks.begin(tag.site)
            tag.routed = self.caller.routed

    def leave(self, tag: SiteTag, module: object, options: Mapping | None) -> None:
        """Note that it is done.

        options: the host's, as that call had them.
        """
        caller = self.caller
        if caller is None:
            return
        caller.tag = tag.after
        if caller.routed == tag.routed and self.stats is not None:
            self.missed(tag.site, module, options or {})

    def enter_block(self, tag: SiteTag) -> None:
        """Note that a block is called."""
        caller = self.caller
        if caller is not None:
            tag.routed, tag.heard, caller.tag = caller.routed, caller.heard, tag

    def leave_block(self, tag: SiteTag, block: object, options: Mapping | None) -> None:
        """Note that it is done: unless its attention was announced or came to us, somebody else did it."""
        caller = self.caller
        if caller is None:
            return
        caller.tag = None
        if (caller.routed, caller.heard) == (tag.routed, tag.heard) and self.stats is not None:
            site, options = tag.inside[0].site, options or {}
            patches = options.get("patches_replace", {}).get("dit", {})
            self.missed(site, block, options, patches.get(("double_block", site.block)))

    def missed(self, site: AttentionSite, module: object, options: Mapping, instead: Callable | None = None) -> None:
        """Note that a module made no call that came to us.

        instead: what the host was told to call in the place of a block.
        """
        override = options.get(SLOT)
        key = site, module, id(override)
        if key not in self._known:
            # The override is kept with it: another one shall not get its number.
            self._known[key] = *self._taker(module, override, instead), override
        who, how, _ = self._known[key]
        if who is not None:
            self.stats.add_bypass(who, how, site if site.role else None)

    def _taker(self, module: object, override: Callable | None, instead) -> tuple[str | None, str]:
        changed = patched_by(module) if instead is None else owner_of(instead)
        if instead is not None:
            return changed, bypasses.MODULE
        if override is None:
            return patched_by(self.model) or bypasses.NOBODY, bypasses.BARE
        if bypasses.foreign(override):
            return owner_of(override), bypasses.how(override, self.stats.at_start)
        if changed is not None:
            return changed, bypasses.MODULE
        return (bypasses.NOBODY, bypasses.UNKNOWN) if isinstance(override, bypasses.Router) else (None, "")
