"""Shape the attention of a model."""

import comfy.sample
import torch
from comfy_api.latest import io, ui

from ..attention import patterns
from ..attention.backends import registry
from ..attention.core.site import SELF
from ..attention.guidance.strength import Strength
from ..attention.inspect.draw_pattern import draw_pattern
from ..attention.routing import rules
from ..attention.sparse import engine_registry
from .host import model_family, model_rules
from .widgets import image_output, pattern_inputs, pattern_reach, rule_inputs, search_words
from .widgets.idle import idle, none_of, one_of
from .widgets.node import LINE

CATEGORY = "video attention/pattern"


def _pattern_inputs() -> list:
    return [
        rule_inputs.model(),
        io.Latent.Input(
            "latent", optional=True, tooltip="The latent you will sample: the picture then shows its grid."
        ),
        pattern_inputs.pattern_input(),
        *pattern_inputs.units(),
        io.Combo.Input(
            "combine",
            options=list(pattern_inputs.COMBINE),
            default=pattern_inputs.REPLACE,
            advanced=True,
            tooltip="With the pattern of the Video Attention Sparse Pattern before this one.",
        ),
        *rule_inputs.blocks_and_steps(start=0.2),
        *pattern_reach.spared(),
        io.Int.Input(
            "min_tokens",
            default=4096,
            min=0,
            max=1 << 24,
            tooltip="Fewer video tokens than these stay dense: a pattern would cost more than it saves.",
        ),
        io.Combo.Input(
            "engine",
            options=[registry.AUTO, *engine_registry.names()],
            default=registry.AUTO,
            advanced=True,
            tooltip="What runs the pattern. auto: the fastest that accepts it.",
        ),
        *rule_inputs.how(),
        *rule_inputs.auto_choice(),
        *pattern_reach.over_time(),
        pattern_reach.if_faster(),
        pattern_reach.tau_end(),
        pattern_reach.refresh_overlap(),
        rule_inputs.memory(),
        pattern_reach.single_tokens(),
    ]


class VideoAttentionPattern(rule_inputs.ChecksBlocks):
    """Lets each token of the video see a part of the others."""

    TEXT = LINE
    COUNTS_ATTENTION = True
    IDLE = (
        *pattern_inputs.IDLE,
        idle("keep_end", "tau_end", when=(one_of("ramp", pattern_reach.CONSTANT),)),
        idle("tau_end", when=(none_of("pattern", patterns.AdaptiveBlocks.name),)),
        idle("refresh_overlap", "single_tokens", when=(none_of("pattern", *pattern_inputs.CHOOSING),)),
        idle("keep_end", when=(one_of("pattern", patterns.AdaptiveBlocks.name),)),
        *rule_inputs.idle_choice("engine"),
    )

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionPattern",
            display_name="Video Attention Sparse Pattern (Radial, Sliding Tile)",
            category=CATEGORY,
            description=(
                "Less work for long or large clips, or a different motion: each token of the video sees a part of "
                "the others only, on the video's own time, height and width. Calls that cannot be shaped stay dense,"
                " on the kernel that Video Attention Backend chose, and are counted with the reason."
            ),
            search_aliases=search_words.of("VideoAttentionPattern"),
            inputs=_pattern_inputs(),
            outputs=[
                io.Model.Output(tooltip="The model with its self-attention shaped."),
                io.Image.Output("picture", tooltip="What one token sees, frame by frame, and the mask."),
                io.String.Output("info", tooltip="Grid, density, and the most that the pattern can gain."),
            ],
        )

    @classmethod
    def validate_inputs(cls, blocks="", *, pattern=None):
        """Gives True, or one sentence about blocks or a pattern that cannot be right."""
        # ComfyUI hands over what a dynamic combo holds, asked for or not; by keyword alone it is not blamed for blocks.
        return super().validate_inputs(blocks)

    @classmethod
    def execute(
        cls, model, time_unit, fps, combine, pattern=None, latent=None, ramp=pattern_reach.CONSTANT, keep_end=10.0,
        if_faster=False, tau_end=1.5, refresh_overlap=0.0, single_tokens=0, **widgets,
    ) -> io.NodeOutput:  # fmt: skip
        made = pattern_inputs.make(pattern, time_unit, fps, *_time_of(model))
        made = pattern_reach.with_singles(made, single_tokens)
        chosen = pattern_inputs.combined(made, model_rules.pattern_of(model), combine)
        ramp, tokens = pattern_reach.ramp_of(chosen, ramp, keep_end, tau_end), _tokens(model, latent)
        rule = _rule(model, chosen, ramp, if_faster, refresh_overlap, **widgets)
        picture, text = draw_pattern(chosen, tokens and tokens.grid, _others(tokens), ramp=ramp)
        status = model_rules.status(model, rule)
        return io.NodeOutput(
            model_rules.add_rule(model, rule), image_output.to_image(picture), text, ui=ui.PreviewText(status)
        )


def _rule(
    model, pattern, ramp, if_faster, refresh_overlap, blocks, start_percent, end_percent, min_tokens, engine,
    dense_first_steps, dense_last_steps, dense_first_blocks, dense_last_blocks, auto_choice, **how,
) -> rules.Rule:  # fmt: skip
    """Makes the widgets' Rule. Raises ValueError with a sentence about the first one that cannot be right."""
    spans = rule_inputs.spans_of(blocks, start_percent, end_percent)
    known = model_family.blocks_of(model, SELF)
    spans = pattern_reach.without(spans, dense_first_blocks, dense_last_blocks, known)
    shape = rules.Shape(pattern, engine, min_tokens, ramp, if_faster=if_faster, refresh_overlap=refresh_overlap)
    spared = dense_first_steps, dense_last_steps
    return rules.Rule(
        "", SELF, spans, start_percent, end_percent, shape=shape, spared=spared, choice=auto_choice, **how
    )


def _time_of(model) -> tuple[int, int, tuple]:
    """Finds the frames of the video in a latent frame, the latent frames in a token, and the family's frame_sizes."""
    probe = model_family.tokens_of_latent(model, torch.empty(1, 1, 8, 32, 32, device="meta"))
    frames = probe.grid[0] if probe is not None and probe.grid else 8
    return model_family.temporal_ratio(model), max(1, 8 // frames), model_family.row_of(model).frame_sizes


def _tokens(model, latent):
    """Lays the latent out; None without one or where the model's layout is not known."""
    if latent is None:
        return None
    tokens = model_family.tokens_of_latent(model, comfy.sample.fix_empty_latent_channels(model, latent["samples"]))
    return None if tokens is None or tokens.grid is None else tokens


def _others(tokens) -> int:
    """Counts the tokens around the video, as far as they are known before a prompt is."""
    return sum(span.length or 0 for span in (*tokens.prefix, *tokens.suffix)) if tokens else 0


class VideoAttentionStrength(rule_inputs.ChecksBlocks):
    """Makes attention sharper or flatter, or ties frames closer together."""

    TEXT = LINE
    COUNTS_ATTENTION = True

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionStrength",
            display_name="Video Attention Strength (Sharper, Flatter)",
            category=CATEGORY,
            description=(
                "Sharper or flatter attention, or steadier clips by cross-frame emphasis (Enhance-A-Video, which has"
                " a node of its own, too). Works with every kernel and every pattern. At 1 and 0 nothing changes."
            ),
            search_aliases=search_words.of("VideoAttentionStrength"),
            inputs=[
                rule_inputs.model(),
                io.Float.Input(
                    "temperature",
                    default=1.0,
                    min=0.1,
                    max=10.0,
                    step=0.01,
                    tooltip="Below 1: attention is sharper. Above 1: flatter. 1: as the model was trained.",
                ),
                io.Float.Input(
                    "cross_frame",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Cross-frame emphasis (Enhance-A-Video), as the node of that name does it: strengthens "
                    "what self-attention brings in from other frames. 0 is off, 1 to 5 is usual. For models whose "
                    "grid is known.",
                ),
                *rule_inputs.covered_calls(default=SELF),
            ],
            outputs=[io.Model.Output(tooltip="The model with its attention's strength changed.")],
        )

    @classmethod
    def execute(cls, model, temperature, cross_frame, role, blocks, start_percent, end_percent) -> io.NodeOutput:
        spans = rule_inputs.spans_of(blocks, start_percent, end_percent, role)
        strength = Strength(temperature, cross_frame)
        rule = rules.Rule("", role, spans, start_percent, end_percent, strength=strength)
        return io.NodeOutput(model_rules.add_rule(model, rule), ui=ui.PreviewText(model_rules.status(model, rule)))


NODES = (VideoAttentionPattern, VideoAttentionStrength)
