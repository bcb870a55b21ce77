"""Dense optical flow without weights: pyramidal Lucas-Kanade, started from the frame's phase correlation.

Sources: B. D. Lucas, T. Kanade, "An iterative image registration technique with an application to stereo vision", IJCAI
1981; J.-Y. Bouguet, "Pyramidal implementation of the affine Lucas Kanade feature tracker", Intel 2001; C. D. Kuglin,
D. C. Hines, "The phase correlation image alignment method", 1975; D. Sun et al., "Secrets of optical flow estimation",
CVPR 2010 (the median between rounds); which pixels have a match: N. Sundaram et al., "Dense point trajectories by
GPU-accelerated large displacement optical flow", ECCV 2010, equation 5; the noise of a picture: J. Immerkaer, "Fast
noise variance estimation", CVIU 1996, by the median instead of the mean, which textures move less.

Shapes: H, W pixels. A picture is (1, C, H, W). A flow is (1, 2, H, W), columns first, in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Longest side at which the flow is searched, shortest side of the coarsest level, rounds at each level.
WORKING_SIZE, COARSEST, ROUNDS = 384, 12, 5
# Half a window, in pixels of each level: of the local normalisation and of the least squares.
AROUND, WINDOW = 7, 4
# Contrast below which a place counts as flat, the same in multiples of the picture's noise, and what is added to the
# squared gradients, of mean square 1 or so. By trial on frames of five real clips, with noise of 0.02 and without.
FLAT, NOISY, DAMPING = 0.005, 10.0, 0.05
# A frame's common shift has to explain this share less than no shift does, or it is not taken as the start.
BETTER = 0.9
# A place stands still if that leaves less than this share of what the flow found leaves there.
STANDS = 0.5
# Median of the absolute value of a normal variable with deviation 1.
MEDIAN_OF_NORMAL = 0.6745


def estimate_flow(first: Tensor, second: Tensor) -> Tensor:
    """Find each pixel p of `first` in `second`: (1, 2, H, W), so that second(p + flow(p)) is like first(p).

    first: luma, (1, 1, H, W), 0 to 1.
    second: luma, (1, 1, H, W), 0 to 1.

    Both are brought to zero mean and unit contrast around every pixel, so a change of brightness is not taken for
    motion. A flat place gets the motion of its surroundings.
    """
    size, longest = first.shape[2:], max(first.shape[2:])
    small = [max(1, round(side * min(1.0, WORKING_SIZE / longest))) for side in size]
    levels = [tuple(F.interpolate(x, small, mode="bilinear", antialias=True) for x in (first, second))]
    while min(levels[-1][0].shape[2:]) >= 2 * COARSEST:
        half = [side // 2 for side in levels[-1][0].shape[2:]]
        levels.append(tuple(F.interpolate(x, half, mode="bilinear", antialias=True) for x in levels[-1]))
    levels = [tuple(map(_normalise, pair)) for pair in levels]
    flow = _common_shift(*levels[0])
    for pair in reversed(levels):
        flow = _refine(*pair, resize_flow(flow, pair[0].shape[2:]))
    flow = _let_stand(*levels[0], flow)
    return resize_flow(flow, size)


def resize_flow(flow: Tensor, size) -> Tensor:
    """Resize a flow (1, 2, h, w) to another `size` (rows, columns), its lengths with it."""
    rows, columns = (new / old for new, old in zip(size, flow.shape[2:]))
    if rows == columns == 1:
        return flow
    return F.interpolate(flow, tuple(size), mode="bilinear") * flow.new_tensor([columns, rows])[:, None, None]


def targets(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the column and the row, (1, H, W), that each pixel points at."""
    rows, columns = (torch.arange(n, device=flow.device, dtype=flow.dtype) for n in flow.shape[2:])
    return columns + flow[:, 0], rows[:, None] + flow[:, 1]


def warp(picture: Tensor, flow: Tensor, mode: str = "bilinear", beyond: str = "border") -> Tensor:
    """Read a picture (1, C, H, W) at p + flow(p).

    mode: of interpolation, see torch's `grid_sample`.
    beyond: what there is beyond the frame, its `padding_mode`.
    """
    grid = torch.stack(targets(flow), -1)
    size = grid.new_tensor([picture.shape[3], picture.shape[2]])
    return F.grid_sample(picture, (2 * grid + 1) / size - 1, mode, beyond, align_corners=False)


def find_matched(forward: Tensor, backward: Tensor) -> Tensor:
    """Mark the pixels that stay in the frame and that `backward` leads home again: bool (1, 1, H, W)."""
    home = warp(backward, forward)
    miss, length = (forward + home).square().sum(1), forward.square().sum(1) + home.square().sum(1)
    return _inside(forward) & (miss <= 0.01 * length + 0.5)[:, None]


def _inside(flow: Tensor) -> Tensor:
    columns, rows = targets(flow)
    height, width = flow.shape[2:]
    # Half a thousandth of a pixel: rounding shall not put a still border outside.
    near = 5e-4
    return ((columns >= -near) & (columns <= width - 1 + near) & (rows >= -near) & (rows <= height - 1 + near))[:, None]


def _mean_around(x: Tensor, half: int) -> Tensor:
    """Take the mean over windows of 2 half + 1, cut at the frame's border."""
    for window, padding in (((2 * half + 1, 1), (half, 0)), ((1, 2 * half + 1), (0, half))):
        x = F.avg_pool2d(x, window, 1, padding, count_include_pad=False)
    return x


def _normalise(picture: Tensor) -> Tensor:
    half = min(AROUND, max(1, min(picture.shape[2:]) // 2))
    away = picture - _mean_around(picture, half)
    flat = FLAT**2 + (NOISY * estimate_noise(picture)) ** 2
    return away / (_mean_around(away.square(), half) + flat).sqrt()


def estimate_noise(picture: Tensor) -> Tensor:
    """Estimate the standard deviation, (), of the noise in a picture (1, 1, H, W); 0 on less than 3 x 3 pixels."""
    if min(picture.shape[2:]) < 3:
        return picture.new_zeros(())
    # What edges and slopes leave out: the difference of two Laplacians. Its weights' squares sum up to 6 x 6.
    weights = picture.new_tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    return F.conv2d(picture, weights[None, None]).abs().median() / (6 * MEDIAN_OF_NORMAL)


def _common_shift(first: Tensor, second: Tensor) -> Tensor:
    """Find one shift for all, (1, 2, H, W): at the peak of the phase correlation, or zero if that explains no more."""
    height, width = first.shape[2:]
    window = torch.hann_window(height, False).outer(torch.hann_window(width, False)).to(first)
    a, b = (torch.fft.rfft2(x * window) for x in (first, second))
    cross = a.conj() * b
    peak = torch.fft.irfft2(cross / (cross.abs() + 1e-9), (height, width)).flatten().argmax().item()
    row, column = divmod(peak, width)
    shift = [column - width * (column > width // 2), row - height * (row > height // 2)]
    none = first.new_zeros(1, 2, height, width)
    guess = none + none.new_tensor(shift)[:, None, None]
    return guess if _difference(first, second, guess) < BETTER * _difference(first, second, none) else none


def _difference(first: Tensor, second: Tensor, flow: Tensor) -> float:
    """Measure the mean absolute difference where the flow stays in the frame."""
    inside = _inside(flow)
    return ((warp(second, flow) - first).abs() * inside).sum().item() / max(1, inside.sum().item())


def _refine(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """Take Lucas-Kanade steps: least squares over a window around each pixel, damped where the gradients are small."""
    for _ in range(ROUNDS):
        moved = warp(second, flow)
        across, down = _gradients((moved + first) / 2)
        missing, weight = first - moved, _inside(flow).to(flow)
        products = (across * across, down * down, across * down, across * missing, down * missing)
        xx, yy, xy, xt, yt = _mean_around(weight * torch.cat(products, 1), WINDOW).split(1, 1)
        xx, yy = xx + DAMPING, yy + DAMPING
        step = torch.cat([yy * xt - xy * yt, xx * yt - xy * xt], 1) / (xx * yy - xy * xy)
        flow = _median(flow + step.clamp(-1, 1))
    return flow


def _let_stand(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """Take no motion where that explains far more: a ground too fine for the coarse levels goes where a thing goes.

    A thing that changes its look goes anywhere there, and the finest level does not bring the ground back.
    """
    none = torch.zeros_like(flow)
    moved, still = (_mean_around((warp(second, way) - first).abs(), WINDOW) for way in (flow, none))
    return torch.where(still < STANDS * moved, none, flow)


def _gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Take central differences along columns and rows, one-sided on the border."""
    wide = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    return (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2, (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2


def _median(flow: Tensor) -> Tensor:
    """Take the median over 3 x 3: single wrong vectors go, edges of the motion stay.

    Of three sorted rows it is the median of the largest low, the median middle and the smallest high.
    """
    wide = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    low, middle, high = _sort(wide[..., :-2], wide[..., 1:-1], wide[..., 2:])
    (low, middle, high) = (_sort(x[..., :-2, :], x[..., 1:-1, :], x[..., 2:, :]) for x in (low, middle, high))
    return _sort(low[2], middle[1], high[0])[1]


def _sort(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort three pictures at every pixel."""
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    b, c = torch.minimum(b, c), torch.maximum(b, c)
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    return a, b, c
