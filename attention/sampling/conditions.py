"""What each window of a long clip is given of a prompt's conditions.

A row of the tables is how one condition is cut; the keys are those of the host's models (model_base.py, `extra_conds`),
where other models use a key in another way the second table comes first. A test reads the host's source: every key of a
video model stands here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# The host cuts it itself, by what else it knows of the window (guide frames, sound).
HOST = "host"


@dataclass(frozen=True)
class Whole:
    """The same in every window: text, references, numbers."""

    def of(self, value, frames: list[int], total: int):
        return value


@dataclass(frozen=True)
class Frames:
    """Goes along with the frames. axis: its time; per: how many entries a latent frame has, 0: as many as there are, by
    ratio; offset: that many frames at the begin have none. An axis of 1 holds for all frames."""

    axis: int = 2
    per: int = 0
    offset: int = 0

    def of(self, value: torch.Tensor, frames: list[int], total: int):
        count = value.shape[self.axis]
        if count == 1:
            return value
        per = self.per or count / (total - self.offset)
        spans = [(round((frame - self.offset) * per), round((frame - self.offset + 1) * per)) for frame in frames]
        at = [entry for first, end in spans for entry in range(max(0, first), min(end, count))]
        return value.index_select(self.axis, torch.tensor(at, device=value.device)) if at else None


@dataclass(frozen=True)
class Start:
    """Lies over the first frames of the clip, as many as it has: none of it where a window begins later."""

    axis: int = 2

    def of(self, value: torch.Tensor, frames: list[int], total: int):
        left = value.shape[self.axis] - frames[0]
        return value.narrow(self.axis, frames[0], left) if left > 0 else None


@dataclass(frozen=True)
class First:
    """Says something of the clip's first frame, or of what was before it: only the first window has it."""

    def of(self, value, frames: list[int], total: int):
        return value if frames[0] == 0 and frames == list(range(len(frames))) else None


@dataclass(frozen=True)
class Padded:
    """Something of references, then an entry for each frame that says nothing: as long as the window needs."""

    axis: int = 2

    def of(self, value: torch.Tensor, frames: list[int], total: int):
        return value.narrow(self.axis, 0, max(0, value.shape[self.axis] - total) + len(frames))


@dataclass(frozen=True)
class Each:
    """A list: what is as long as the clip goes along with its frames, references stay."""

    axis: int = 2

    def of(self, value: list, frames: list[int], total: int):
        return [Frames(self.axis).of(one, frames, total) if self._long(one, total) else one for one in value]

    def _long(self, one, total: int) -> bool:
        return one.ndim > self.axis and one.shape[self.axis] == total


@dataclass(frozen=True)
class Packed:
    """MiniMax-H3's payload, laid out for the whole clip: only what says nothing of its frames can be in a window."""

    def of(self, value: dict, frames: list[int], total: int):
        bound = [name for name in ("layout", "keyframes", "refs") if value.get(name) is not None]
        if bound:
            raise ValueError(
                f"positive: this model's {' and '.join(bound)} belong to the whole clip and cannot be cut into "
                "windows. Sample a clip that fits one window."
            )
        return value


@dataclass(frozen=True)
class Refused:
    """Belongs to the whole clip. what: a clause that says so."""

    what: str

    def of(self, value, frames: list[int], total: int):
        raise ValueError(f"positive: {self.what} and cannot be cut into windows. Sample a clip that fits one window.")


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
CONDITIONS = {
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
    "minimax_payload": Packed(),
    "generated_keyframes": Refused("its generated keyframes are places of the whole clip's latent"),
}
# By the diffusion model's class.
OF_MODEL = {
    # (1, layers, dim, 4 for each latent frame).
    "WanModel_S2V": {"audio_embed": Frames(3, per=4)},
    # Frame 0 is the reference, the pose begins behind it and may end before the clip.
    "AnimateWanModel": {"pose_latents": Frames(per=1, offset=1)},
    "WanAnimate2Model": {"pose_latents": Frames(per=1, offset=1)},
}
# Models whose first latent frame is the reference image: every window needs it in front.
REFERENCE_FIRST = ("AnimateWanModel", "WanAnimate2Model")


def cut_of(model: str, key: str):
    """How the condition `key` of the diffusion model's class `model` is cut; None for one that stands nowhere."""
    return OF_MODEL.get(model, {}).get(key, CONDITIONS.get(key))


def is_timelike(value, total: int) -> bool:
    """Whether an axis of the tensor `value` may be the time of a clip of `total` latent frames: as many, several for
    each, or pictures."""
    if not torch.is_tensor(value) or total < 3:
        return False
    sizes = [size for size in value.shape if size >= total - 1]
    return any(size % total == 0 or size == total - 1 or (size - 1) % (total - 1) == 0 for size in sizes)


def reference_frames(frames: torch.Tensor, mask: torch.Tensor | None) -> int:
    """Latent frames at the begin of VACE's control (B, 32, T, Y, X) that are no frames of the clip but references.

    mask: (B, 64, T, Y, X), 0 where the picture is given. A reference's second half, what is to be changed, is blank:
    one number a channel. A start image's is an encoded grey picture, never quite even.
    """
    if mask is None or mask.shape[2] != frames.shape[2]:
        return 0
    given = mask.amax(dim=(0, 1, 3, 4)) == 0
    half = frames[:, frames.shape[1] // 2 :]
    blank = (half.amax(dim=(3, 4)) - half.amin(dim=(3, 4))).amax(dim=(0, 1)) == 0
    found = (given & blank).tolist()
    return found.index(False) if False in found else 0
