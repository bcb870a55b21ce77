"""The fixed latent codec of scenes: smooth fields instead of pixels, as low polynomials block by block.

One latent token stands for 8 frames of 32 x 32 pixels, the scale of LTX-Video's own autoencoder. Of each shape the
latent holds how far inside its edge a point is and a field that is zero along its texture's lines, both as Legendre
coefficients of the block; the signs of its colour; and which shape is in front. Straight edges that move evenly are
polynomials of first degree, so few coefficients give sharp edges: a decoded clip is painted from the fields.

Shapes: B batch, F frames, H, W pixels, T = F/8, Y = H/32, X = W/32 latent grid.
"""

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from . import paint
from .prompt import COLOUR_SIGNS

CHANNELS = 128
BLOCK = (8, 32, 32)
TILES = 12  # of the background along a side
# The distance inside is bent to REACH * tanh(distance / REACH), in tokens: only near the edge does it matter.
REACH = 0.9
INSIDE_MIDDLE = -0.75  # about its mean
INSIDE = tuple((t, y, x) for t in range(4) for y in range(4 - t) for x in range(4 - t - y))
TEXTURE = tuple((t, y, x) for t, y, x in INSIDE if t + y + x < 3) + ((1, 1, 1), (2, 1, 0), (2, 0, 1), (1, 2, 0))
FIELDS = len(INSIDE) + len(TEXTURE)  # coefficients of one shape
SIGNS = 2 * FIELDS  # the first of 2 x 3 channels of colours
FIRST = SIGNS + 6
ACTIVE = FIRST + 1
SMOOTHED = 7  # pixels over which fields are averaged where blocks meet
# Deviation of each coefficient in drawn scenes.
INSIDE_DEVIATIONS = (
    0.36,
    0.0582,
    0.0094,
    0.004,
    0.058,
    0.0119,
    0.004,
    0.0094,
    0.004,
    0.004,
    0.0544,
    0.0155,
    0.0041,
    0.0157,
    0.0051,
    0.0041,
    0.0085,
    0.004,
    0.0041,
    0.004,
)
TEXTURE_DEVIATIONS = (
    0.143,
    0.0803,
    0.0264,
    0.0765,
    0.0318,
    0.0243,
    0.0787,
    0.0517,
    0.0492,
    0.028,
    0.0235,
    0.0198,
    0.0211,
    0.0181,
)
TEXTURE_SHARE = 0.6  # of the deviation of 1: what is seen least counts least


def _make_scales() -> Tensor:
    """One over the root of each deviation, so that small coefficients stay small; the lowest get a deviation of 1."""
    inside, texture = (torch.tensor(values) for values in (INSIDE_DEVIATIONS, TEXTURE_DEVIATIONS))
    return torch.cat(((inside * inside[0]).rsqrt(), TEXTURE_SHARE * (texture * texture[0]).rsqrt()))


def evaluate_polynomials(points: Tensor, count: int = 4) -> Tensor:
    """The lowest Legendre polynomials at points (N,) in -1 to 1, (count, N), mean square 1 over -1 to 1."""
    rows = [torch.ones_like(points), points]
    for order in range(2, count):
        rows.append(((2 * order - 1) * points * rows[-1] - (order - 1) * rows[-2]) / order)
    return torch.stack([row * math.sqrt(2 * order + 1) for order, row in enumerate(rows)])


def _make_basis(points: tuple[Tensor, Tensor, Tensor], orders) -> Tensor:
    """Products of polynomials over a block, (K, f * h * w), at points along its three axes."""
    t, y, x = (evaluate_polynomials(axis) for axis in points)
    return torch.stack([t[i][:, None, None] * y[j][:, None] * x[k] for i, j, k in orders]).flatten(1)


def list_nodes(counts: tuple[int, int, int]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Where fields are to be known in a block: points in -1 to 1 along each axis, and the weight of each product.

    Gauss-Legendre nodes (Abramowitz and Stegun, 25.4.29): `count` of them are exact for polynomials of degree
    2 * count - 1. Returns three tensors of (count,) and (f * h * w,), which add up to 1.
    """
    from numpy.polynomial.legendre import leggauss

    pairs = [[torch.from_numpy(values).float() for values in leggauss(count)] for count in counts]
    weights = [weight / 2 for _, weight in pairs]
    product = weights[0][:, None, None] * weights[1][:, None] * weights[2]
    return tuple(points for points, _ in pairs), product.flatten()


def list_middles(counts: tuple[int, int, int]) -> tuple[tuple[Tensor, ...], Tensor]:
    """The middles of `counts` even parts of a block along its axes, and their weights, as `list_nodes` gives nodes."""
    points = tuple((2 * torch.arange(count) + 1) / count - 1 for count in counts)
    return points, torch.full((math.prod(counts),), 1 / math.prod(counts))


def encode_fields(inside: Tensor, texture: Tensor, signs: Tensor, first: Tensor, nodes) -> Tensor:
    """Encode fields known at the nodes of each block into a latent (B, 128, T, Y, X).

    inside: (B, 2, T * f, Y * h, X * w), tokens from each shape's edge.
    texture: the same shape.
    signs: (B, 2, 3), -1 or 1.
    first: (B,), 1 where the first shape is in front, else 0.
    nodes: the f, h and w points of a block and their weights, from `list_nodes` or `list_middles`.
    """
    points, weights = nodes
    frames, rows, columns = map(len, points)
    scales = _make_scales()
    bent = REACH * torch.tanh(inside / REACH) - INSIDE_MIDDLE
    parts = []
    for field, orders, scale in (
        (bent, INSIDE, scales[: len(INSIDE)]),
        (texture, TEXTURE, scales[len(INSIDE) :]),
    ):
        blocks = rearrange(field, "b s (t f) (y h) (x w) -> b s t y x (f h w)", f=frames, h=rows, w=columns)
        basis = _make_basis(points, orders)
        # Least squares: where the nodes are no Gauss-Legendre nodes the polynomials are not quite orthogonal.
        fit = torch.linalg.solve((basis * weights) @ basis.T, basis * weights) * scale[:, None]
        parts.append((blocks @ fit.T.to(blocks)).movedim(-1, 2))
    fields = torch.cat(parts, 2).flatten(1, 2)
    constant = torch.cat((signs.flatten(1), 2 * first[:, None] - 1), 1)[..., None, None, None]
    latent = torch.cat((fields, constant.expand(*constant.shape[:2], *fields.shape[2:])), 1)
    return F.pad(latent, (0, 0) * 3 + (0, CHANNELS - ACTIVE))


def _smooth(field: Tensor) -> Tensor:
    """Average (B, 2, F, H, W) over small squares."""
    padded = F.pad(field.flatten(0, 1), [SMOOTHED // 2] * 4, mode="replicate")
    return F.avg_pool2d(padded, SMOOTHED, stride=1).unflatten(0, field.shape[:2])


def _decode_frames(latent: Tensor, constant: Tensor) -> Tensor:
    """Decode one latent frame (B, 128, 1, Y, X) and its frames' colours and order (B, 7, 8, Y, X)."""
    points = tuple(axis.to(latent) for axis in list_middles(BLOCK)[0])
    scales = _make_scales().to(latent.device)
    fields = latent[:, :SIGNS].unflatten(1, (2, FIELDS)).movedim(2, -1)
    cut, (frames, rows, columns) = len(INSIDE), BLOCK
    decoded = []
    for part, orders, scale in (
        (fields[..., :cut], INSIDE, scales[:cut]),
        (fields[..., cut:], TEXTURE, scales[cut:]),
    ):
        blocks = part @ (_make_basis(points, orders) / scale[:, None])
        field = rearrange(blocks, "b s t y x (f h w) -> b s (t f) (y h) (x w)", f=frames, h=rows, w=columns)
        decoded.append(_smooth(field))
    inside, texture = decoded
    height, width = inside.shape[-2:]
    constant = F.interpolate(constant, (len(points[0]), height, width), mode="trilinear")
    signs = (2 * constant[:, :6]).clamp(-1, 1).unflatten(1, (2, 3))
    first = (0.5 + 2 * constant[:, 6]).clamp(0, 1)
    wave = [
        torch.cos(2 * math.pi * TILES * (torch.arange(size, device=latent.device) + 0.5) / size)
        for size in (height, width)
    ]
    ground = (wave[0][:, None] + wave[1]) / 2
    return paint.paint_layers((inside + INSIDE_MIDDLE) * BLOCK[1], texture, ground, signs, first)


def _find_shapes(clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two most frequent colours' signs (B, 2, 3), where each is, and whether light or dark: (B, 2, F, H, W)."""
    palette = torch.tensor(list(COLOUR_SIGNS.values()), dtype=torch.float32, device=clip.device)
    tones = torch.cat((0.5 + palette * paint.LIGHT, 0.5 + palette * paint.DARK, palette.new_full((1, 3), 0.5)))
    nearest = torch.stack([torch.cdist(frame.flatten(0, -2), tones).argmin(-1) for frame in clip.flatten(0, 1)])
    nearest = nearest.reshape(clip.shape[:-1])
    ground, colour = nearest == len(tones) - 1, nearest % len(palette)
    counts = torch.stack([((colour == number) & ~ground).flatten(1).sum(1) for number in range(len(palette))], 1)
    two = counts.topk(2, 1).indices
    there = (colour[:, None] == two[..., None, None, None]) & ~ground[:, None]
    light = torch.where(nearest < len(palette), 1.0, -1.0)[:, None] * there
    return palette[two], there, light


def _measure_distance(there: Tensor, reach: int) -> Tensor:
    """Pixels to the nearest pixel where `there` (N, H, W) is False: 0 at those, at most `reach`, (N, H, W).

    Squares add up, so each axis has a pass of its own (Felzenszwalb and Huttenlocher, 2012).
    """
    far = float(reach * reach)
    square = torch.where(there, far, 0.0)
    for axis, sides in ((2, (reach, reach)), (1, (0, 0, reach, reach))):
        padded, size = F.pad(square, sides, value=far), there.shape[axis]
        for step in range(-reach, reach + 1):
            square = torch.minimum(square, padded.narrow(axis, reach + step, size) + step * step)
    return square.sqrt()


def encode(clip: Tensor) -> Tensor:
    """Encode a clip (B, F, H, W, 3) in 0 to 1 into a latent (B, 128, T, Y, X).

    The two colours with most pixels are the shapes, the one with more the first; what is hidden stays hidden. F must be
    a multiple of 8, H and W of 32: ValueError otherwise.
    """
    if any(size % factor for size, factor in zip(clip.shape[1:4], BLOCK)):
        raise ValueError(
            f"clip of {tuple(clip.shape[1:4])} (frames, rows, columns): each must be a multiple of {BLOCK}"
        )
    signs, there, light = _find_shapes(clip.float())
    reach = 2 * BLOCK[1]
    flat = there.flatten(0, 2)
    inside = torch.stack([_measure_distance(f[None], reach) - _measure_distance(~f[None], reach) for f in flat])
    inside = (inside.reshape(there.shape) + torch.where(there, -0.5, 0.5)) / BLOCK[1]
    # A texture is a wave: its light and dark parts, smoothed, have their zeros where it had.
    texture = 0.4 * _smooth(_smooth(light))
    return encode_fields(inside, texture, signs, torch.ones(len(clip), device=clip.device), list_middles(BLOCK))


def decode(latent: Tensor) -> Tensor:
    """Decode a latent (B, 128, T, Y, X) into a clip (B, F, H, W, 3) in 0 to 1."""
    latent = latent.float()
    size = (BLOCK[0] * latent.shape[2], *latent.shape[3:])
    constant = F.interpolate(latent[:, SIGNS:ACTIVE], size, mode="trilinear").split(BLOCK[0], 2)
    return torch.cat([_decode_frames(part, tint) for part, tint in zip(latent.split(1, 2), constant)], 1).clamp(0, 1)
