"""One clip over several GPUs of this machine."""

from comfy_api.latest import io, ui

from ..attention.routing.rules import ERROR
from .host import gpu_copies, several_gpus
from .widgets import rule_inputs, search_words
from .widgets.node import NOTE, Node


class VideoAttentionSeveralGPUs(Node):
    """Shares the tokens of every evaluation of a MODEL out among the GPUs of this machine."""

    TEXT = NOTE
    COUNTS_ATTENTION = True

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionSeveralGPUs",
            display_name="Video Attention Several GPUs",
            category="video attention/backend",
            description=(
                "One clip on all GPUs of this machine, also at cfg 1: each takes a part of the video's tokens and "
                "they trade before and behind attention, so that the clip is the same. Each GPU holds the whole "
                "model. For Wan, LTX-Video, LTX-2, HunyuanVideo and MiniMax-H3. With one GPU it does nothing."
            ),
            search_aliases=search_words.of("VideoAttentionSeveralGPUs"),
            inputs=[
                rule_inputs.model(),
                io.Int.Input(
                    "gpus", default=0, min=0, max=16, tooltip="How many GPUs take part, the model's own first. 0: all."
                ),
                io.Combo.Input(
                    "split",
                    options=[several_gpus.PROMPTS_FIRST, several_gpus.TOKENS],
                    default=several_gpus.PROMPTS_FIRST,
                    tooltip="prompts, then tokens: with cfg above 1 the prompts go to different GPUs, which need "
                    "not talk then; what GPUs are left share tokens. tokens: every prompt over all GPUs.",
                ),
                io.Combo.Input(
                    "shares",
                    options=[several_gpus.EVEN, several_gpus.MEASURED],
                    default=several_gpus.EVEN,
                    advanced=True,
                    tooltip="even: each GPU takes as many tokens. by measured speed: a faster one takes more, by a "
                    "matrix product that is timed when a sampling begins.",
                ),
                rule_inputs.on_unsupported(),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The model with copies on the other GPUs. LoRA goes before it; our other nodes go before "
                    "or behind it."
                )
            ],
        )

    @classmethod
    def execute(cls, model, gpus, split, shares, on_unsupported) -> io.NodeOutput:
        made, text = gpu_copies.on_several(model, gpus, split, shares, strict=on_unsupported == ERROR)
        return io.NodeOutput(made, ui=ui.PreviewText(text))


NODES = (VideoAttentionSeveralGPUs,)
