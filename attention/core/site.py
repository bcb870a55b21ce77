"""Where an attention call comes from."""

from __future__ import annotations

from dataclasses import dataclass

from .identity import KeepsIdentity

# Key of an AttentionSite in the host's transformer_options. Dots keep it apart from names that models take as keyword
# arguments.
SITE = "vattn.site"
# Key of a Caller there.
CALLER = "vattn.caller"
# Key there of who has the other heads of a call, see parallel.peers; not there where the call has them all.
PEERS = "vattn.peers"

# What a call attends from and to. SELF: the whole video (in joint models with the text in the same sequence);
# SPATIAL, TEMPORAL: inside each frame, along each place's frames; CROSS, IMAGE: video to text, to image tokens;
# AUDIO_*: as the name says, queries first: AUDIO_VIDEO is audio attending to video; TEXT: a refiner of the prompt;
# POSE_*: a driving video's own branch, beside the generation's, to itself and to its prompt.
SELF, SPATIAL, TEMPORAL = "self", "spatial", "temporal"
CROSS, IMAGE = "cross", "image"
AUDIO_SELF, AUDIO_CROSS, AUDIO_VIDEO, VIDEO_AUDIO = "audio self", "audio cross", "audio to video", "video to audio"
TEXT = "text"
POSE_SELF, POSE_CROSS = "pose self", "pose cross"
ROLES = (
    SELF, SPATIAL, TEMPORAL, CROSS, IMAGE, VIDEO_AUDIO, AUDIO_SELF, AUDIO_CROSS, AUDIO_VIDEO, TEXT, POSE_SELF,
    POSE_CROSS,
)  # fmt: skip
# A rule for the left side covers the right: users think of two kinds first.
COVERS = {SELF: (SELF, SPATIAL, TEMPORAL), CROSS: (CROSS, IMAGE)}


@dataclass(frozen=True, eq=False)
class AttentionSite(KeepsIdentity):
    """Names one attention module of a model. Compared by identity: a site is made once, when the model loads.

    family: "Wan", or "" when the model is not one we know.
    role: one of ROLES. Without a known family it is guessed from the lengths (equal lengths: self); "" until then.
    block: index of the transformer block, None when unknown.
    own: the host's holder of the function that the model's file names for this module: `own.function`, None where it
        names none that runs here. None where the host has no such holder.
    roles: of a block's calls that no module announces, what they may be, the likeliest first; else empty.
    heads: of the module, 0 when unknown.
    """

    family: str
    role: str
    block: int | None = None
    own: object | None = None
    roles: tuple[str, ...] = ()
    heads: int = 0


class SiteTag(KeepsIdentity):
    """Marks a module that makes attention calls.

    site: of the module.
    position: which positional argument its options are, None where they come by name.
    number: the site's place among the model's, as a tensor: torch.compile would make a graph for each number.
    watch: of the model; see inspect/site_watch.py.
    routed: how many calls had come to us when the module's began.
    heard: how many modules had been announced by then.
    after: tag of the calls that the block makes next, should no module announce them.
    inside: tags of the modules of a block.
    """

    def __init__(self, site: AttentionSite, position: int | None, number, watch=None):
        self.site, self.position, self.number, self.watch = site, position, number, watch
        self.routed = self.heard = 0
        self.after: SiteTag | None = None
        self.inside: tuple[SiteTag, ...] = ()


class Caller(KeepsIdentity):
    """Tells which SiteTag is calling, for code that torch.compile traced. One for each evaluation, so for one thread.

    A traced hook may not copy the options to add a site: the graph would look each of today's keys up, KeyError once
    one is gone.

    live: whether an evaluation is on; a cleared model keeps a Caller for the graphs that look it up.
    fresh: whether it was made for one evaluation alone.
    tag: of the module that is calling, None between modules.
    routed: attention calls that came to a router of ours.
    heard: modules that were announced.
    above: the Decision of a call that such a router has just passed on to another pack's override, which may ask a
        router below it.
    about: tells apart what model calls are about: prompts, context window, pass. One object for the same; None where
        that cannot be told, or nobody asks.
    """

    def __init__(self, live: bool = False, fresh: bool = False):
        self.live, self.fresh = live, fresh
        self.tag: SiteTag | None = None
        self.routed = self.heard = 0
        self.above = self.about = None


def site_of(options) -> AttentionSite | None:
    """Return the AttentionSite that was announced for a call, None when nobody did.

    options: the host's transformer_options of the call.
    """
    site = options.get(SITE)
    if site is None and (caller := options.get(CALLER)) is not None and caller.tag is not None:
        site = caller.tag.site
    return site


# Shape is all there is to go by when a family publishes nothing.
GUESSED = {SELF: AttentionSite("", SELF), CROSS: AttentionSite("", CROSS)}


def guess(q_len: int, kv_len: int) -> AttentionSite:
    """Return the site of a call whose role nobody announced: self-attention when both lengths agree.

    q_len: tokens that are queries.
    kv_len: tokens that are keys.
    """
    return GUESSED[SELF if q_len == kv_len else CROSS]
