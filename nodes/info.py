"""What the pack knows of a model before it runs."""

from dataclasses import replace

from comfy_api.latest import io, ui

from ..attention.inspect.draw_info import draw_info
from ..attention.inspect.info import examine, to_text
from ..attention.inspect.token_count import count_line, memory_lines, sequence
from ..attention.routing import host_kernel
from .host import (
    forecast,
    forecast_memory,
    gpu_copies,
    memory_estimate,
    model_family,
    model_rules,
    reuse_memory,
    site_hooks,
)
from .host.latent import parts_of
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
                io.Conditioning.Input(
                    "positive", optional=True, tooltip="A prompt, with its references: their tokens are counted too."
                ),
            ],
            outputs=[
                io.String.Output("info", tooltip="The lines shown on the node."),
                io.Image.Output("picture", tooltip="A bar: attention and the rest of a step."),
            ],
        )

    @classmethod
    def execute(cls, model, latent=None, positive=None) -> io.NodeOutput:
        tokens = samples = None
        if latent is not None:
            samples = sampling_job.fitted(model, latent)["samples"]
            prompt = model_family.prompt_shapes(positive) if positive else None
            tokens = model_family.tokens_of_latent(model, samples, prompt)
        info = examine(model.model.diffusion_model, model_family.family_of(model), tokens)
        info = replace(info, named=host_kernel.sentence(site_hooks.holders(model).values()))
        text = "\n".join((to_text(info), *_counted(model, tokens, samples, positive)))
        text = "\n".join(filter(None, (text, gpu_copies.worth(model, info))))
        settings = forecast.settings_of(model)
        if settings is not None:
            text += f"\n{forecast_memory.text(model, settings, tokens)}"
        reused = [rule for rule in model_rules.rules_of(model) if rule.reuse is not None]
        text = "\n".join([text, *(reuse_memory.text(model, rule, tokens) for rule in reused)])
        picture = image_output.to_image(draw_info(info))
        return io.NodeOutput(text, picture, ui=ui.PreviewText(text))


def _counted(model, tokens, samples, positive) -> list[str]:
    """Counts tokens by kind and the memory of a call by kernel; no line without a grid."""
    if tokens is None or tokens.grid is None:
        return []
    parts = parts_of(samples)
    # A sound's latents are (B, C, T, F): a token for each step of time.
    audio = parts[1].shape[2] if len(parts) > 1 and parts[1].ndim == 4 else None
    lines = ["", count_line(tokens, positive[0][0].shape[1] if positive else None, audio)]
    call = memory_estimate.usual_call(model)
    return lines if call is None else [*lines, *memory_lines(call, sequence(tokens))]


NODES = (VideoAttentionInfo,)
