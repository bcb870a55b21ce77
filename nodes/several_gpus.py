"""One clip over several GPUs of this machine, or over several ComfyUIs."""

from comfy_api.latest import io, ui

from ..attention.parallel.group import NEAR
from ..attention.routing.rules import ERROR
from .host import gpu_copies, several_gpus, several_machines, sharing
from .widgets import rule_inputs, search_words
from .widgets.node import NOTE, Node


def _gpus() -> io.Int.Input:
    return io.Int.Input(
        "gpus", default=0, min=0, max=16, tooltip="How many GPUs take part, the model's own first. 0: all."
    )


def _overlap() -> io.Boolean.Input:
    return io.Boolean.Input(
        "overlap",
        default=False,
        optional=True,
        advanced=True,
        tooltip="Trade the heads in up to four slices, so that one is copied while another is computed: for GPUs with "
        "a slow link. The clip is the same. Never run on GPUs by us.",
    )


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
                _gpus(),
                io.Combo.Input(
                    "split",
                    options=list(sharing.SPLITS),
                    default=sharing.PROMPTS_FIRST,
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
                _overlap(),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The model with copies on the other GPUs. LoRA goes before it; our other nodes go before "
                    "or behind it."
                )
            ],
        )

    @classmethod
    def execute(cls, model, gpus, split, shares, on_unsupported, overlap=False) -> io.NodeOutput:
        made, text = gpu_copies.on_several(model, gpus, split, shares, on_unsupported == ERROR, overlap)
        return io.NodeOutput(made, ui=ui.PreviewText(text))


class VideoAttentionSeveralComfyUIs(Node):
    """Shares the tokens of every evaluation of a MODEL out among ComfyUIs that run the same workflow."""

    TEXT = NOTE
    COUNTS_ATTENTION = True

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionSeveralComfyUIs",
            display_name="Video Attention Several ComfyUIs",
            category="video attention/backend",
            description=(
                "One clip on several machines: the same workflow runs in a ComfyUI on each, with a number of its own "
                "here, and they share the tokens out or take one prompt each. Needs a fast network: 10 Gbit/s is too "
                "slow for tokens. For many clips, a ComfyUI for each is faster."
            ),
            search_aliases=search_words.of("VideoAttentionSeveralComfyUIs"),
            inputs=[
                rule_inputs.model(),
                io.Int.Input("number", default=0, min=0, max=63, tooltip="Of this ComfyUI. Number 0 listens."),
                io.Int.Input("of", default=2, min=2, max=64, tooltip="How many ComfyUIs take part."),
                io.String.Input(
                    "meeting_point",
                    default="127.0.0.1:29511",
                    tooltip="Address and port of number 0, the same everywhere. Nobody is asked who he is: networks "
                    "that you trust only.",
                ),
                io.Int.Input(
                    "patience",
                    default=300,
                    min=1,
                    max=3600,
                    tooltip="Seconds to wait for the others, and for an answer: as long as the slowest loads its "
                    "model.",
                ),
                io.Combo.Input(
                    "split",
                    options=list(sharing.MACHINE_SPLITS),
                    default=sharing.PROMPTS_FIRST,
                    tooltip="prompts, then tokens: where each can have prompts of its own, only predictions travel. "
                    "tokens: every prompt over all. tokens, keys around machines: the same, but heads are traded "
                    "inside each machine alone. Give the ComfyUIs of a machine numbers in a row.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, which waits for the others when a sampling begins.")],
        )

    @classmethod
    def validate_inputs(cls, meeting_point):
        """Gives True, or one sentence about a meeting point that cannot be right."""
        host, _, port = meeting_point.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            return f"meeting_point: {meeting_point!r} is no address and port, as 192.168.1.10:29511."
        return True

    @classmethod
    def fingerprint_inputs(cls, **widgets):
        """Lets each run begin anew: one that answered from its memory would leave the others waiting."""
        return float("nan")

    @classmethod
    def execute(cls, model, number, of, meeting_point, patience, split) -> io.NodeOutput:
        if number >= of:
            raise ValueError(f"number: {number} of {of} is none. Take 0 to {of - 1}, each once.")
        host, _, port = meeting_point.strip().rpartition(":")
        meeting = several_machines.Meeting(number, of, host, int(port), patience, split)
        text = f"Number {number} of {of}, at {host}:{port}."
        if host not in NEAR:
            text += " Whoever reaches that port can take part."
        return io.NodeOutput(several_machines.install(model, meeting), ui=ui.PreviewText(text))


NODES = (VideoAttentionSeveralGPUs, VideoAttentionSeveralComfyUIs)
