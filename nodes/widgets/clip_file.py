"""A clip as a file of ComfyUI's temp folder that the page plays: several clips of one size in one picture, in step."""

from __future__ import annotations

import os
import random
from fractions import Fraction

import folder_paths
import torch
import torch.nn.functional as F

from ..runs.progress import Safely

# Longest side of a clip on the page, in pixels, and what a file's rows and columns are a multiple of: blocks of the
# codec, so that no clip bleeds into the other.
LONGEST, BLOCK = 1280, 16
# The page plays it faster or slower.
RATE = 24
# Near to what the eye can tell; a whole picture every so many frames, so that the page finds any of them at once.
QUALITY, WHOLE = "14", "8"


def save_clips(clips: list[torch.Tensor]) -> dict | None:
    """Saves clips one below the other in one video.

    clips: each (T, H, W, C) in 0 to 1, all of one size and length.
    Returns what the page needs, {filename, subfolder, type, width, height, offset, frames, rate}: `offset` rows lie
    between the first rows of two clips. None where the file cannot be made; the log says why.
    """
    height, width = _fitted(*clips[0].shape[1:3])
    offset, columns = (-(-side // BLOCK) * BLOCK for side in (height, width))
    folder, name = folder_paths.get_temp_directory(), f"video_attention_{random.getrandbits(40):010x}.mp4"

    def write() -> bool:
        os.makedirs(folder, exist_ok=True)
        frames = (_picture(clips, index, (height, width), (offset, columns)) for index in range(len(clips[0])))
        _encode(os.path.join(folder, name), frames, (offset * len(clips), columns))
        return True

    if not Safely("clips on the node")(write):
        return None
    where = {"filename": name, "subfolder": "", "type": "temp"}
    return {**where, "width": width, "height": height, "offset": offset, "frames": len(clips[0]), "rate": RATE}


def _fitted(height: int, width: int) -> tuple[int, int]:
    share = min(1.0, LONGEST / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def _picture(clips: list[torch.Tensor], index: int, size: tuple[int, int], room: tuple[int, int]):
    """Lays a frame of each clip into its room, the edges repeated: uint8 (rows, columns, 3)."""
    parts = []
    for clip in clips:
        frame = clip[index].detach().float().cpu().clamp(0, 1).movedim(-1, 0)[None]
        frame = frame[:, :3] if frame.shape[1] >= 3 else frame[:, :1].expand(-1, 3, -1, -1)
        if tuple(frame.shape[2:]) != size:
            frame = F.interpolate(frame, size, mode="bilinear", antialias=True, align_corners=False)
        parts.append(F.pad(frame, (0, room[1] - size[1], 0, room[0] - size[0]), mode="replicate"))
    whole = torch.cat(parts, 2)[0].movedim(0, -1)
    return (whole * 255).round().byte().contiguous().numpy()


def _encode(path: str, frames, size: tuple[int, int]) -> None:
    """Writes pictures (rows, columns, 3) as H.264, which every browser plays."""
    import av  # ComfyUI requires it

    with av.open(path, "w", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("h264", rate=Fraction(RATE))
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"crf": QUALITY, "preset": "veryfast", "g": WHOLE, "bf": "0"}
        # Browsers guess the colours of files that do not say it by their size.
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = 1
        context.color_range = 1
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            file.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)))
        file.mux(stream.encode(None))
