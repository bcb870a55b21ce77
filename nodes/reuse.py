"""Keep outputs of attention for some steps."""

from comfy_api.latest import io, ui

from ..attention.core.site import SELF
from ..attention.reuse import STORAGES, ReuseSettings
from ..attention.routing import rules
from .host import model_rules, reuse_memory
from .widgets import guidance_inputs, rule_inputs, search_words
from .widgets.idle import switched_off
from .widgets.node import NOTE

CATEGORY = "video attention/backend"
DEFAULT = ReuseSettings()


def _kept() -> list:
    """Makes the widgets that say how much is kept, and how."""
    return [
        io.Int.Input(
            "budget",
            default=DEFAULT.budget,
            min=1,
            max=1 << 20,
            tooltip="MiB of outputs that are kept at most. What has no room attends in every step. The node says what "
            "all of them take.",
        ),
        io.Combo.Input(
            "storage",
            options=list(STORAGES),
            default=DEFAULT.storage,
            tooltip="8 bit: half the memory of 16 bit models. Adds a relative error of 0.005 to 0.01, which the report "
            "states.",
        ),
        io.Boolean.Input(
            "offload",
            default=DEFAULT.offload,
            advanced=True,
            tooltip="Keeps outputs in the computer's memory instead of the GPU's: slower, smaller.",
        ),
        rule_inputs.on_unsupported(advanced=True),
    ]


class VideoAttentionReuse(rule_inputs.ChecksBlocks):
    """Gives outputs of attention again in the steps after they were computed."""

    TEXT = NOTE
    COUNTS_ATTENTION = True
    IDLE = switched_off("every", *guidance_inputs.WHERE, "role", "budget", "storage", "offload", "on_unsupported")

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionReuse",
            display_name="Video Attention Reuse (Keep Attention Outputs)",
            category=CATEGORY,
            description=(
                "Attends in every second or third step only and gives the same outputs in between, as Pyramid "
                "Attention Broadcast does: from step to step they change little. Works with every kernel, pattern and "
                "forecast. Needs memory, which it states and bounds."
            ),
            search_aliases=search_words.of("VideoAttentionReuse"),
            inputs=[
                rule_inputs.model(),
                guidance_inputs.enabled(),
                io.Int.Input(
                    "every",
                    default=DEFAULT.every,
                    min=1,
                    max=16,
                    tooltip="Attends in one of so many steps: 2 in each second, 3 in each third. 1 is off. Samplers "
                    "that add noise, or evaluate the model twice a step, stand 2.",
                ),
                *rule_inputs.covered_calls(default=SELF, start=0.15, end=0.9),
                *_kept(),
            ],
            outputs=[io.Model.Output(tooltip="The model that reuses attention outputs.")],
        )

    @classmethod
    def execute(
        cls, model, enabled, every, role, blocks, start_percent, end_percent, budget, storage, offload, on_unsupported
    ) -> io.NodeOutput:
        spans = rule_inputs.spans_of(blocks, start_percent, end_percent, role)
        settings = ReuseSettings(every, budget, storage, offload)
        if not enabled or every < 2:
            return io.NodeOutput(model, ui=ui.PreviewText("Reuse is off: the model is as it came."))
        rule = rules.Rule("", role, spans, start_percent, end_percent, on_unsupported, reuse=settings)
        text = f"{model_rules.status(model, rule)}\n{reuse_memory.text(model, rule)}"
        return io.NodeOutput(model_rules.add_rule(model, rule), ui=ui.PreviewText(text))


NODES = (VideoAttentionReuse,)
