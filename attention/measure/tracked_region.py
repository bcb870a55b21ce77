"""What a region of the frame looks like, as a vector that can be compared over time.

The region is given for each frame, or moves and grows as the optical flow inside it does: Z. Kalal et al.,
"Forward-backward error: automatic detection of tracking failures", ICPR 2010 (the Median Flow tracker). Its look is a
colour histogram, square-rooted so that the cosine of two is their Bhattacharyya coefficient, beside a SIFT descriptor
of its bounding box: D. Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004. Comparing the
first frame with every other one is the subject consistency of VBench, arXiv:2311.17982.

A picture is (1, 3, H, W) in 0..1, a region (1, 1, H, W) in 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .flow import targets, warp
from .frames import Unmeasurable, to_luma

COLOUR_BINS, COLOUR_SIZE, SIFT_SIZE = 6, 48, 41
# A region with less than this share of its first pixels is gone; so much may it grow from one frame to the next.
LEAST_SHARE, GROWTH = 0.02, 0.2

Encoder = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Track:
    """Where a region is in the present frame, and how far its look is from that where it was first seen.

    region: in the present frame, (1, 1, H, W).
    scale: pixel p of the first frame, (column, row), is now at scale * p + offset.
    offset: (2,), in pixels.
    pixels: of the region where it was first seen.
    first: features of it there, (D,).
    drift: see `distance`; NaN in that frame and wherever next to nothing of the region is left.
    """

    region: Tensor | None = None
    scale: float = 1.0
    offset: Tensor | None = None
    pixels: int = 0
    first: Tensor | None = None
    drift: float = math.nan


def prepare_masks(mask: Tensor | None, frames: Tensor) -> tuple[Tensor | None, list[str]]:
    """Check what a user marked.

    mask: (T or 1, h, w) or (h, w), 0 to 1, or None.
    frames: the clip, (T, H, W, C).
    Returns masks (T or 1, h, w), None for the whole frame, and sentences about what was made of them.
    Raises `Unmeasurable` for NaN and Inf.
    """
    if mask is None:
        return None, []
    masks = mask[None] if mask.ndim == 2 else mask
    if not torch.isfinite(masks).all():
        raise Unmeasurable("The mask holds NaN or Inf.")
    notes = []
    if len(masks) not in (1, len(frames)):
        masks, notes = masks[:1], [f"{len(masks)} masks for {len(frames)} frames: the first one is followed."]
    if not (masks > 0.5).any():
        return None, [*notes, "The mask is empty: identity is that of the whole frame."]
    return masks, notes


def locate(track: Track, masks: Tensor | None, index: int, motion, picture: Tensor) -> Track:
    """Find the region in a frame.

    track: as it was in the frame before.
    masks: see `prepare_masks`.
    index: of this frame.
    picture: of this frame.
    motion: the `Motion` to this frame, None for the first.
    """
    if masks is None:
        return replace(track, region=torch.ones_like(picture[:, :1]))
    given = masks[index % len(masks)][None, None].to(picture)
    given = F.interpolate(given, picture.shape[2:], mode="bilinear")
    if len(masks) > 1 or motion is None:
        return replace(track, region=given, offset=picture.new_zeros(2))
    track = follow(track, motion)
    here = torch.stack(targets(torch.zeros_like(motion.forward)), 1)
    back = (here - track.offset[:, None, None]) / track.scale - here
    return replace(track, region=warp(given, back, beyond="zeros"))


def follow(track: Track, motion) -> Track:
    """Move a track by the median of the flow inside its region, grow it by the flow's least squares divergence.

    The region itself stays behind: `locate` draws it anew from the first.
    """
    inside = (track.region > 0.5) & motion.matched
    if not inside.any():
        return track
    flow, here = (
        motion.forward[0][:, inside[0, 0]],
        torch.cat(targets(torch.zeros_like(motion.forward)))[:, inside[0, 0]],
    )
    centre, move = here.mean(1), flow.median(1).values
    arms = here - centre[:, None]
    grow = ((arms * flow).sum() / arms.square().sum().clamp(min=1.0)).clamp(-GROWTH, GROWTH)
    offset = (1 + grow) * track.offset + move - grow * centre
    return replace(track, scale=track.scale * (1 + grow.item()), offset=offset)


def measure_drift(track: Track, picture: Tensor, encode: Encoder) -> Track:
    """Compare the region's look in this frame with that in the first.

    encode: gives features, see `features_of`.
    """
    pixels = int((track.region > 0.5).sum())
    if pixels == 0 or pixels < LEAST_SHARE * track.pixels:
        return replace(track, drift=math.nan)
    features = encode(cut_out(picture, track.region).movedim(1, -1)).flatten()
    if track.first is None:
        return replace(track, pixels=pixels, first=features)
    return replace(track, drift=distance(track.first, features))


def cut_out(picture: Tensor, region: Tensor) -> Tensor:
    """Cut out the bounding box of a region that is not lost, (1, 3, h, w); around the region it has its mean colour."""
    inside = region > 0.5
    rows, columns = (inside[0, 0].any(dim).nonzero() for dim in (1, 0))
    box = (..., slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    weight = inside[box].to(picture)
    mean = (picture[box] * weight).sum((2, 3), keepdim=True) / weight.sum()
    return torch.lerp(mean, picture[box], weight)


def features_of(box: Tensor) -> Tensor:
    """Describe a picture (1, h, w, 3) by features (D,), of length 1 and nowhere negative."""
    from kornia.feature import SIFTDescriptor  # ComfyUI requires it, but calls it not essential

    box = box.movedim(-1, 1)
    pixels = F.interpolate(box, (COLOUR_SIZE, COLOUR_SIZE), mode="bilinear", antialias=True).clamp(0, 1)
    patch = F.interpolate(to_luma(box), (SIFT_SIZE, SIFT_SIZE), mode="bilinear", antialias=True)
    # Of a flat patch the descriptor is all zero; a little everywhere makes two flat patches alike.
    edges = SIFTDescriptor(SIFT_SIZE, rootsift=False)(patch.cpu())[0].to(box) + 1e-3
    colours = _count_colours(pixels.flatten(2)[0]).sqrt()
    return torch.cat([F.normalize(colours, dim=0), F.normalize(edges, dim=0)]) / 2**0.5


def distance(first: Tensor, now: Tensor) -> float:
    """Compute one minus the cosine of two features (D,): 0 the same, 1 nothing in common."""
    return 1.0 - F.cosine_similarity(first.cpu().double(), now.cpu().double(), dim=0).clamp(-1, 1).item()


def _count_colours(pixels: Tensor) -> Tensor:
    """Make the histogram (COLOUR_BINS^3,) of colours (3, N) in 0..1, each shared among the bins around it."""
    centres = torch.arange(COLOUR_BINS, device=pixels.device)[:, None]
    red, green, blue = ((1 - (plane * (COLOUR_BINS - 1) - centres).abs()).clamp(min=0) for plane in pixels)
    return torch.einsum("an,bn,cn->abc", red, green, blue).flatten() / pixels.shape[1]
