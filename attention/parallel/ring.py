"""More ranks than heads: those of a group trade heads, and keys go around a ring of such groups.

Each rank attends from its group's queries to one group's keys after the other. What it has seen of each set of keys is
joined by the logarithm of the sum of its exponentials (log-sum-exp), which is exact but for rounding, done in float32.
Sources: Ring Attention, https://arxiv.org/abs/2310.01889; both together: USP, https://arxiv.org/abs/2405.07719.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from .peers import Peers, Share
from .spread import Spread
from .ulysses import gather_rows

# How the keys of other groups come: one group's after the other, or all before the call, or with all queries too.
AROUND, KEYS, ALL = "around", "keys", "all"
# Scores that are held at once where they are written out, in numbers.
SCRATCH = 1 << 25


def inner_of(most: int, key_heads: int) -> int:
    """Choose how many ranks trade heads: as many as divide `most`, and as each can have a key head of its own.

    most: that may.
    key_heads: of the call.
    """
    return max(n for n in range(1, most + 1) if most % n == 0 and n <= max(1, key_heads))


def in_a_row(names: Sequence[str]) -> int:
    """Choose how many ranks may trade heads where only those of one name shall: the most that divide them so."""
    sizes = (n for n in range(1, len(names) + 1) if len(names) % n == 0)
    return max(n for n in sizes if all(len({*names[i : i + n]}) == 1 for i in range(0, len(names), n)))


class Some(Peers):
    """Some of the ranks as a group of their own. All ranks are in such groups, and trade at the same time.

    peers: this rank.
    members: of its group, by their ranks.
    weights: of the members.
    """

    def __init__(self, peers: Peers, members: Sequence[int], weights: Sequence[float]):
        super().__init__(members.index(peers.rank), len(members), weights)
        self.whole, self.members, self.slices = peers, members, peers.slices

    def all_to_all(self, pieces, shapes) -> list[torch.Tensor]:
        came = self.whole.all_to_all(*self._among_all(pieces, shapes))
        return [came[member] for member in self.members]

    def begin(self, pieces, shapes) -> Callable[[], list[torch.Tensor]]:
        wait = self.whole.begin(*self._among_all(pieces, shapes))

        def own() -> list[torch.Tensor]:
            came = wait()
            return [came[member] for member in self.members]

        return own

    def _among_all(self, pieces, shapes) -> tuple[list, list]:
        nothing = pieces[self.rank].new_empty(0)
        given, due = [nothing] * self.whole.size, [(0,)] * self.whole.size
        for member, piece, shape in zip(self.members, pieces, shapes, strict=True):
            given[member], due[member] = piece, shape
        return given, due


class Ring:
    """One rank's place among the ranks that trade heads, and among the groups that those are.

    share: of the call.
    inner: how many trade heads, which divide all ranks.
    groups: how many there are.
    near: the ranks of its group; itself where all are one group.
    near_spread: how the group's tokens lie over them.
    far: the ranks of all groups that have the same heads, one of each.
    far_spread: how the sequence lies over the groups.
    way: how the keys of other groups came in the last call.
    """

    way = KEYS

    def __init__(self, share: Share, inner: int):
        peers, spread = share.peers, share.spread
        self.share, self.groups = share, peers.size // inner
        self.near, self.near_spread, self.far, self.far_spread = peers, spread, None, spread
        if self.groups == 1:
            return
        of_groups = [range(first, first + inner) for first in range(0, peers.size, inner)]
        own = of_groups[peers.rank // inner]
        # Ranks with the same place in their groups have the same heads.
        weights = [sum(peers.weights[place::inner]) for place in range(inner)]
        self.near = Some(peers, own, weights)
        self.near_spread = Spread(tuple(spread.sizes[rank] for rank in own), spread.before)
        self.far = Some(peers, range(peers.rank % inner, peers.size, inner), [1.0] * self.groups)
        self.far_spread = Spread(tuple(sum(spread.sizes[rank] for rank in g) for g in of_groups), spread.before)

    def mine(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """Return the group's tokens of a whole sequence."""
        return self.far_spread.part(x, self.far.rank, dim)

    def whole(self, x: torch.Tensor) -> torch.Tensor:
        """Put the tokens of all groups together.

        x: (B, H, group's tokens, D).
        """
        return gather_rows(x, self.far_spread, self.far, 2)

    def keys_of(self, mask: torch.Tensor, group: int) -> torch.Tensor:
        """Return the part of a mask (.., whole sequence) that is about a group's keys, as `steps` yields them."""
        spread = self.far_spread
        if group == self.far.rank:
            return spread.part(mask, group, mask.ndim - 1)
        return mask.narrow(-1, spread.start(group), spread.sizes[group])

    def steps(self, k: torch.Tensor, v: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Yield (group, its k, its v), the own ones first. The next are on their way while one is looked at.

        k, v: (B, H, group's tokens, D). What every rank has is in the own ones alone.
        """
        far, spread = self.far, self.far_spread
        held = torch.stack((k, v)).narrow(3, spread.before, spread.sizes[far.rank]).contiguous()
        for step in range(far.size):
            group, wait = (far.rank - step) % far.size, None
            if step + 1 < far.size:
                wait = self._hand_on(held, (group - 1) % far.size)
            yield (group, k, v) if step == 0 else (group, *held.unbind())
            held = held if wait is None else wait()[(far.rank - 1) % far.size]

    def _hand_on(self, held: torch.Tensor, group: int) -> Callable:
        """Begin to give the next rank what is held, and to get the keys of `group` from the one before."""
        far, nothing = self.far, held.new_empty(0)
        pieces, shapes = [nothing] * far.size, [(0,)] * far.size
        pieces[(far.rank + 1) % far.size] = held
        shapes[(far.rank - 1) % far.size] = (*held.shape[:3], self.far_spread.sizes[group], held.shape[4])
        return far.begin(pieces, shapes)


def ring_of(share: Share, key_heads: int) -> Ring:
    """Return how the ranks share a call with so many key heads: one object for the same numbers."""
    found = share.rings.get(key_heads)
    if found is None:
        found = share.rings[key_heads] = Ring(share, inner_of(share.peers.inner, key_heads))
    return found


class Seen:
    """What queries have seen of some keys so far.

    q: (B, H, Lq, D).
    """

    def __init__(self, q: torch.Tensor):
        wide = torch.promote_types(q.dtype, torch.float32)
        self.out = torch.zeros_like(q, dtype=wide)
        self.lse = q.new_full(q.shape[:3], -torch.inf, dtype=wide)

    def add(self, out: torch.Tensor, lse: torch.Tensor) -> None:
        """Join what they see of other keys.

        out: (B, H, Lq, D), of these keys alone.
        lse: (B, H, Lq), the log-sum-exp of these scores; -inf where none of the keys is seen.
        """
        lse = lse.to(self.lse.dtype)
        total = torch.logaddexp(self.lse, lse)
        old, new = ((one - total).exp_().masked_fill_(total == -torch.inf, 0.0) for one in (self.lse, lse))
        self.out.mul_(old[..., None]).addcmul_(out.to(self.out.dtype), new[..., None])
        self.lse = total


def written_out(q, k, v, mask=None, scale: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention and its log-sum-exp in float32 at least, some queries at a time: ((B, H, Lq, D), (B, H, Lq)).

    q: (B, H, Lq, D).
    k, v: (B, H, Lk, D).
    mask: broadcasts to (B, H, Lq, Lk). Bool: True may be seen. Float: added to the scores.
    scale: factor of the scores; None: 1 / sqrt(D).
    """
    wide, scale = torch.promote_types(q.dtype, torch.float32), q.shape[-1] ** -0.5 if scale is None else scale
    k, v, outs, sums = k.to(wide).transpose(-2, -1), v.to(wide), [], []
    step = max(1, SCRATCH // max(1, q.shape[0] * q.shape[1] * k.shape[-1]))
    for first in range(0, q.shape[2], step):
        scores = q[:, :, first : first + step].to(wide) @ k * scale
        if mask is not None:
            some = mask if mask.shape[-2] == 1 else mask[..., first : first + step, :]
            scores = scores.masked_fill_(~some, -torch.inf) if some.dtype == torch.bool else scores.add_(some)
        lse = scores.logsumexp(-1)
        weights = scores.sub_(lse[..., None].masked_fill(lse[..., None] == -torch.inf, 0.0)).exp_()
        outs.append(weights @ v)
        sums.append(lse)
    return torch.cat(outs, 2), torch.cat(sums, 2)
