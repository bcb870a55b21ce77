"""One dial: all that is known to make a model faster, at a level of quality."""

import json

from comfy_api.latest import io, ui

from ..attention import presets
from ..attention.inspect import info
from ..attention.presets import Preset
from ..attention.routing import rules
from .host import model_family
from .runs import preset_rules, sampling_job
from .widgets import as_nodes, rule_inputs, search_words
from .widgets.idle import idle, one_of
from .widgets.node import REPORT, Node

CONNECT = "Connect the latent you will sample to see the most that it can gain at that size."


def _levels_without(part: str) -> tuple[str, ...]:
    """Lists the levels at which no family's preset has a pattern, or a forecast."""
    given = {row.level for row in presets.TABLE if getattr(row, part) is not None}
    return tuple(level for level in presets.LEVELS if level not in given)


class VideoAttentionBoost(Node):
    """Makes a MODEL faster by what is known of its family."""

    TEXT = REPORT
    COUNTS_ATTENTION = True
    EXAMPLE = "Is it worth it"
    IDLE = (
        idle("pattern", when=(one_of("quality", *_levels_without("pattern")),)),
        idle("forecast", when=(one_of("quality", *_levels_without("forecast")),)),
    )

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionBoost",
            display_name="Video Attention: Faster (one dial)",
            category="video attention/backend",
            description=(
                "Makes a video model faster with one dial: the fastest attention kernel that is close enough, and "
                "where more speed is asked for a sparse pattern and forecast steps. Chosen for your model's family; "
                "what turns out slower is not taken. Says how much faster, and at which loss it was allowed."
            ),
            search_aliases=search_words.of("VideoAttentionBoost"),
            inputs=[
                io.Model.Input(
                    "model", tooltip="Any diffusion model. It stays unchanged: the output is a patched clone."
                ),
                io.Latent.Input(
                    "latent", optional=True, tooltip="The latent you will sample: says the most that it can gain."
                ),
                io.Combo.Input(
                    "quality",
                    options=list(presets.LEVELS),
                    default=presets.HIGH,
                    tooltip=" ".join(f"{level.name}: {level.summary}" for level in presets.LEVELS_BY_NAME.values()),
                ),
                *_advanced(),
            ],
            outputs=[
                io.Model.Output(tooltip="The faster model. LoRA goes before it, torch.compile and the sampler behind."),
                io.String.Output("settings", tooltip="What was set, as the values of separate nodes, as JSON."),
            ],
        )

    @classmethod
    def execute(
        cls, model, quality, latent=None, pattern=True, forecast=True, timing=False, on_unsupported=rules.FALL_BACK
    ) -> io.NodeOutput:
        family, net = model_family.family_of(model), model.model.diffusion_model
        preset = presets.find_for(family, net, quality)
        asked = preset_rules.Asked(pattern, forecast, timing, on_unsupported)
        patched, made, left = preset_rules.install_preset(model, preset, asked)
        told = [_first_line(preset, family, net, made), *left, *_most(model, family, latent, made), preset.note]
        settings = {"quality": quality, "nodes": as_nodes.of_all(made.rules, made.forecast)}
        return io.NodeOutput(patched, json.dumps(settings), ui=ui.PreviewText(" ".join(filter(None, told))))


def _advanced() -> list:
    return [
        io.Boolean.Input(
            "pattern",
            default=True,
            advanced=True,
            tooltip="Where the level asks for one: attention to a part of the video, if that is faster here.",
        ),
        io.Boolean.Input(
            "forecast",
            default=True,
            advanced=True,
            tooltip="Where the level asks for it: some steps are forecast from the others instead of computed.",
        ),
        io.Boolean.Input(
            "timing", default=False, advanced=True, tooltip="Measures the time of every attention call for the report."
        ),
        rule_inputs.on_unsupported(advanced=True),
    ]


def _first_line(preset: Preset, family, net, made: preset_rules.Made) -> str:
    """Says in a sentence what will be done."""
    whose = f"{type(net).__name__}, a model this pack does not know" if family is None else family.name_of(net)
    return f"{preset.level} for {whose}: {preset_rules.sentence(preset, made)}."


def _most(model, family, latent, made: preset_rules.Made) -> list[str]:
    """Says the most that can be gained at this size, as far as it can be told."""
    if latent is None:
        return [CONNECT]
    tokens = model_family.tokens_of_latent(model, sampling_job.fitted(model, latent)["samples"])
    found = info.examine(model.model.diffusion_model, family, tokens)
    if found.share is None:
        return ["The most that it can gain is not known for this model."]
    most = info.step_speedup(found.share, float("inf"))
    said = [
        f"At this size, {found.tokens} tokens, self-attention is {100 * found.share:.0f} % of a step: if it cost "
        f"nothing, a step would be {most:.2f}x as fast."
    ]
    few = [rule.shape.min_tokens for rule in made.rules if rule.shape and found.tokens < rule.shape.min_tokens]
    return [*said, *(f"The pattern stays out: it gains from {least} tokens on." for least in few)]


NODES = (VideoAttentionBoost,)
