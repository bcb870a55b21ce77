"""One model as one of several GPUs: hooks of its blocks share its tokens out and put them together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from ...attention.core.reason import Reason
from ...attention.families.token_share import ByFrame, Frames, TokenShare
from ...attention.parallel.peers import Broken, Peers, Share
from ...attention.parallel.ulysses import gather_rows
from ...attention.routing.compiled_op import OPTIONS
from ...attention.routing.step_context import CONTEXT, IDLE
from . import hooks, model_family
from .hooks import Handle

KEY = "video_attention.ranks"
# What shares a MODEL's evaluations out, over GPUs or machines.
GPUS, MACHINES = "video_attention.gpus", "video_attention.machines"
# Key of a MODEL's copies for other GPUs among its additional models.
COPIES = "multigpu"
# Key of this rank's Peers in the host's transformer_options.
RANK = "vattn.rank"


class Refused(Exception):
    """The tokens of this model call cannot be shared out; its text says why. Raised on all ranks, before they talk."""


class Own:
    """What a rank has of one model call's tokens: the `own` of a TokenShare.

    share: of the call.
    """

    def __init__(self, share: Share):
        self.share, self.peers, self.spread, self.rank = share, share.peers, share.spread, share.peers.rank
        self._made: dict[int, tuple] = {}

    def part(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """Cut this rank's tokens out of a sequence, once for all blocks that get the same tensor."""
        return self.made(x, lambda: self.spread.part(x, self.rank, dim).contiguous(), dim)

    def apart(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """Cut this rank's tokens out of a sequence that has not those in front."""
        # Blocks add to it in place.
        return x.narrow(dim, self.spread.start(self.rank) - self.spread.before, self.spread.sizes[self.rank]).clone()

    def made(self, told: object, make: Callable, *more) -> object:
        """Make something of what every block is told; only once in a model call."""
        key = (id(told), *more)
        if key not in self._made:
            # With what it was made of, so that no other object gets its id.
            self._made[key] = (told, make())
        return self._made[key][1]

    def whole(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """Put the sequence together from all ranks."""
        return gather_rows(x, self.spread, self.peers, dim)


class Sharer:
    """Hooks of one model on one rank.

    rule: of the model's family.
    model: the diffusion model.
    """

    def __init__(self, rule: TokenShare, model: torch.nn.Module):
        self.rule, self.model, self.blocks = rule, model, rule.blocks(model)
        self._own: Own | None = None
        self._calls = 0
        self._frames: Frames | None = None

    def attach(self) -> Iterator[Handle]:
        """Hooks every block, what works on whole frames, and where the tokens are put together."""
        for block in (*self.blocks, *self.rule.blocks_beside(self.model)):
            yield hooks.hook_before(block, self.before)
        for module, cut in self.rule.by_frame(self.model):
            yield hooks.hook_before(module, partial(self.before_frames, cut))
            yield hooks.hook_behind(module, self.behind_frames)
        for head in self.rule.heads_of(self.model):
            yield hooks.hook_before(head, self.before_head)
        if not self.rule.heads:
            yield hooks.hook_behind(self.blocks[-1], self.behind)

    def before(self, module, args, kwargs):
        """Shares the tokens out at the first block, and what is told for each token at every one."""
        options = kwargs.get(OPTIONS) or {}
        if module is self.blocks[0]:
            self._own = None
            peers = options.get(RANK)
            if peers is None:
                return None
            self._own = self._begun(peers, args, kwargs)
            args, kwargs = self.rule.enter(self._own, args, kwargs)
        elif self._own is not None:
            self._check(self._own)
        if self._own is None:
            return None
        own = self._own
        self._calls = own.peers.calls
        args, kwargs = self.rule.tables(own, args, kwargs)
        context = options.get(CONTEXT, IDLE).but(share=own.share)
        return args, {**kwargs, OPTIONS: {**options, CONTEXT: context}}

    def _begun(self, peers: Peers, args, kwargs) -> Own:
        why = self.rule.refuses(args, kwargs)
        if why:
            raise Refused(why)
        return Own(peers.share(*self.rule.lengths(args, kwargs)))

    def before_frames(self, cut: ByFrame, module, args, kwargs):
        """Gives whole frames to what works on each by itself."""
        self._frames = None
        if self._own is None:
            return None
        self._frames, args, kwargs = cut(self._own, args, kwargs)
        return args, kwargs

    def behind_frames(self, module, args, kwargs, output):
        """Leaves this rank's tokens of what works on whole frames."""
        frames, self._frames = self._frames, None
        return None if frames is None else frames.emptied(output)

    def behind(self, module, args, kwargs, output):
        """Puts the tokens of all ranks together behind the last block."""
        own, self._own = self._own, None
        if own is None:
            return None
        self._check(own)
        return self.rule.leave(own, output)

    def before_head(self, module, args, kwargs):
        """Puts them together in front of the head."""
        whole = self.behind(module, args, kwargs, args[0])
        return None if whole is None else ((whole, *args[1:]), kwargs)

    def _check(self, own: Own) -> None:
        if own.peers.calls == self._calls:
            raise Broken(
                "another node took the attention calls of a block away, so that each GPU saw its own tokens only. "
                "Place Video Attention Several GPUs behind that node, or bypass one of them"
            )


def attach(patcher) -> None:
    """Lets a MODEL share its tokens out wherever transformer_options name its rank."""
    hooks.during_runs(patcher, KEY, _publish)


def detach(patcher) -> None:
    """Lets a MODEL share nothing out any more, whoever let it."""
    for key in (KEY, GPUS, MACHINES):
        hooks.take_off(patcher, key)


def rule_of(patcher) -> TokenShare | Reason:
    """Finds how the tokens of a MODEL are shared out, or why they are not."""
    row, network = model_family.row_of(patcher), patcher.model.diffusion_model
    if row.unsupported:
        return Reason(row.unsupported)
    name = type(network).__name__
    if isinstance(row.shared, TokenShare) and row.shared.models and name not in row.shared.models:
        return Reason(f"{name} gives its blocks more than {row.name} does, and that is not shared out yet")
    return row.shared


def _publish(patcher) -> Iterator[Handle]:
    rule = rule_of(patcher)
    if not isinstance(rule, Reason):
        yield from Sharer(rule, patcher.model.diffusion_model).attach()
