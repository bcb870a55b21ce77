"""See where a model looks."""

import torch
from comfy_api.latest import io, ui

from ..attention.inspect.draw_maps import draw_heat, draw_shares, draw_token_shares
from ..attention.inspect.map_summary import Maps, summarise_views, to_text
from ..attention.inspect.maps import Query, Watcher
from ..attention.routing.rules import format_blocks, parse_blocks
from .host import prompt_words, run_history
from .runs import attention_maps
from .widgets import clip_file, heat_file, image_output, rule_inputs, search_words
from .widgets.idle import idle, linked, one_of, own_levels
from .widgets.node import REPORT, Node
from .widgets.once_more import once_more

BLANK = torch.ones(1, 64, 64, 3)
# Tokens of a prompt that the page shows; what comes behind is padding in most models.
MOST_TOKENS = 512


class VideoAttentionMaps(Node):
    """Shows where a MODEL looks from a point of the clip."""

    TEXT = REPORT
    VIEW = "maps"
    EXAMPLE = "Inside a model"
    IDLE = (
        own_levels("percent"),
        idle("x", "y", when=(linked("mask"),)),
        idle("seed", when=(one_of("add_noise", False),)),
    )

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionMaps",
            display_name="Video Attention Maps (Heat Map)",
            category="video attention/inspect",
            description=(
                "Shows where the model looks from a point of the clip: a heat map over every frame, how much of each "
                "block's attention stays in the frame, at the place or goes to the text, and what each token of the "
                "prompt receives. One evaluation of the model; nothing is changed."
            ),
            search_aliases=search_words.of("VideoAttentionMaps"),
            is_output_node=True,
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
            inputs=[*_sources(), *_choices(), *_noise(), *_words()],
            outputs=[
                io.Image.Output("heat", tooltip="A picture for each frame of the token grid, the query marked."),
                io.Image.Output("shares", tooltip="A bar for each block: in the frame, at the place, elsewhere, text."),
                io.Image.Output("token_heat", tooltip="What each token of the prompt, image or sound receives."),
                io.String.Output("report", tooltip="All figures, as shown on the node."),
            ],
        )

    @classmethod
    def validate_inputs(cls, blocks=""):
        """Gives True, or one sentence about a list of blocks that cannot be right."""
        # Before anything runs: the sampler behind it may take minutes. ComfyUI blames each argument that is taken here
        # for what is said, so heads are checked by execute.
        return rule_inputs.wrong_spans(blocks) or True

    @classmethod
    @once_more
    def execute(
        cls, model, positive, latent, blocks, heads, percent, x, y, frame, seed, add_noise, images=None, mask=None,
        sigmas=None, clip=None,
    ) -> io.NodeOutput:  # fmt: skip
        spans, query = parse_blocks(blocks), Query(x, y, frame, _pictures(mask))
        attention_maps.check(model, latent, query, spans)
        patched, watcher = attention_maps.watch_attention(model, query, parse_blocks(heads, "head"))
        sigma = attention_maps.sigma_at(model, percent, sigmas)
        # What the sampling came to stays told on the nodes of its rules.
        with run_history.aside():
            attention_maps.evaluate(patched, positive, latent, sigma, seed, add_noise)
        maps = summarise_views(watcher.views, query, spans)
        if maps is None:
            text = _nothing(model, watcher)
            return io.NodeOutput(BLANK, BLANK, BLANK, text, ui=ui.PreviewText(text).as_dict())
        text = f"Noise level {sigma:.4g}.\n{to_text(maps, watcher.views, watcher.left_out, heads)}"
        heat, *charts = _draw(maps, query, images)
        found = _shown(maps, query, images, lambda count: prompt_words.words_of(cls.hidden, positive, clip, count))
        shown = {**ui.PreviewText(text).as_dict(), "maps": found, "shares": _shares(maps)}
        return io.NodeOutput(heat, *charts, text, ui=shown)


def _sources() -> list:
    return [
        io.Model.Input("model", tooltip="The model as you sample it, also behind Video Attention Backend."),
        io.Conditioning.Input("positive", tooltip="The prompt whose attention you want to see."),
        io.Latent.Input("latent", tooltip="A finished latent of this prompt, from a sampler."),
        io.Image.Input("images", optional=True, tooltip="The same clip decoded: the heat is drawn over it."),
        io.Mask.Input(
            "mask",
            optional=True,
            tooltip="Instead of the point: the mean view of all that is marked. One mask counts for frame, several "
            "are spread over the clip.",
        ),
        io.Sigmas.Input(
            "sigmas",
            optional=True,
            tooltip="Its first noise level counts instead of percent, for example low_sigmas of SplitSigmas.",
        ),
    ]


def _choices() -> list:
    return [
        io.String.Input("blocks", default="", tooltip="Blocks in the heat map, for example 0-3,7,40- . Empty: all."),
        io.String.Input(
            "heads", default="", tooltip="Attention heads whose mean is shown, for example 0-3,7 . Empty: all."
        ),
        io.Float.Input(
            "percent",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Step of the sampling that is looked at: 0 is pure noise, 1 the finished latent.",
        ),
        *(
            io.Float.Input(
                name, default=50.0, min=0.0, max=100.0, step=1.0, tooltip=f"The query point, percent of the {side}."
            )
            for name, side in (("x", "width, from the left"), ("y", "height, from the top"))
        ),
        io.Int.Input(
            "frame",
            default=0,
            min=0,
            max=65535,
            tooltip="Frame of the query point, as the heat map counts: one for each frame of the latent, which holds "
            "4 to 8 pictures in most models.",
        ),
    ]


def _noise() -> list:
    return [
        # Without the front end's own "randomize": another noise in each run would hide what a click changes.
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**63 - 1,
            control_after_generate=False,
            tooltip="Of the noise that is added to the latent.",
        ),
        io.Boolean.Input(
            "add_noise",
            default=True,
            advanced=True,
            tooltip="Off for a latent that still holds the noise of the step; give that step's sigmas too.",
        ),
    ]


def _words() -> list:
    return [
        io.Clip.Input(
            "clip",
            optional=True,
            advanced=True,
            tooltip="The text encoder of positive: the node then shows the words of the prompt instead of numbers.",
        )
    ]


def _pictures(mask):
    """Gives a MASK as (M, H, W); some nodes give one picture as (H, W)."""
    return mask[None] if mask is not None and mask.ndim == 2 else mask


def _draw(maps: Maps, query: Query, images) -> tuple:
    charts = (draw_shares(maps), draw_token_shares(maps.token_shares))
    return draw_heat(maps, query, images), *map(image_output.to_image, charts)


def _shown(maps: Maps, query: Query, images, words_of) -> tuple:
    """Gives what web/maps.js plays: the clip, heat of every block, and what the prompt's tokens receive.

    words_of: number of tokens -> their words, or None and why they cannot be told.
    """
    layers = {f"mean of {format_blocks(maps.chosen)}": maps.heat}
    heat = heat_file.save_heat({**layers, **{f"block {block}": of for block, of in maps.block_heat.items()}})
    if heat is None:
        return ()
    clips = None if images is None else clip_file.save_clips([images])
    tokens = []
    for received in maps.token_shares:
        words, why = words_of(len(received.mean)) if received.kind == "text" else (None, "")
        weights = {"mean": received.mean, **{f"block {b}": w for b, w in zip(received.blocks, received.weights)}}
        packed = {name: [round(v, 6) for v in of[:MOST_TOKENS].tolist()] for name, of in weights.items()}
        told = {"kind": received.kind, "role": received.role, "count": len(received.mean), "words": words, "why": why}
        tokens.append({**told, "weights": packed})
    marked = [int(token) for token in maps.queries.tolist()]
    looked = {"frame": query.frame, "tokens": marked}
    return ({"heat": heat, "clips": clips, "query": looked, "tokens": tokens, "shares": _shares(maps)[0]},)


def _shares(maps: Maps) -> tuple:
    """Gives the table of the report, for scripts."""
    return ({"blocks": {str(block): of for block, of in maps.shares.items()}, "mean": maps.mean, "even": maps.even},)


def _nothing(model, watcher: Watcher) -> str:
    """Says why there is no map."""
    name = type(model.model.diffusion_model).__name__
    reasons = "".join(f" No map of {role}-attention: {reason}." for role, reason in watcher.left_out.items())
    return f"{name}: no self-attention of these blocks could be placed on the video.{reasons}"


NODES = (VideoAttentionMaps,)
