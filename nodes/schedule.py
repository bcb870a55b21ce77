"""See which rule holds at which step."""

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..attention.router import Router
from ..attention.sampling.draw_schedule import draw_schedule
from ..attention.sampling.table import tabulate, to_text
from . import _host, _sampler_inputs, _sampling, _sites


class VideoAttentionSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionSchedule",
            display_name="Video Attention Schedule",
            category="video attention/inspect",
            description=(
                "Draws what Video Attention Backend, Pattern and Strength on this model ask for at every step of the "
                "sampling, for every block and kind of attention, beside the noise levels. Nothing is run."
            ),
            search_aliases=["start percent", "end percent", "which steps", "sigma plot", "step table", "sigmas"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model as you would sample it."),
                _sampler_inputs.steps(),
                *_sampler_inputs.how(),
                _sampler_inputs.denoise(),
                io.Latent.Input(
                    "latent", optional=True, tooltip="For ltxv alone, whose noise levels depend on the clip's size."
                ),
                _sampler_inputs.own_sigmas(),
            ],
            outputs=[
                io.Image.Output("picture", tooltip="Steps to the right, blocks downwards, a panel for each role."),
                io.Sigmas.Output("sigmas", tooltip="The noise levels, for a sampler's sigmas."),
                io.String.Output("table", tooltip="The same as text, as shown on the node."),
            ],
        )

    @classmethod
    def execute(
        cls, model, steps, sampler_name, scheduler_name, denoise, latent=None, sigmas=None
    ) -> io.NodeOutput:  # fmt: skip
        line = "Noise levels: your own."
        if sigmas is None:
            # Without a latent LTXVScheduler takes 4096 tokens.
            fitted = None if latent is None else _sampling.fitted(model, latent)
            sigmas, line = _sampling.sigmas_of(model, sampler_name, scheduler_name, steps, denoise, fitted)
        table = _table(model, sigmas)
        text = f"{line}\n{to_text(table) or 'Nothing is known of the attention of this model.'}"
        picture = torch.from_numpy(np.asarray(draw_schedule(table), dtype=np.float32) / 255.0)[None]
        return io.NodeOutput(picture, sigmas, text, ui=ui.PreviewText(text))


def _table(model, sigmas: torch.Tensor):
    family, levels = _sites.family_of(model), sigmas.tolist()
    sites = () if family is None else family.sites(model.model.diffusion_model)
    router = model.model_options.get("transformer_options", {}).get(_host.SLOT)
    rules = router.rules if isinstance(router, Router) else ()
    to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    active = [tuple(_host._covers(rule, sigma, to_sigma, levels) for rule in rules) for sigma in levels[:-1]]
    return tabulate(((role, block) for _, role, block in sites), rules, active, levels)


NODES = (VideoAttentionSchedule,)
