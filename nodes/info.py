"""What the pack knows of a model before it runs."""

from dataclasses import replace

from comfy_api.latest import io, ui

from ..attention.inspect.draw_info import draw_info
from ..attention.inspect.info import examine, to_text
from ..attention.routing import host_kernel
from .host import forecast, forecast_memory, gpu_copies, model_family, model_rules, reuse_memory, site_hooks
from .runs import sampling_job
from .widgets import image_output, search_words
from .widgets.node import REPORT, Node


class VideoAttentionInfo(Node):
    """Says what is known of a MODEL without running it."""

    TEXT = REPORT
    EXAMPLE = "Inside a model"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionInfo",
            display_name="Video Attention Model Info",
            category="video attention/inspect",
            description=(
                "Tells before a run what a faster kernel or a pattern could gain at most, and what is known of this "
                "model: family, blocks, heads, which attention can be reached, and with a latent the token grid and "
                "attention's share of a step."
            ),
            search_aliases=search_words.of("VideoAttentionInfo"),
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="Any diffusion model. Nothing is run and nothing is changed."),
                io.Latent.Input(
                    "latent", optional=True, tooltip="An empty latent of the size and length you want to know about."
                ),
            ],
            outputs=[
                io.String.Output("info", tooltip="The lines shown on the node."),
                io.Image.Output("picture", tooltip="A bar: attention and the rest of a step."),
            ],
        )

    @classmethod
    def execute(cls, model, latent=None) -> io.NodeOutput:
        tokens = None
        if latent is not None:
            tokens = model_family.tokens_of_latent(model, sampling_job.fitted(model, latent)["samples"])
        info = examine(model.model.diffusion_model, model_family.family_of(model), tokens)
        info = replace(info, named=host_kernel.sentence(site_hooks.holders(model).values()))
        text = to_text(info)
        text = "\n".join(filter(None, (text, gpu_copies.worth(model, info))))
        settings = forecast.settings_of(model)
        if settings is not None:
            text += f"\n{forecast_memory.text(model, settings, tokens)}"
        reused = [rule for rule in model_rules.rules_of(model) if rule.reuse is not None]
        text = "\n".join([text, *(reuse_memory.text(model, rule, tokens) for rule in reused)])
        picture = image_output.to_image(draw_info(info))
        return io.NodeOutput(text, picture, ui=ui.PreviewText(text))


NODES = (VideoAttentionInfo,)
