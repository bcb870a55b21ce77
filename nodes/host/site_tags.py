"""Tags on the modules of a model while it is sampled, and what its blocks' hooks do with them: a call that no module
announces still has a block and a likely role."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import torch

from ...attention.core.site import CALLER, AttentionSite, SiteTag
from ...attention.inspect.site_watch import SiteWatch
from ...attention.routing.compiled_op import OPTIONS
from . import hooks
from .hooks import Handle

TAG, BLOCK = "_video_attention_tag", "_video_attention_block"


def position(function, skipped: int = 0) -> int | None:
    """Finds which positional argument of a function the options are, should they come as one.

    skipped: arguments at the beginning that are not counted, as self.
    """
    names = list(inspect.signature(function).parameters)[skipped:]
    return names.index(OPTIONS) if OPTIONS in names else None


def options_of(where: int | None, args, kwargs):
    """Reads the options of a call; None without any."""
    options = kwargs.get(OPTIONS)
    return args[where] if options is None and where is not None and where < len(args) else options


def tell(options, tag: SiteTag | None) -> None:
    """Says who is calling to code that torch.compile traced.

    options: the host's transformer_options of the call; None without any.
    tag: of the caller; None for nobody.
    """
    caller = None if options is None else options.get(CALLER)
    if caller is not None:
        caller.tag = tag


def remove(model: torch.nn.Module) -> None:
    """Takes every tag off."""
    for module in model.modules():
        vars(module).pop(TAG, None)
        vars(module).pop(BLOCK, None)


def tag_blocks(
    model: torch.nn.Module, tagged: Iterable[torch.nn.Module], first: int, watch: SiteWatch
) -> tuple[list[AttentionSite], list[Handle]]:
    """Tags the blocks around tagged modules. A block that makes its calls itself is tagged as a module.

    tagged: attention modules that have their tags.
    first: the number of the first of the blocks' sites.
    watch: what is told of each call.
    Returns the sites of calls that no module announces, and the hooks to remove.
    """
    names = {id(module): name for name, module in model.named_modules()}
    blocks: dict[str, list[SiteTag]] = {}
    for module in tagged:
        name = names[id(module)]
        root = _root(name)
        if root and root != name:
            blocks.setdefault(root, []).append(getattr(module, TAG))
    sites, handles = [], []
    for root, tags in blocks.items():
        block = model.get_submodule(root)
        found = _between(tags, first + len(sites), watch)
        found[0].position, found[0].inside = position(block.forward), tuple(tags)
        setattr(block, BLOCK, found[0])
        sites += [tag.site for tag in found]
        handles += [hooks.hook_before(block, enter), hooks.hook_behind(block, leave)]
    return sites, handles


def _between(tags: list[SiteTag], first: int, watch: SiteWatch) -> list[SiteTag]:
    """Makes the SiteTags of what is called before each of a block's modules; what may come next is the likeliest."""
    roles, found = [tag.site.role for tag in tags], []
    for number in range(len(tags)):
        order = tuple(dict.fromkeys((*roles[number:], *roles[:number])))
        site = AttentionSite(tags[0].site.family, order[0], tags[0].site.block, None, order)
        found.append(SiteTag(site, None, torch.tensor(first + number), watch))
    for number, tag in enumerate(tags):
        tag.after = found[(number + 1) % len(found)]
    return found


def _root(name: str) -> str:
    """Cuts `blocks.3.self_attn` to `blocks.3`: up to the last number."""
    parts = name.split(".")
    last = max((index for index, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[: last + 1])


def enter(block, args, kwargs):
    """Says before a tagged block runs that its calls come next."""
    tag = getattr(block, BLOCK)
    if torch.compiler.is_compiling():
        tell(options_of(tag.position, args, kwargs), tag)
    else:
        tag.watch.enter_block(tag)


def leave(block, args, kwargs, output):
    """Says behind a tagged block that its calls are over."""
    tag = getattr(block, BLOCK)
    options = options_of(tag.position, args, kwargs)
    if torch.compiler.is_compiling():
        tell(options, None)
    else:
        tag.watch.leave_block(tag, block, options)
