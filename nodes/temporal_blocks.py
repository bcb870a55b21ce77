"""Add trained temporal blocks behind the blocks of a model."""

from comfy_api.latest import io, ui

from ..attention.routing import rules
from .host import model_family, temporal_grafts
from .host.temporal_grafts import FOLDER
from .widgets import rule_inputs, search_words
from .widgets.node import NOTE


class VideoAttentionTemporalBlocks(rule_inputs.ChecksBlocks):
    """Adds trained temporal blocks to a MODEL."""

    TEXT = NOTE
    EXAMPLE = "Learn attention in video"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionTemporalBlocks",
            display_name=f"{temporal_grafts.TITLE} (Needs Trained Files)",
            category="video attention/blocks",
            description=(
                "Needs trained files: adds their temporal attention behind the blocks of an image or video model, so"
                " that its frames agree. The model's own weights stay as they are."
            ),
            search_aliases=search_words.of("VideoAttentionTemporalBlocks"),
            inputs=[
                io.Model.Input("model", tooltip="The model that the blocks were trained for. It stays unchanged."),
                io.Combo.Input(
                    "blocks_name",
                    options=temporal_grafts.list_files(),
                    tooltip=f"A file of models/{FOLDER}, or the demo model's, which comes with the pack.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=2.0, step=0.05,
                    tooltip="What the blocks add is multiplied by this. 0 changes nothing.",
                ),
                io.String.Input(
                    "blocks", default="", advanced=True,
                    tooltip="Behind which of the model's blocks, 0-3,7 for example. Empty: all that the file has.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with the blocks. Place torch.compile after it.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, blocks_name, strength=1.0, blocks="") -> io.NodeOutput:
        path, spans = temporal_grafts.find_file(blocks_name), rules.parse_blocks(blocks)
        patched, chosen = temporal_grafts.add_blocks(model, path, spans, strength)
        text = f"{model_family.family_of(model).name}: temporal blocks behind blocks {temporal_grafts.listed(chosen)}"
        return io.NodeOutput(patched, ui=ui.PreviewText(text))


NODES = (VideoAttentionTemporalBlocks,)
