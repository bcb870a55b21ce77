"""OpenCV's optical flow where OpenCV can be imported: closer to the truth than our own, which stands in for it else.

Source: T. Kroeger et al., "Fast optical flow using dense inverse search", arXiv:1603.03590. OpenCV is no requirement.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import torch
from torch import Tensor

from ..core.error_handling import error_message
from ..core.reason import Reason
from .flow import estimate_flow

# Smaller frames are refused by OpenCV, or answered with NaN.
SMALLEST = 16
MISSING = Reason("OpenCV is not installed")


class FlowEstimator:
    """Finds the flow between frames of one clip, and counts where OpenCV did not.

    searches: for a flow, in frames large enough for OpenCV.
    failures: how many of them OpenCV failed in, for each reason.
    """

    def __init__(self):
        self.searches, self.failures = 0, Counter()

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Find each pixel of `first` in `second`, see `estimate_flow`."""
        if min(first.shape[2:]) < SMALLEST or isinstance(load(), Reason):
            return estimate_flow(first, second)
        self.searches += 1
        try:
            return search(load(), first, second)
        except Exception as error:  # a foreign library: a measure must not end for it
            self.failures[error_message(error)] += 1
        return estimate_flow(first, second)

    @property
    def name(self) -> str:
        """Name whose flow it is."""
        return "OpenCV DIS" if self.searches > self.failures.total() else "Lucas-Kanade"

    @property
    def notes(self) -> list[str]:
        """Say why OpenCV did not answer, where it should have."""
        if isinstance(load(), Reason) and load() != MISSING:
            return [f"{load()}: the flow is this pack's own."]
        return [
            f"OpenCV failed in {count} of {self.searches} searches for the flow ({reason}): those are this pack's own."
            for reason, count in self.failures.items()
        ]


@cache
def load():
    """Import OpenCV with the flow, or give the reason why not."""
    try:
        import cv2

        cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return cv2
    except ModuleNotFoundError as error:
        return MISSING if error.name == "cv2" else Reason(f"OpenCV cannot be imported ({error_message(error)})")
    except Exception as error:  # a build for another numpy raises anything
        return Reason(f"OpenCV cannot be imported ({error_message(error)})")


def search(cv2, first: Tensor, second: Tensor) -> Tensor:
    """Find the flow (1, 2, H, W) from `first` to `second`, both luma (1, 1, H, W), by dense inverse search.

    cv2: the library.
    Raises ValueError for a flow that is not finite or of another size, and whatever OpenCV raises.
    """
    # Of 8 bits, all are used: a dark clip has few.
    low, high = torch.aminmax(torch.cat([first, second]))
    scale = 255 / (high - low).clamp(min=1e-6)
    eight = [((x - low) * scale).round().byte()[0, 0].cpu().numpy() for x in (first, second)]
    found = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*eight, None)
    flow = torch.as_tensor(found).movedim(-1, 0)[None].to(first)
    if flow.shape[2:] != first.shape[2:] or not torch.isfinite(flow).all():
        raise ValueError("its flow is not finite, or of another size")
    return flow
