"""What is known of a model before it runs: family, heads, token grid, and how much of a step is attention."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import prod

import torch

from ..core.site import AUDIO_VIDEO, CROSS, SELF, SPATIAL, VIDEO_AUDIO, AttentionSite
from ..core.tokens import Grid, Tokens
from ..families.spec import Family
from ..routing.rules import Rule, format_blocks


@dataclass(frozen=True)
class Info:
    """What is known of a model before it runs.

    model: class of the diffusion model.
    family: name of its family, empty for one that this pack does not know.
    roles: of attention, those that this pack reaches.
    blocks: that have self-attention of the video.
    heads: of that, 0 when unknown.
    head_dim: channels of one of them, 0 when unknown.
    width: c in share = N / (N + c * channels): weights that each video token meets in a block, over 2 * channels ** 2.
    grid: of the latent asked about, (frames, rows, columns) of tokens.
    why: there is no grid.
    unreachable: kinds of attention that this pack does not reach.
    unsupported: why this family cannot be worked on, None where it can.
    named: a sentence about the kernels that the model's file names.
    usual: a sentence about what such models are sampled with.
    """

    model: str
    family: str
    roles: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()
    heads: int = 0
    head_dim: int = 0
    width: float = 0.0
    grid: Grid | None = None
    why: str = ""
    unreachable: tuple[str, ...] = ()
    unsupported: str | None = None
    named: str = ""
    usual: str = ""

    @property
    def tokens(self) -> int:
        """Count the tokens of the grid, 0 without one."""
        return prod(self.grid) if self.grid else 0

    @property
    def share(self) -> float | None:
        """Return the part of a block's arithmetic that is self-attention of the whole video; None if it cannot be told.

        4 N^2 C operations of attention beside 2 N P of the P weights that each of the N tokens meets.
        """
        channels = self.heads * self.head_dim
        if not self.tokens or not channels or not self.width or SELF not in self.roles:
            return None
        return self.tokens / (self.tokens + self.width * channels)


def examine(model: torch.nn.Module, family: Family | None, tokens: Tokens | None) -> Info:
    """Look at a diffusion model.

    family: None for one that this pack does not know.
    tokens: layout of the latent asked about, None without one.
    """
    name = type(model).__name__
    if family is None:
        return Info(name, "")
    if family.unsupported:
        return Info(name, family.name, unsupported=family.unsupported)
    sites, found = list(family.sites(model)), tokens or Tokens(None)
    video = [(module, block) for module, role, block in sites if role in (SELF, SPATIAL)]
    heads, head_dim = family.heads_of(video[0][0]) if video else (0, 0)
    channels = heads * head_dim
    weights = weights_per_token(model, family)
    return Info(
        name, family.name_of(model),
        roles=tuple(dict.fromkeys(role for role, _ in family.roles_of(model))),
        blocks=tuple(sorted({block for _, block in video})),
        heads=heads, head_dim=head_dim,
        width=weights / (2 * channels * channels) if channels else 0.0,
        grid=found.grid,
        why=found.unknown or "",
        unreachable=family.unreachable,
        usual=usual_of(family, model),
    )  # fmt: skip


def usual_of(family: Family, model: torch.nn.Module) -> str:
    """Say in a sentence what models of a family are sampled with: length, rate, scheduler, and when a pattern fits."""
    clips, (start, end), skipped = family.clips(model), family.pattern_range, family.skipped_block(model)
    words = (
        f"{clips.pictures} pictures at {clips.rate:g} a second" if clips.pictures else "",
        f"scheduler {family.scheduler}",
        "" if skipped is None else f"STG in block {skipped}",
        f"patterns from {start:.0%} to {end:.0%} of the sampling",
    )
    return f"Usual: {', '.join(filter(None, words))}."


def weights_per_token(model: torch.nn.Module, family: Family) -> int:
    """Count the linear weights that one video token meets in an average block with self-attention."""
    sites = list(family.sites(model))
    names = {id(module): name for name, module in model.named_modules()}
    looking = tuple(f"{names[id(module)]}." for module, role, _ in sites if role in (CROSS, VIDEO_AUDIO))
    looked_at = tuple(f"{names[id(module)]}." for module, role, _ in sites if role == AUDIO_VIDEO)
    roots = {_root(names[id(module)]) for module, role, _ in sites if role == SELF}
    total = 0
    for name, module in model.named_modules():
        weight, root = getattr(module, "weight", None), _root(name)
        if root not in roots or weight is None or weight.ndim != 2:
            continue
        if name.startswith(looking):
            passed = not re.search(family.keys_values, name.rpartition(".")[2])
        elif name.startswith(looked_at):
            passed = re.search(family.keys_values, name.rpartition(".")[2])
        else:
            passed = not any(map(family.is_beside, name.removeprefix(root).split(".")))
        total += weight.numel() if passed else 0
    return total // max(1, len(roots))


def _root(name: str) -> str:
    """Shorten `blocks.3.attn.qkv` to `blocks.3`: up to the first number."""
    parts = name.split(".")
    number = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return "" if number is None else ".".join(parts[: number + 1])


def step_speedup(share: float, attention: float) -> float:
    """Compute how much faster a step gets when its attention does (Amdahl's law).

    share: of the step's time that is attention, 0 to 1.
    attention: how many times as fast it gets; inf: it is free.
    """
    return 1.0 / (1.0 - share + share / attention)


def status(model: torch.nn.Module, family: Family | None) -> str:
    """Say in one line, for a node that patches this diffusion model, what is known of it."""
    name = type(model).__name__
    if family is None:
        return f"{name}: not a family this pack knows, blocks and grid unknown"
    if family.unsupported:
        return f"not supported: {family.unsupported}"
    return f"{family.name_of(model)}: blocks and grid known"


def idle(model: torch.nn.Module, family: Family | None, rule: Rule) -> str | None:
    """Say why a rule covers no attention call of this diffusion model, in a node's width; None where it covers some."""
    if family is None:
        return f"Covers nothing: blocks of {type(model).__name__} are unknown." if rule.blocks else None
    if family.unsupported:
        return None
    sites = tuple(AttentionSite(family.name, role, block) for role, block in family.roles_of(model))
    of_role = [site for site in sites if replace(rule, blocks=()).covers(site)]
    if not of_role:
        return f"Covers nothing: {family.name_of(model)} has no {rule.role}-attention."
    if any(map(rule.covers, of_role)):
        return None
    blocks = format_blocks({site.block for site in of_role if site.block is not None})
    where = f"blocks of {family.name_of(model)} are {blocks}" if blocks else f"{rule.role}-attention is in no block"
    return f"Covers nothing: {where}."


def to_text(info: Info) -> str:
    """Write an Info down in a few lines that fit a node."""
    if not info.family:
        unknown = (
            f"{info.model} is no family this pack knows. Backends work: calls with as many queries as keys count as "
            "self-attention. Blocks and the video's grid are unknown, so what needs them stays out."
        )
        return "\n".join(filter(None, (unknown, info.named)))
    if info.unsupported:
        return f"{info.model} ({info.family}) is not supported: {info.unsupported}."
    lines = [
        f"{info.family} ({info.model}): blocks {format_blocks(info.blocks)}, {info.heads} heads of {info.head_dim}",
        f"Reached: {', '.join(info.roles)}",
    ]
    if info.unreachable:
        lines.append(f"Out of reach: {', '.join(info.unreachable)}")
    if info.usual:
        lines.append(info.usual)
    if info.named:
        lines.append(info.named)
    if info.grid:
        lines += ["", f"This latent: {' x '.join(map(str, info.grid))} = {info.tokens} tokens (time x height x width)"]
        lines += _gains(info)
    elif info.why:
        lines += ["", f"Token grid of this latent: unknown, {info.why}"]
    return "\n".join(lines)


def _gains(info: Info) -> list[str]:
    share = info.share
    if share is None:
        return ["Attention's share of a step: not estimated for this family, its levels differ."]
    gains = ", ".join(f"{times}x as fast {step_speedup(share, times):.2f}x" for times in (2, 4, 8))
    return [
        f"Self-attention's share of the arithmetic: {share:.0%}",
        f"A step can gain at most: with attention {gains}, free {step_speedup(share, float('inf')):.2f}x.",
    ]
