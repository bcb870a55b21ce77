"""Where an attention call comes from."""

from __future__ import annotations

from dataclasses import dataclass

# Key of a Site in the host's transformer_options. Dots keep it apart from names that models take as keyword arguments.
SITE = "vattn.site"

# What a call attends from and to. SELF: the whole video (in joint models with the text in the same sequence);
# SPATIAL, TEMPORAL: inside each frame, along each place's frames; CROSS, IMAGE: video to text, to image tokens;
# AUDIO_*: as the name says, queries first: AUDIO_VIDEO is audio attending to video; TEXT: a refiner of the prompt.
SELF, SPATIAL, TEMPORAL = "self", "spatial", "temporal"
CROSS, IMAGE = "cross", "image"
AUDIO_SELF, AUDIO_CROSS, AUDIO_VIDEO, VIDEO_AUDIO = "audio self", "audio cross", "audio to video", "video to audio"
TEXT = "text"
ROLES = (SELF, SPATIAL, TEMPORAL, CROSS, IMAGE, VIDEO_AUDIO, AUDIO_SELF, AUDIO_CROSS, AUDIO_VIDEO, TEXT)
# A rule for the left side covers the right: users think of two kinds first.
COVERS = {SELF: (SELF, SPATIAL, TEMPORAL), CROSS: (CROSS, IMAGE)}


@dataclass(frozen=True, eq=False)
class Site:
    """One attention module of a model. Compared by identity: a site is made once, when the model loads.

    family: "Wan", or "" when the model is not one we know.
    role: one of ROLES. Without a known family it is guessed from the lengths (equal lengths: self).
    block: index of the transformer block, None when unknown.
    """

    family: str
    role: str
    block: int | None = None


# Shape is all there is to go by when a family publishes nothing.
GUESSED = {SELF: Site("", SELF), CROSS: Site("", CROSS)}


def guess(q_len: int, kv_len: int) -> Site:
    """The site of a call that nobody announced: self-attention when both lengths agree."""
    return GUESSED[SELF if q_len == kv_len else CROSS]
