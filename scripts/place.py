"""Initial weights that let a model with rotary positions sense where a token is.

Rotary attention sees offsets only, and a noisy latent is alike everywhere, so the frame's border is the one thing
that tells places apart. Six heads of the first two blocks start as 'look at the next token along one axis; at the
border, at yourself'; their feed-forward starts with the size of the difference, which is zero at that border only.
"""

import math

import torch
from torch import Tensor

from attention.demo import codec
from attention.demo.transformer import LTXVideoTransformer

Grid = tuple[int, int, int]
# (block, head, axis of (t, y, x), step) of each look, for models with 6 heads of 32 and with 4 heads of 64.
LOOKS = {
    (6, 32): ((0, 2, 1, -1), (0, 3, 1, 1), (0, 4, 2, -1), (0, 5, 2, 1), (1, 2, 0, -1), (1, 3, 0, 1)),
    (4, 64): ((0, 1, 1, -1), (0, 2, 1, 1), (0, 3, 2, -1), (1, 1, 2, 1), (1, 2, 0, -1), (1, 3, 0, 1)),
}
MOST_QUERIES = 512


def _list_groups(looks, active: int) -> list[tuple[int, int, int]]:
    """First channel, channels and first hidden unit of each look's group of unused latent channels.

    They are pure noise at every timestep and so tell tokens apart. The looks of the first block share the latent's
    channels, those of the second the copies behind them.
    """
    groups = []
    for index in (0, 1):
        count = sum(block == index for block, *_ in looks)
        channels = (codec.CHANNELS - active) // count
        first = (active, codec.CHANNELS)[index]
        groups += [(first + channels * n, channels, 2 * channels * n) for n in range(count)]
    return groups


def _neighbours(grid: Grid, axis: int, step: int) -> Tensor:
    """The number of each token's neighbour, or its own at the border; returns (L,)."""
    numbers = torch.arange(math.prod(grid)).reshape(grid)
    places = (torch.arange(grid[axis]) + step).clamp(0, grid[axis] - 1)
    return numbers.index_select(axis, places).flatten()


def _fit_look(cos: Tensor, sin: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A query and a key (D,) each whose rotary attention is sharp at `target` (L,); cos, sin: (L, D/2).

    Of a large grid some queries are looked at.
    """
    half, rows = cos.shape[1], slice(None)
    if len(cos) > MOST_QUERIES:
        rows = torch.randperm(len(cos), generator=generator)[:MOST_QUERIES]
    query, key = (torch.randn(2, half, generator=generator).requires_grad_() for _ in range(2))
    optimiser = torch.optim.Adam([query, key], lr=0.1)
    for _ in range(500):
        q, k = (torch.cat((z[0] * cos - z[1] * sin, z[0] * sin + z[1] * cos), 1) for z in (query, key))
        loss = torch.nn.functional.cross_entropy(q[rows] @ k.T / math.sqrt(2 * half), target[rows])
        loss = loss + 1e-4 * (query.square().mean() + key.square().mean())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.03:
            break
    return query.detach().T.flatten(), key.detach().T.flatten()


@torch.no_grad()
def _set_head(attn, head: int, query: Tensor, key: Tensor) -> None:
    width = query.numel()
    rows = slice(head * width, (head + 1) * width)
    for linear, norm, vector in ((attn.to_q, attn.q_norm, query), (attn.to_k, attn.k_norm, key)):
        linear.weight[rows] = 0.0
        linear.bias[rows] = 1.0
        norm.weight[rows] = vector


@torch.no_grad()
def _set_difference(block, head: int, width: int, group: tuple[int, int, int], flag: int) -> None:
    """Head output = minus the neighbour's group, and hidden units that add up the group's size into one channel."""
    first, count, unit = group
    rows = slice(head * width, (head + 1) * width)
    value, out = block.attn1.to_v, block.attn1.to_out[0]
    value.weight[rows], value.bias[rows], out.weight[:, rows] = 0.0, 0.0, 0.0
    group = torch.arange(count)
    value.weight[head * width + group, first + group] = 1.0
    out.weight[first + group, head * width + group] = -1.0
    up, down = block.ff.net[0].proj, block.ff.net[2]
    unit = unit + torch.arange(2 * count)
    up.weight[unit], up.bias[unit], down.weight[:, unit] = 0.0, 0.0, 0.0
    up.weight[unit[:count], first + group] = 3.0
    up.weight[unit[count:], first + group] = -3.0
    down.weight[flag, unit] = 1.0 / count


def _list_looks(model: LTXVideoTransformer):
    heads = model.config.num_attention_heads, model.config.attention_head_dim
    if heads not in LOOKS:
        raise ValueError(f"the place heads are laid out for 6 heads of 32 and 4 of 64, not {heads[0]} of {heads[1]}")
    return LOOKS[heads]


def give_place(
    model: LTXVideoTransformer, grid: Grid, frame_rate: float, generator: torch.Generator, active: int = codec.ACTIVE
) -> None:
    """Set the initial weights of a model for one grid; `active` channels of its latent are used."""
    looks = _list_looks(model)
    with torch.no_grad():
        patchify = model.patchify_proj
        patchify.weight[:] = 0.0
        patchify.bias[:] = 0.0
        channel = torch.arange(codec.CHANNELS)
        patchify.weight[channel, channel] = 1.0
        spare = torch.arange(codec.CHANNELS - active)
        patchify.weight[codec.CHANNELS + spare, active + spare] = 1.0
        model.proj_out.weight[channel[:active], channel[:active]] += 1.0
    aim_looks(model, grid, frame_rate, generator)
    for number, (look, group) in enumerate(zip(looks, _list_groups(looks, active))):
        block, width = model.transformer_blocks[look[0]], model.config.attention_head_dim
        # Behind the copies of the unused channels.
        _set_difference(block, look[1], width, group, 2 * codec.CHANNELS - active + number)


def aim_looks(model: LTXVideoTransformer, grid: Grid, frame_rate: float, generator: torch.Generator) -> None:
    """Aim the place heads at the neighbours in a grid, also of a model trained on another one."""
    cos, sin = model.tables(grid, frame_rate, "cpu")
    for index, head, axis, step in _list_looks(model):
        query, key = _fit_look(cos[:, head], sin[:, head], _neighbours(grid, axis, step), generator)
        _set_head(model.transformer_blocks[index].attn1, head, query, key)
