"""Swap the attention of a model."""

from comfy_api.latest import io, ui

from ..attention.backends import registry
from ..attention.routing import rules
from .host import model_rules
from .widgets import rule_inputs, search_words
from .widgets.idle import idle, one_of
from .widgets.node import LINE, Node

CATEGORY = "video attention/backend"


class VideoAttentionBackend(rule_inputs.ChecksBlocks):
    """Runs the attention of a MODEL on a chosen kernel."""

    TEXT = LINE
    COUNTS_ATTENTION = True
    IDLE = (
        *rule_inputs.idle_choice("backend"),
        idle("on_unsupported", "guard", when=(one_of("backend", registry.HOST),)),
    )

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionBackend",
            display_name="Video Attention Backend (SageAttention, Flash, SDPA)",
            category=CATEGORY,
            description=(
                "Faster video models: runs their attention on SageAttention, FlashAttention, torch's SDPA or another"
                " kernel you choose, for all of it, one role, some blocks or some steps. What the kernel cannot do "
                "falls back to ComfyUI's own attention and is counted. Several in a row: the last one that covers a "
                "call wins. Bypass it and it is gone."
            ),
            search_aliases=search_words.of("VideoAttentionBackend"),
            inputs=[
                io.Model.Input(
                    "model", tooltip="Any diffusion model. It stays unchanged: the output is a patched clone."
                ),
                rule_inputs.backend(),
                *rule_inputs.covered_calls(),
                *rule_inputs.how(),
                *rule_inputs.auto_choice(),
                rule_inputs.memory(),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The model with its attention swapped. Put LoRA before it and torch.compile after it."
                )
            ],
        )

    @classmethod
    def execute(cls, model, backend, role, blocks, start_percent, end_percent, **options) -> io.NodeOutput:
        wrong = rules.check(backend, role, blocks, start_percent, end_percent)
        if wrong:
            raise ValueError(wrong)
        options["choice"] = options.pop("auto_choice")
        rule = rules.Rule(backend, role, rules.parse_blocks(blocks), start_percent, end_percent, **options)
        return io.NodeOutput(model_rules.add_rule(model, rule), ui=ui.PreviewText(model_rules.status(model, rule)))


class VideoAttentionClear(Node):
    """Takes every rule of this pack off a MODEL."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionClear",
            display_name="Video Attention Clear (All Off)",
            category=CATEGORY,
            description=(
                "Turns this pack off for a model: takes every Video Attention rule off it and leaves what other "
                "packs set. Works behind torch.compile."
            ),
            search_aliases=search_words.of("VideoAttentionClear"),
            inputs=[
                io.Model.Input("model", tooltip="A model with Video Attention nodes before it. It stays unchanged.")
            ],
            outputs=[
                io.Model.Output(tooltip="The model with the attention it had before the first Video Attention node.")
            ],
        )

    @classmethod
    def execute(cls, model) -> io.NodeOutput:
        return io.NodeOutput(model_rules.clear(model))


NODES = (VideoAttentionBackend, VideoAttentionClear)
