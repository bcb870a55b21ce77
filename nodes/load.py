"""Load a model with its attention already swapped."""

import folder_paths
from comfy_api.latest import io, ui

from nodes import UNETLoader

from ..attention.backends import registry
from ..attention.routing import rules
from .host import model_rules
from .widgets import rule_inputs, search_words
from .widgets.idle import idle, one_of
from .widgets.node import LINE, Node

WEIGHT_DTYPES = ("default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2")


class VideoAttentionLoadModel(Node):
    """Loads a MODEL and chooses its kernel."""

    TEXT = LINE
    COUNTS_ATTENTION = True
    IDLE = (idle("guard", when=(one_of("backend", registry.HOST),)),)

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionLoadModel",
            display_name="Video Attention Load Model",
            category="video attention/backend",
            description=(
                "Loads a model with a faster attention kernel: Load Diffusion Model and Video Attention Backend in "
                "one node, with the same rule for all blocks and steps. For more than that use the two nodes."
            ),
            search_aliases=search_words.of("VideoAttentionLoadModel"),
            inputs=[
                io.Combo.Input(
                    "unet_name",
                    options=folder_paths.get_filename_list("diffusion_models"),
                    tooltip="A file of models/diffusion_models, as in ComfyUI's own loader.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="The type the weights are kept in, as in ComfyUI's own loader.",
                ),
                rule_inputs.backend(),
                rule_inputs.guard(),
            ],
            outputs=[io.Model.Output(tooltip="The model with its attention swapped.")],
        )

    @classmethod
    def execute(cls, unet_name, weight_dtype, backend, guard) -> io.NodeOutput:
        (model,) = UNETLoader().load_unet(unet_name, weight_dtype)
        rule = rules.Rule(backend, guard=guard)
        return io.NodeOutput(model_rules.add_rule(model, rule), ui=ui.PreviewText(model_rules.status(model, rule)))


NODES = (VideoAttentionLoadModel,)
