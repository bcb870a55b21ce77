"""Looks at the override slot in every model call, and says who attends past our rules: in the report, once in the log,
and on the nodes whose rules they are."""

from __future__ import annotations

import logging

from comfy.patcher_extension import WrappersMP
from server import PromptServer

from ...attention.core.function_owner import owner_of, patched_by
from ...attention.core.identity import KeepsIdentity
from ...attention.core.site import CALLER, Caller
from ...attention.families.spec import Family
from ...attention.inspect import bypasses
from ...attention.routing.compiled_op import OPTIONS, SLOT
from ...attention.routing.router import Router
from ...attention.routing.rules import Asker
from ...attention.routing.run_stats import RunStats
from ...attention.routing.step_context import CONTEXT, stats_of
from . import askers

# There on every model of ours, cleared ones too: LTX copies the options while torch.compile traces it, and the graph
# then looks each key up.
ROUTERS = "vattn.routers"
# Where apply_model has the options when they come without their name.
POSITION = 5
# The host's key of what its node for torch.compile puts on a model.
COMPILED = "torch.compile"


class RouterGroup(KeepsIdentity):
    """Some routers, and the nodes that made them.

    members: the Routers.
    askers: the nodes.
    Not a tuple or a set: torch.compile takes those apart and ties its graph to their members.
    """

    def __init__(self, *members: Router, askers: tuple[Asker, ...] = ()):
        self.members, self.askers = members, askers

    def replaced(self, old, new: Router) -> RouterGroup:
        """Makes the group with `new`, made by the node that is executing, in the place of `old`."""
        asker = askers.executing()
        found = self.askers if asker is None else tuple(dict.fromkeys((*self.askers, asker)))
        return RouterGroup(*(router for router in self.members if router is not old), new, askers=found)


def look(executor, *args, **kwargs):
    """Wraps APPLY_MODEL: gives this model call a Caller, and notes after it whether its attention came to us."""
    options = kwargs.get(OPTIONS, args[POSITION] if len(args) > POSITION else None)
    stats = stats_of(options)
    if stats is None:
        return executor(*args, **kwargs)
    caller = Caller(fresh=True)
    options = {**options, CALLER: caller}
    if OPTIONS in kwargs:
        kwargs = {**kwargs, OPTIONS: options}
    else:
        args = (*args[:POSITION], options, *args[POSITION + 1 :])
    out = executor(*args, **kwargs)
    stats.calls += 1
    override = options.get(SLOT)
    # Where hooks see each module, they have told already.
    if not caller.routed and bypasses.foreign(override) and (stats.compiled or not caller.live):
        stats.add_bypass(owner_of(override), bypasses.how(override, stats.at_start))
    if stats.bypasses and not stats.warned:
        _tell(stats, options[ROUTERS].askers)
    return out


def _tell(stats: RunStats, whom: tuple[Asker, ...]) -> None:
    """Says who attends past our rules by what was counted until now: once in a run, as soon as something is known."""
    stats.warned = True
    text = " ".join(bypasses.sentences(stats))
    logging.warning("Video Attention, %s: %s", stats.model, text)
    server = getattr(PromptServer, "instance", None)
    if server is not None and server.client_id is not None:
        for node in dict.fromkeys(node for asker in whom for node in stats.find_asker(asker).nodes):
            server.send_progress_text(text, node, server.client_id)


def is_compiled(patcher) -> bool:
    """Tells whether torch.compile is on this MODEL: by ComfyUI's own node, or on parts of it as other packs do it."""
    parts = (*patcher.object_patches.values(), *patcher.model.diffusion_model.modules())
    return bool(patcher.get_wrappers(WrappersMP.APPLY_MODEL, COMPILED)) or any(
        hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None for part in parts
    )


def missing(stats: RunStats, options: dict, family: Family | None, model) -> list[str]:
    """Lists what a run's report says of attention that we did not see.

    stats: of the run.
    options: the host's transformer_options.
    family: the model's row; None for an unknown one.
    model: its diffusion model.
    """
    top = options.get(SLOT)
    notes = [*bypasses.sentences(stats), *bypasses.untold(stats, family is not None and not family.unsupported)]
    if family is not None and family.unreachable and bypasses.all_by_nobody(stats):
        notes.insert(0, _out_of_reach(family))
    if stats.decisions and isinstance(top, Router):
        routers = tuple(r for r in options[ROUTERS].members if r not in options[CONTEXT].off)
        notes += bypasses.unreached(stats, top, routers)
    if family is not None and family.unsupported:
        notes.append(f"not supported: {family.unsupported}.")
    elif not stats.decisions and not stats.bypasses:
        notes.append(_unseen(stats, family, model))
    if family is None:
        notes.append(
            f"{stats.model} is no family this pack knows: roles are told by token counts, blocks and the video's grid "
            "are unknown."
        )
    return notes


def _out_of_reach(family: Family) -> str:
    return f"Known to be out of reach: {', '.join(family.unreachable)}."


def _unseen(stats: RunStats, family: Family | None, model) -> str:
    """Says why no attention call was seen at all."""
    known = f"{_out_of_reach(family)} " if family and family.unreachable else ""
    if stats.compiled:
        return (
            f"{known}No attention call came through: torch.compile keeps a graph that it made without Video "
            "Attention's nodes. Restart ComfyUI with them before torch.compile."
        )
    if not stats.calls:
        return "The model was not called: a cache or another node answered in its place."
    changed = patched_by(model)
    whose = f"{stats.model} as {changed} changed it" if changed else stats.model
    return f"{known}No attention call came through: {whose} runs attention without the options that carry an override."
