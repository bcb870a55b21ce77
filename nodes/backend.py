"""Swap the attention of a model."""

from comfy_api.latest import io

from ..attention import registry, rules
from ..attention.site import ROLES
from . import _host

CATEGORY = "video attention/backend"


class VideoAttentionBackend(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionBackend",
            display_name="Video Attention Backend",
            category=CATEGORY,
            description=(
                "Runs the attention of this model on the kernel you choose: all of it, one role, some blocks or "
                "some steps. What the kernel cannot do falls back to ComfyUI's own attention and is counted. Several "
                "in a row: the last one that covers a call wins. Bypass it and it is gone."
            ),
            search_aliases=["sage", "sageattention", "flash attention", "sdpa", "attention override", "int8", "speed"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="Any diffusion model. It stays unchanged: the output is a patched clone."
                ),
                io.Combo.Input(
                    "backend",
                    options=list(rules.CHOICES),
                    default="auto",
                    tooltip="auto: the best kernel that accepts each call. host default: what ComfyUI would run. "
                    "Others are listed even when not installed, so that a workflow opens everywhere.",
                ),
                io.Combo.Input(
                    "role",
                    options=[rules.ALL_ROLES, *ROLES],
                    default=rules.ALL_ROLES,
                    tooltip="self: tokens of the video among themselves. cross: the video looking at text, say.",
                ),
                io.String.Input(
                    "blocks",
                    default="",
                    tooltip="Transformer blocks, for example 0-3,7,40- . Empty: all. With a list, calls of "
                    "unknown block are left out.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Begin at this part of the sampling: 0 is pure noise, 1 is the finished latent.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="End at this part of the sampling."
                ),
                io.Combo.Input(
                    "on_unsupported",
                    options=[rules.FALL_BACK, rules.ERROR],
                    default=rules.FALL_BACK,
                    tooltip="fall back: ComfyUI's attention takes over, the report says why. error: stop and say why.",
                ),
                io.Combo.Input(
                    "guard",
                    options=list(rules.GUARDS),
                    default=rules.GUARD_FIRST,
                    advanced=True,
                    tooltip="Looks for NaN or Inf in the output, the cause of black frames, and falls back. Each "
                    "look waits for the GPU.",
                ),
                io.Boolean.Input(
                    "timing",
                    default=False,
                    advanced=True,
                    tooltip="Measures the time of every attention call for the report, for a few microseconds a call.",
                ),
                io.Combo.Input(
                    "auto_choice",
                    options=list(rules.CHOICE_MODES),
                    default=rules.MEASURE,
                    advanced=True,
                    tooltip="How auto chooses. measure: times the kernels once on the first real call of each shape, "
                    "keeps the fastest. table order: the first that accepts, always the same.",
                ),
                io.Float.Input(
                    "max_error",
                    default=0.02,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    advanced=True,
                    tooltip="The largest relative L2 error that auto allows a kernel it measures. INT8 kernels have "
                    "0.01 to 0.03, exact ones 0.001 in 16 bit.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The model with its attention swapped. Put LoRA before it and torch.compile after it."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, blocks="", start_percent=0.0, end_percent=1.0):
        # ComfyUI checks the combos itself. A linked widget has no value yet: execute checks that.
        if None in (blocks, start_percent, end_percent):
            return True
        return rules.check(registry.AUTO, rules.ALL_ROLES, blocks, start_percent, end_percent) or True

    @classmethod
    def execute(cls, model, backend, role, blocks, start_percent, end_percent, **options) -> io.NodeOutput:
        wrong = rules.check(backend, role, blocks, start_percent, end_percent)
        if wrong:
            raise ValueError(wrong)
        options["choice"] = options.pop("auto_choice")
        rule = rules.Rule(backend, role, rules.parse_blocks(blocks), start_percent, end_percent, **options)
        return io.NodeOutput(_host.install(model, rule))


class VideoAttentionClear(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionClear",
            display_name="Video Attention Clear",
            category=CATEGORY,
            description=(
                "Takes every Video Attention rule off this model and leaves what other packs set. "
                "Works behind torch.compile."
            ),
            search_aliases=[
                "disable sage attention",
                "reset attention",
                "remove attention override",
                "default attention",
            ],
            inputs=[
                io.Model.Input("model", tooltip="A model with Video Attention nodes before it. It stays unchanged.")
            ],
            outputs=[
                io.Model.Output(tooltip="The model with the attention it had before the first Video Attention node.")
            ],
        )

    @classmethod
    def execute(cls, model) -> io.NodeOutput:
        return io.NodeOutput(_host.clear(model))


NODES = (VideoAttentionBackend, VideoAttentionClear)
