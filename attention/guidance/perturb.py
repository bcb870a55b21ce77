"""A weaker model, made from the model itself: self-attention without its scores, in a pass of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..core.geometry import Geometry
from ..core.identity import KeepsIdentity
from ..core.kernel import Kernel
from ..core.reason import Reason
from ..core.site import AUDIO_SELF, SPATIAL, TEMPORAL, AttentionSite
from ..core.tensor_layout import expand_kv
from ..core.tokens import VideoSpan
from ..core.torch_sdpa import sdpa

VALUES, SKIP = "values", "skip"
HOWS = (VALUES, SKIP)


@dataclass(frozen=True, eq=False)
class Perturbation(KeepsIdentity):
    """What one guidance does to the calls it names while its extra pass runs.

    Compared by identity: two nodes of one kind make two passes.

    name: as the report calls it.
    how: VALUES: every token keeps its own value (an identity in the place of the softmax); SKIP: zeros, so that the
        block's sum goes on without this attention but for the bias of its last projection.
    """

    name: str
    how: str = VALUES

    @property
    def label(self) -> str:
        """Return how reports call a call that it changed."""
        return f"{self.name}: {'values as they are' if self.how == VALUES else 'nothing'}"

    def kernel(self, site: AttentionSite, video_span: VideoSpan | Reason, geometry: Geometry) -> Kernel | Reason:
        """Return a backend's kernel for this call, or why it stays as it is. Text beside the video attends as ever."""
        if isinstance(video_span, VideoSpan):
            video, (first, last) = video_span.queries, video_span.part or (0, geometry.q_len)
        elif site.role in (AUDIO_SELF, SPATIAL, TEMPORAL):
            video, first, last = slice(0, geometry.q_len), 0, geometry.q_len  # nothing else is in these sequences
        else:
            return video_span
        if geometry.q_len != geometry.kv_len and not getattr(video_span, "part", None):
            return Reason(f"self-attention in parts ({geometry.q_len} x {geometry.kv_len} tokens)")

        def run(q, k, v, mask=None, scale=None):
            k, v = expand_kv(k, v, q.shape[1])
            out = v[:, :, first:last].clone() if self.how == VALUES else torch.zeros_like(q)
            for others in (slice(0, video.start), slice(video.stop, q.shape[2])):
                if others.start < others.stop:
                    rows = mask if mask is None or mask.shape[-2] == 1 else mask[..., others, :]
                    seen = sdpa(q[:, :, others], k, v, attn_mask=rows, scale=scale)
                    out[:, :, others] = seen
            return out

        return run
