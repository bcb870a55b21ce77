"""The fixed latent codec of scenes: where, how large and how turned a shape is, seen from each token.

One latent token stands for 8 frames of 32 x 32 pixels, the scale of LTX-Video's own autoencoder. Of each shape it holds
how far its centre is from the token, the cosine and sine of its angle, its radius, its form and its colour; and which
shape is in front. These are smooth fields over a clip, most of them straight or even lines, so that cubic splines of
the tokens give every pixel its own; what is seen there is painted from them. Tokens that disagree bend a shape.

Shapes: B batch, F frames, H, W pixels, T = F/8, Y = H/32, X = W/32 latent grid.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from . import paint, scene_fit, shapes
from .scene_prompt import FORMS

CHANNELS = 128
BLOCK = (8, 32, 32)
TOGETHER = 2  # frames painted at once: more do not fit into a cache
RADIUS = 0.18  # the middle of drawn ones, in frame widths
# Channels of one shape: offset along rows and columns, cosine and sine, radius, forms, signs of the colour.
PARTS = (2, 2, 1, len(FORMS), 3)
SHAPE = sum(PARTS)
ORDER = 2 * SHAPE
ACTIVE = ORDER + 1
SIZES = (0.7, 1.15)  # the least and most radius, in parts of RADIUS
REACH = 1.32 * SIZES[1]  # of RADIUS, from its centre to the farthest corner of a shape
# What each is multiplied by. What is seen at once when it is wrong stands out most from noise.
OFFSET, ANGLE, SIZE, FORM = 4.0, 1.4, 10.0, 2.3


def place_tokens(grid: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Where the tokens' middles are: times from -0.5 to 0.5, rows and columns in frame widths."""
    times, rows, columns = ((torch.arange(size) + 0.5) for size in grid)
    return times / grid[0] - 0.5, rows / grid[2], columns / grid[2]


def encode_shapes(
    at: Tensor, angle: Tensor, radius: Tensor, form: Tensor, signs: Tensor, first: Tensor, grid
) -> Tensor:
    """Encode what is known of a clip's shapes into a latent (B, 128, T, Y, X) of `grid`.

    at: (B, 2, T, 2), row and column of each centre in frame widths, at the middles of the latent's frames.
    angle: (B, 2, T), in radians.
    radius: (B, 2), in frame widths.
    form: (B, 2), numbers of FORMS.
    signs: (B, 2, 3), -1 or 1.
    first: (B,), 1 where the first shape is in front, else 0.
    """
    _, rows, columns = (middles.to(at) for middles in place_tokens(grid))
    size = (len(at), 2, -1, *grid)

    def everywhere(value: Tensor) -> Tensor:
        return value[..., None, None, None].expand(size)

    rows, columns = rows[:, None] - at[..., 0, None, None], columns - at[..., 1, None, None]
    offset = torch.stack((rows.expand(*at.shape[:3], *grid[1:]), columns.expand(*at.shape[:3], *grid[1:])), 2)
    turned = torch.stack((angle.cos(), angle.sin()), 2)[..., None, None].expand(size)
    forms = F.one_hot(form, len(FORMS)).float() - 1 / len(FORMS)
    parts = (
        OFFSET * offset,
        ANGLE * turned,
        SIZE * everywhere(radius[..., None] / RADIUS - 1),
        FORM * everywhere(forms),
        everywhere(signs),
    )
    order = (2 * first - 1)[:, None, None, None, None].expand(len(at), 1, *grid)
    latent = torch.cat((torch.cat(parts, 2).flatten(1, 2), order), 1)
    return F.pad(latent, (0, 0) * 3 + (0, CHANNELS - ACTIVE))


def encode(clip: Tensor) -> Tensor:
    """Encode a clip (B, F, H, W, 3) in 0 to 1 into a latent (B, 128, T, Y, X).

    The two colours with most pixels are the shapes, the one with more the first; each is taken to move straight and to
    turn evenly, also where it is not seen. F must be a multiple of 8, H and W of 32: ValueError otherwise.
    """
    if any(size % factor for size, factor in zip(clip.shape[1:4], BLOCK)):
        raise ValueError(
            f"clip of {tuple(clip.shape[1:4])} (frames, rows, columns): each must be a multiple of {BLOCK}"
        )
    grid = tuple(size // factor for size, factor in zip(clip.shape[1:4], BLOCK))
    latents = []
    for one in clip.float():
        found, front = scene_fit.find_shapes(one)
        at = torch.stack([shape.at.unflatten(0, (-1, BLOCK[0])).mean(1) for shape in found])
        angle = torch.stack([shape.angle.unflatten(0, (-1, BLOCK[0])).mean(1) for shape in found])
        radius, signs = torch.stack([s.radius for s in found]), torch.stack([s.signs for s in found])
        form = torch.tensor([shape.form for shape in found], device=clip.device)
        first = torch.full((1,), float(front), device=clip.device)
        latents.append(encode_shapes(at[None], angle[None], radius[None], form[None], signs[None], first, grid))
    return torch.cat(latents)


def make_splines(tokens: int, points: int) -> Tensor:
    """The weights (tokens * points, tokens) with which cubic B-splines spread tokens over `points` points of each.

    A line stays that line, also beyond the outermost tokens' middles, and noise of single tokens is smoothed.
    """
    at = (torch.arange(tokens * points) + 0.5) / points - 0.5
    first = at.floor()
    t = (at - first)[:, None]
    weights = torch.cat(((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * (t + t**2 - t**3), t**3), 1) / 6
    numbers = first.long()[:, None] + torch.arange(-1, 3)
    # Beyond the border a token is what the line through the two outermost says.
    inner = numbers.clamp(0, tokens - 1)
    beyond = numbers - inner
    inward = (inner - beyond.sign()).clamp(0, tokens - 1)
    spread = torch.zeros(len(at), tokens)
    spread.scatter_add_(1, inner, weights * (1 + beyond.abs()))
    return spread.scatter_add_(1, inward, -weights * beyond.abs())


def _read(fields: Tensor) -> tuple[Tensor, Tensor]:
    """How far inside its shape each point is, in frame widths, and its texture, of a shape's fields (SHAPE, N)."""
    offset, turned, size, form, _ = fields.split(PARTS)
    # F.normalize takes a quarter of a decoding's time.
    turned = turned * turned.square().sum(0).clamp(min=1e-12).rsqrt()
    (dy, dx), (cos, sin) = offset / OFFSET, turned
    along, across = shapes.turn(dy, dx, cos, sin)
    radius = RADIUS * (1 + size[0] / SIZE).clamp(*SIZES)
    form = (form / FORM + 1 / len(FORMS)).clamp(min=1e-3)
    form = (form / form.sum(0)).T
    values = shapes.measure_distances(along, across, radius), shapes.draw_textures(along, across, radius)
    return tuple((form * value).sum(-1) for value in values)


def _paint(fields: Tensor) -> Tensor:
    """Paint what fields (B, ACTIVE, F, H, W) say; returns (B, F, H, W, 3)."""
    height, width = fields.shape[-2:]
    each = fields[:, :ORDER].unflatten(1, (2, SHAPE))
    inside = torch.full_like(each[:, :, 0], -1.0)
    texture = torch.zeros_like(inside)
    # Far from a shape there is nothing of it to work out.
    planes = each.flatten(0, 1).flatten(2), inside.flatten(0, 1), texture.flatten(0, 1)
    for shape, edge, tone in zip(*planes):
        near = ((shape[:2] / OFFSET).square().sum(0) < (REACH * RADIUS) ** 2).nonzero()[:, 0]
        edge.view(-1)[near], tone.view(-1)[near] = _read(shape.index_select(1, near))
    first = (0.5 + 2 * fields[:, ORDER]).clamp(0, 1)
    ground = paint.draw_ground(height, width, fields.device)
    return paint.paint_layers(inside * width, texture, ground, (2 * each[:, :, -3:]).clamp(-1, 1), first)


def decode(latent: Tensor) -> Tensor:
    """Decode a latent (B, 128, T, Y, X) into a clip (B, F, H, W, 3) in 0 to 1."""
    used = latent[:, :ACTIVE].float()
    times, rows, columns = (make_splines(n, p).to(used) for n, p in zip(used.shape[2:], BLOCK))
    clips = []
    for time in times.split(TOGETHER):
        frames = torch.einsum("ft,bctyx->bcfyx", time, used)
        clips.append(_paint(torch.einsum("hy,bcfyx,wx->bcfhw", rows, frames, columns)))
    return torch.cat(clips, 1).clamp(0, 1)
