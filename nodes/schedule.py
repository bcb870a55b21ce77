"""See which rule holds at which step, and find the percent of a step."""

import comfy.samplers
import torch
from comfy_api.latest import io, ui

from ..attention.inspect.draw_schedule import draw_schedule
from ..attention.inspect.schedule import tabulate, to_text
from ..attention.routing import host_kernel
from ..attention.sampling import schedule
from .host import counted_runs, foresight, model_family, model_rules, site_hooks
from .runs import sampling_job
from .widgets import image_output, sampler_inputs, search_words
from .widgets.idle import own_levels
from .widgets.node import REPORT, Node


class VideoAttentionSchedule(Node):
    """Shows which kernel each block will run in each step."""

    TEXT = REPORT
    EXAMPLE = "Inside a model"
    IDLE = (own_levels("steps", "scheduler_name", "denoise"),)

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionSchedule",
            display_name="Video Attention Schedule (Steps, Blocks)",
            category="video attention/inspect",
            description=(
                "Shows what Video Attention Backend, Sparse Pattern, Strength and Reuse on this model ask for at every "
                "step of the sampling, for every block and kind of attention, and which steps are forecast, beside the "
                "noise levels. Gives the percent of the steps that you choose, for those nodes. Nothing is run."
            ),
            search_aliases=search_words.of("VideoAttentionSchedule"),
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model as you would sample it."),
                sampler_inputs.steps(),
                *sampler_inputs.how(),
                sampler_inputs.denoise(),
                io.Latent.Input(
                    "latent", optional=True, tooltip="For ltxv alone, whose noise levels depend on the clip's size."
                ),
                sampler_inputs.own_sigmas(),
                *_chosen_steps(),
            ],
            outputs=[
                io.Image.Output("picture", tooltip="Steps to the right, blocks downwards, a panel for each role."),
                io.Sigmas.Output("sigmas", tooltip="The noise levels, for a sampler's sigmas."),
                io.String.Output("table", tooltip="The same as text, as shown on the node."),
                io.Float.Output("start_percent", tooltip="Where first_step begins: for start_percent of other nodes."),
                io.Float.Output("end_percent", tooltip="Where last_step ends: for end_percent of other nodes."),
            ],
        )

    @classmethod
    def execute(
        cls, model, steps, sampler_name, scheduler_name, denoise, first_step=1, last_step=10000, latent=None,
        sigmas=None,
    ) -> io.NodeOutput:  # fmt: skip
        line = "Noise levels: your own."
        if sigmas is None:
            # Without a latent LTXVScheduler takes 4096 tokens.
            fitted = None if latent is None else sampling_job.fitted(model, latent)
            sigmas, line = sampling_job.sigmas_of(model, sampler_name, scheduler_name, steps, denoise, fitted)
        foreseen, more = foresight.of(model, comfy.samplers.sampler_object(sampler_name), sigmas)
        table = _table(model, sigmas, foreseen)
        chosen, percents, said = _choose(model, sigmas, first_step, last_step)
        known = to_text(table) if table.roles else f"{to_text(table)}\nNothing is known of the attention of this model."
        text = "\n".join((line, *said, *more, known.strip()))
        picture = draw_schedule(table, chosen=chosen if said else None)
        return io.NodeOutput(image_output.to_image(picture), sigmas, text, *percents, ui=ui.PreviewText(text))


def _chosen_steps() -> list:
    first = "The first of the steps that start_percent and end_percent stand for, from 1."
    return [
        io.Int.Input("first_step", default=1, min=1, max=10000, optional=True, tooltip=first),
        io.Int.Input(
            "last_step", default=10000, min=1, max=10000, optional=True, tooltip="The last of them, itself among them."
        ),
    ]


def _choose(model, sigmas: torch.Tensor, first_step: int, last_step: int) -> tuple:
    """Finds the chosen steps from 0, their percents, and a line about them, none when it is all steps."""
    steps = max(0, len(sigmas) - 1)
    chosen = first_step - 1, min(last_step, steps) - 1
    if first_step == 1 and last_step >= steps:
        return chosen, (0.0, 1.0), []
    if not chosen[0] <= chosen[1]:
        raise ValueError(f"first_step: {first_step} is after last_step, {last_step}, or after all {steps} steps.")
    to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    percents = schedule.percent_range(sigmas.tolist(), *chosen, to_sigma)
    which = f"Steps {first_step} to {chosen[1] + 1}"
    return chosen, percents, [f"{which}: start_percent {percents[0]:.4g}, end_percent {percents[1]:.4g}."]


def _table(model, sigmas: torch.Tensor, foreseen):
    family, levels = model_family.family_of(model), sigmas.tolist()
    sites = () if family is None else tuple(family.sites(model.model.diffusion_model))
    holders = site_hooks.holders(model)
    hosts = {
        (role, block): host_kernel.host_name(None, holders[module].function)
        for module, role, block in sites
        if module in holders and holders[module].function is not None
    }
    rules = model_rules.rules_of(model)
    to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    active = [tuple(counted_runs.stretch_of(rule, sigma, to_sigma, levels) for rule in rules) for sigma in levels[:-1]]
    return tabulate(((role, block) for _, role, block in sites), rules, active, levels, hosts, foreseen)


NODES = (VideoAttentionSchedule,)
