"""What each window of a long clip is given of a prompt's conditions.

A class is one way to cut a condition, CONDITIONS says which way goes with which key of the host's models
(comfy/model_base.py, `extra_conds`). Where a family uses a key in another way, or has one of its own, its row says so
(`Family.conditions`). A test reads the host's source: every key of a known video model must be found.

Each `cut(value, frames, total)` takes the condition of the whole clip, the latent frames that the window has, and how
many the clip has. It returns the window's condition: `value` itself where nothing is cut, None where it has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# The host cuts it itself, by what else it knows of the window (guide frames, sound).
HOST = "host"


@dataclass(frozen=True)
class Whole:
    """Is the same in every window: text, references, numbers."""

    def cut(self, value, frames: list[int], total: int):
        return value


@dataclass(frozen=True)
class Frames:
    """Goes along with the frames.

    axis: its axis of time. An axis of length 1 holds for all frames.
    per: entries for each latent frame; 0: as many as the lengths say.
    offset: how many latent frames at the begin of the clip have no entry.
    """

    axis: int = 2
    per: int = 0
    offset: int = 0

    def cut(self, value: torch.Tensor, frames: list[int], total: int) -> torch.Tensor | None:
        count = value.shape[self.axis]
        if count == 1:
            return value
        per = self.per or count / (total - self.offset)
        spans = [(round((frame - self.offset) * per), round((frame - self.offset + 1) * per)) for frame in frames]
        at = [entry for first, end in spans for entry in range(max(0, first), min(end, count))]
        return value.index_select(self.axis, torch.tensor(at, device=value.device)) if at else None


@dataclass(frozen=True)
class Start:
    """Lies over the first frames of the clip, as many as it has; a window that begins behind them has none of it.

    axis: its axis of time.
    """

    axis: int = 2

    def cut(self, value: torch.Tensor, frames: list[int], total: int) -> torch.Tensor | None:
        left = value.shape[self.axis] - frames[0]
        return value.narrow(self.axis, frames[0], left) if left > 0 else None


@dataclass(frozen=True)
class First:
    """Says something of the clip's first frame, or of what was before it: only the first window has it."""

    def cut(self, value, frames: list[int], total: int):
        return value if frames[0] == 0 and frames == list(range(len(frames))) else None


@dataclass(frozen=True)
class Padded:
    """Says something of references, then has an entry for each frame that says nothing: as long as the window needs.

    axis: its axis of references and time.
    """

    axis: int = 2

    def cut(self, value: torch.Tensor, frames: list[int], total: int) -> torch.Tensor:
        return value.narrow(self.axis, 0, max(0, value.shape[self.axis] - total) + len(frames))


@dataclass(frozen=True)
class Each:
    """Is a list: what is as long as the clip goes along with its frames, references stay.

    axis: the axis of time of its entries.
    """

    axis: int = 2

    def cut(self, value: list, frames: list[int], total: int) -> list:
        return [Frames(self.axis).cut(one, frames, total) if self._long(one, total) else one for one in value]

    def _long(self, one, total: int) -> bool:
        return one.ndim > self.axis and one.shape[self.axis] == total


@dataclass(frozen=True)
class Heard:
    """Goes along with the sound: the entries that last as long as the window's frames.

    axis: its axis of time.
    sizes: pictures in each latent frame, over and over.
    """

    axis: int
    sizes: tuple[int, ...]

    def cut(self, value: torch.Tensor, frames: list[int], total: int) -> torch.Tensor:
        count, whole = value.shape[self.axis], pictures_before(total, self.sizes)
        edges = [round(pictures_before(at, self.sizes) * count / whole) for at in range(total + 1)]
        at = dict.fromkeys(entry for frame in frames for entry in range(edges[frame], edges[frame + 1]))
        return value.index_select(self.axis, torch.tensor(list(at), device=value.device))


@dataclass(frozen=True)
class Laid:
    """Is a dictionary about the whole clip (MiniMax-H3's): references are for every window, pictures at a place of the
    clip for the windows that have the place. Its layout is of the whole clip's size: the model makes one of the
    window's own, and goes by the old one not to take two prompts at once.

    sizes: pictures in each latent frame, over and over.
    """

    sizes: tuple[int, ...]

    def cut(self, value: dict, frames: list[int], total: int) -> dict:
        keyframes = value.get("keyframes")
        if not keyframes:
            return value
        first = pictures_before(frames[0], self.sizes)
        pictures = sum(self.sizes[frame % len(self.sizes)] for frame in frames)
        kept = [
            {**one, "resolved_frame_index": one["resolved_frame_index"] - first}
            for one in keyframes
            if first <= one["resolved_frame_index"] < first + pictures
        ]
        made = {**value, "keyframes": kept}
        if "frame_count" in value:
            made["frame_count"] = pictures
        # What the model is given of all keyframes and references, in their order.
        for given, own in (("cond_video_latents", "latent"), ("cond_audio_latents", "audio_latent")):
            gone = {id(one.get(own)) for one in keyframes} - {id(one.get(own)) for one in kept}
            if given in value:
                made[given] = [latent for latent in value[given] if id(latent) not in gone]
        return made


def pictures_before(frame: int, sizes: tuple[int, ...]) -> int:
    """Count the pictures before a latent frame; sizes as of Laid."""
    rounds, rest = divmod(frame, len(sizes))
    return rounds * sum(sizes) + sum(sizes[:rest])


@dataclass(frozen=True)
class Refused:
    """Belongs to the whole clip; raises ValueError.

    what: a clause that says so.
    """

    what: str

    def cut(self, value, frames: list[int], total: int):
        raise ValueError(f"positive: {self.what} and cannot be cut into windows. Sample a clip that fits one window.")


Cut = Whole | Frames | Start | First | Padded | Each | Heard | Laid | Refused

TEXT = (
    "c_crossattn", "crossattn_controlnet", "attention_mask", "num_tokens", "txt_byt5", "t5xxl_ids", "t5xxl_weights",
    "context_pose",
)  # fmt: skip
IMAGES = (
    "clip_fea",
    "clip_fea_ref",
    "clip_fea_pose",
    "reference_latent",
    "ref_latent",
    "ref_latents",
    "time_dim_concat",
)
NUMBERS = (
    "y", "guidance", "frame_rate", "fps", "ofs", "vace_strength", "ref_mask_flag", "audio_inject_scale",
    "ref_latents_method", "disable_time_r", "pose_strength", "reference_strength", "ref_audio",
)  # fmt: skip
HOSTS = (
    "latent_shapes", "keyframe_idxs", "guide_attention_entries", "denoise_mask", "audio_denoise_mask",
    "num_video_frames", "time_context",
)  # fmt: skip
CONDITIONS: dict[str, Cut | str] = {
    **dict.fromkeys((*TEXT, *IMAGES, *NUMBERS), Whole()),
    **dict.fromkeys(HOSTS, HOST),
    # Start and end images, control videos: frames of the clip, beside its noise.
    "c_concat": Frames(),
    "camera_conditions": Frames(),
    "control_video": Frames(),
    "vace_context": Frames(3),
    "pose_latents": Frames(),
    "sam_latents": Frames(),
    "condition": Frames(),
    "context_latents": Each(),
    "audio_embed": Frames(1),
    "face_pixel_values": Frames(per=4, offset=1),
    "ref_mask_latents": Padded(),
    "time_dim_replace": Start(),
    "guiding_frame_index": First(),
    "reference_motion": First(),
}


def is_timelike(value, total: int) -> bool:
    """Tell whether an axis of `value` may be the time of a clip of `total` latent frames.

    value: a condition; only a tensor can. Its axis may have an entry for each latent frame, several, or one for each
        picture.
    """
    if not torch.is_tensor(value) or total < 3:
        return False
    sizes = [size for size in value.shape if size >= total - 1]
    return any(size % total == 0 or size == total - 1 or (size - 1) % (total - 1) == 0 for size in sizes)
