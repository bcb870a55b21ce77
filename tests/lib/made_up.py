"""A model that no family of the pack knows, in attributes that no other model has, and what a row could say of it.

FULL says all that a row can say, BARE only what it must, REFUSING refuses in words of its own what can be refused.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny.case import Case, build

NAME, KIND = "Made up", "MadeUpModel"
HEADS, HEAD, AXES, TEXT = 2, 12, (4, 4, 4), 16
BLOCKS, CHANNELS, FRAMES = 4, 16, 5
NOTHING: dict = {}
# A condition of its own: two entries for each latent frame, along axis 1.
MOOD = "mood"
# As the host's nodes call the mask of a start image.
MASK = "concat_mask"


def described():
    """A row as in comfy.supported_models."""
    import comfy.conds
    import comfy.model_base
    import comfy.supported_models

    class MadeUp(comfy.model_base.BaseModel):
        def __init__(self, config, device=None):
            super().__init__(config, comfy.model_base.ModelType.FLOW, device=device, unet_model=MadeUpModel)

        def extra_conds(self, **given):
            out = super().extra_conds(**given)
            out["c_crossattn"] = comfy.conds.CONDRegular(given["cross_attn"])
            for name in (MOOD, MASK):
                if given.get(name) is not None:
                    out[name] = comfy.conds.CONDRegular(given[name])
            return out

    class Described(comfy.supported_models.WAN21_T2V):
        def get_model(self, state_dict, prefix="", device=None):
            return MadeUp(self, device=device)

    return Described


class Look(torch.nn.Module):
    """Attention of x to `source`."""

    def __init__(self, width, source, ops, kind):
        super().__init__()
        self.views, self.view = HEADS, HEAD
        self.ask, self.answer = ops.Linear(width, width, **kind), ops.Linear(source, 2 * width, **kind)
        self.tell = ops.Linear(width, width, **kind)

    def forward(self, x, source, turns=None, transformer_options=NOTHING):
        from comfy.ldm.flux.math import apply_rope
        from comfy.ldm.modules.attention import optimized_attention

        q, (k, v) = self.ask(x), self.answer(source).chunk(2, dim=-1)
        if turns is not None:
            q, k = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k))
            q, k = (t.transpose(1, 2).flatten(2) for t in apply_rope(q, k, turns))
        return self.tell(optimized_attention(q, k, v, heads=HEADS, transformer_options=transformer_options))


class Link(torch.nn.Module):
    """One block: the video looks at itself, then at the text, then each token goes on alone."""

    def __init__(self, width, ops, kind):
        super().__init__()
        self.itself, self.text = Look(width, width, ops, kind), Look(width, TEXT, ops, kind)
        self.alone, self.gossip = ops.Linear(width, width, **kind), ops.Linear(TEXT, width, **kind)

    def forward(self, x, text, turns, transformer_options=NOTHING):
        x = x + self.itself(x, x, turns, transformer_options=transformer_options)
        x = x + self.text(x, text, transformer_options=transformer_options)
        return x + self.alone(x) + self.gossip(text.mean(1, keepdim=True))


class MadeUpModel(torch.nn.Module):
    mood_matters = True

    def __init__(self, dtype=None, device=None, operations=torch.nn, **config):
        from comfy.ldm.flux.layers import EmbedND

        super().__init__()
        self.dtype, width, kind = dtype, HEADS * HEAD, {"dtype": dtype, "device": device}
        self.inward, self.outward = (
            operations.Linear(CHANNELS, width, **kind),
            operations.Linear(width, CHANNELS, **kind),
        )
        self.chain = torch.nn.ModuleList(Link(width, operations, kind) for _ in range(BLOCKS))
        self.turner = EmbedND(HEAD, 10000.0, list(AXES))

    def forward(self, x, timestep, context, transformer_options=NOTHING, mood=None, concat_mask=None, **more):
        size = x.shape[2:]
        axes = (torch.arange(n, device=x.device).float() for n in size)
        ids = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, 3)
        rows, turns = self.inward(x.flatten(2).transpose(1, 2)), self.turner(ids)
        if mood is not None and self.mood_matters:
            assert mood.shape[1] == 2 * size[0], f"{mood.shape[1]} moods for {size[0]} frames"
        for link in self.chain:
            rows = link(rows, context, turns, transformer_options=transformer_options)
        return self.outward(rows).transpose(1, 2).unflatten(2, size)


def sites(model):
    from attention.core.site import CROSS, SELF

    for index, link in enumerate(model.chain):
        yield link.itself, SELF, index
        yield link.text, CROSS, index


def shared(kind):
    """A TokenShare: a link gets (rows, text, turns), of which rows and turns have an entry for each token."""
    return kind(
        lists=("chain",),
        lengths=lambda args, kwargs: (args[0].shape[1], 0),
        enter=lambda own, args, kwargs: ((own.part(args[0], 1), *args[1:]), kwargs),
        tables=lambda own, args, kwargs: ((*args[:2], own.part(args[2], 2)), kwargs),
        leave=lambda own, x: own.whole(x, 1),
    )


def rows(families):
    """(FULL, BARE, REFUSING), of the pack's own package `families`."""
    from attention.core.site import CROSS, SELF

    spec, facts = families.spec, families.facts
    clips, frames = facts.always(facts.TrainedClips(9, 12.0)), families.conditions.Frames

    def tokens(model, x, inputs):
        return spec.Tokens(tuple(x.shape[2:])) if getattr(x, "ndim", 0) == 5 else spec.Tokens(None, unknown="no video")

    bare = spec.Family(NAME, (KIND,), (spec.Variant(NAME, (SELF, CROSS)),), sites, tokens)
    known = {
        "heads_of": lambda module: (module.views, module.view),
        "beside": "gossip",
        "keys_values": "^answer$",
        "scheduler": "karras",
        "clips": clips,
        "conditions": lambda class_name: {
            MOOD: frames(1, per=2),
            MASK: frames(),
        },
        "references": lambda model, options: options.get("made_up_references", 0),
        "start_mask": lambda names: "MadeUp" in names,
        "learned_positions": lambda model: True,
        "stream": facts.BlockStream(("chain",), "outward.in_features"),
        "head": facts.Head(("outward",), ("chain",), "outward.in_features"),
        "rotary": facts.TimeRotary(1, clips, facts.frequencies_of_embedder("turner"), embedder="turner"),
        "mixed_prompt": None,
        "skipped_block": facts.always(3),
        "frame_sizes": (1, 2),
        "sound": facts.SoundStream(3),
        "pattern_range": (0.3, 0.8),
        "shared": shared(families.token_share.TokenShare),
    }
    words = {name: spec.Reason(f"{name} of its own") for name in ("stream", "rotary", "mixed_prompt", "shared")}
    return replace(bare, **known), bare, replace(bare, **words)


def latent():
    return torch.zeros(1, CHANNELS, FRAMES, 3, 4)


def model():
    return build(described(), {})


CASE = Case(NAME, model, latent, (1, 7, TEXT), {"self": BLOCKS, "cross": BLOCKS}, (FRAMES, 3, 4))
