"""How strongly tokens attend: temperature, and emphasis of attention between frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from ..core.precision import clamp_finite_, upcast
from ..core.reason import Reason
from ..core.site import PEERS
from ..core.tensor_layout import expand_kv
from ..core.tokens import BOTH, VideoSpan

# What reports call the ties between frames.
CROSS_FRAME = "cross-frame emphasis"
# What is held at once of q, k and the scores, (places x heads x T x (2 D + T)), in numbers.
SCRATCH = 1 << 24


@dataclass(frozen=True)
class Strength:
    """How strongly the tokens of a call attend.

    temperature: scores are divided by it: below 1 attention is sharper, above 1 flatter, 1 changes nothing.
    cross_frame: Enhance-A-Video's weight (https://arxiv.org/abs/2502.07508): the output of self-attention is multiplied
        by max(1, CFI * (T + cross_frame)), where CFI is the mean attention that a place pays to itself in other frames
        and T the number of latent frames. 0 is off. Changes only the video's own tokens, where all are in the call.
    """

    temperature: float = 1.0
    cross_frame: float = 0.0

    def refuses(self, video_span: VideoSpan | Reason) -> Reason | None:
        """Say why the ties between frames stay as they are in a call whose video is known; None: they do not."""
        if self.cross_frame == 0.0 or isinstance(video_span, Reason) or video_span.side != BOTH:
            return None
        found = video_span.queries.stop - video_span.queries.start
        return Reason("a part of the video's queries") if 0 < found < video_span.stop - video_span.start else None

    def sharpen(self, q: torch.Tensor) -> torch.Tensor:
        """Divide q by the temperature: the same as dividing every score by it, for any kernel."""
        return q if self.temperature == 1.0 else clamp_finite_(q / self.temperature)

    def attend(self, run: Callable, video_span: VideoSpan | Reason, call) -> torch.Tensor:
        """Answer a call with sharper or flatter attention and stronger ties between frames.

        run: answers one call, as the host wants it.
        video_span: of the call, or why it is not known.
        call: an AttentionCall of routing.
        """
        call = call.open()
        call = call.with_tensors(self.sharpen(call.q), call.k, call.v)
        return self.amplify(run(call), video_span, call)

    def amplify(self, out: torch.Tensor, video_span: VideoSpan | Reason, call) -> torch.Tensor:
        """Strengthen the ties between frames in what a call gave.

        out: (B, L, H*D), or (B, H, L, D) with the call's split_out.
        video_span: of the call, or why it is not known.
        call: open, its q already sharpened.
        """
        if self.cross_frame == 0.0 or isinstance(video_span, Reason) or video_span.side != BOTH:
            return out
        if video_span.grid[0] < 2:
            return out
        q, k, _ = call.to_heads()
        k, _ = expand_kv(k, k, q.shape[1])
        video, keys = video_span.queries, slice(video_span.start, video_span.stop)
        if video.stop - video.start < keys.stop - keys.start:
            return out
        amount = cross_frame_intensity(q[:, :, video], k[:, :, keys], video_span.grid, call.kw.get("scale"))
        peers = call.options.get(PEERS)
        if peers is not None:
            amount = peers.mean(amount, q.shape[1])
        gain = (amount * (video_span.grid[0] + self.cross_frame)).clamp(min=1.0).view(-1, *[1] * (out.ndim - 1))
        out = out.clone()
        tokens = out[:, :, video] if call.split_out else out[:, video]
        # In 16 bit times float32: rounded once.
        clamp_finite_(tokens.mul_(gain))
        return out


def combined(strengths: Iterable[Strength]) -> Strength | None:
    """Join all that cover a call: of each setting the last that changes something; None where none does."""
    temperature, cross_frame = 1.0, 0.0
    for each in strengths:
        temperature = each.temperature if each.temperature != 1.0 else temperature
        cross_frame = each.cross_frame if each.cross_frame != 0.0 else cross_frame
    found = Strength(temperature, cross_frame)
    return None if found == Strength() else found


def cross_frame_intensity(q, k, grid, scale: float | None = None) -> torch.Tensor:
    """Return (B,) means of the off-diagonal entries of softmax over time, each place with itself in all frames.

    q: (B, H, T*Y*X, D) in raster order, T >= 2.
    k: as q.
    grid: (T, Y, X).
    scale: of the scores; None: 1 / sqrt(D).
    """
    frames, places = grid[0], grid[1] * grid[2]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    per_place = q.shape[0] * q.shape[1] * frames * (frames + 2 * q.shape[-1])
    step = max(1, SCRATCH // per_place)
    q, k = (t.unflatten(2, (frames, places)).transpose(2, 3) for t in (q, k))
    diagonal = torch.zeros(q.shape[0], dtype=torch.float32, device=q.device)
    for begin in range(0, places, step):
        some_q, some_k = upcast(q[:, :, begin : begin + step], k[:, :, begin : begin + step])
        own = (some_q @ some_k.transpose(-2, -1) * scale).softmax(-1).diagonal(dim1=-2, dim2=-1)
        diagonal += own.sum(dim=(1, 2, 3))
    rows = q.shape[1] * places * frames
    # Every row adds up to 1: what is not on the diagonal is off it.
    return (rows - diagonal) / (rows * (frames - 1))
