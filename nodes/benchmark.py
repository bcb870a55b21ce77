"""Time every kernel on a model's real calls."""

from datetime import date

import comfy.model_management
import comfy.sample
from comfy_api.latest import io, ui

from ..attention.plans.bench import to_text
from ..attention.plans.bench_file import to_json
from ..attention.plans.draw_bench import draw_trials
from .host import model_family, model_rules
from .runs import plans, sampling_job
from .runs.progress import Counted
from .widgets import image_output, sampler_inputs, search_words
from .widgets.node import REPORT, Node
from .widgets.once_more import once_more


class VideoAttentionBenchmark(Node):
    """Times every kernel on a MODEL's own calls."""

    TEXT = REPORT
    EXAMPLE = "Inside a model"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionBenchmark",
            display_name="Video Attention Benchmark (Time Every Kernel)",
            category="video attention/inspect",
            description=(
                "Finds the fastest attention kernel on your machine: runs one step of the model and times every "
                "kernel on its real calls, each shape once, beside ComfyUI's own: milliseconds and error against "
                "float32. The model stays as it is. This pack's own kernels, once seen right here, are open to auto."
            ),
            search_aliases=search_words.of("VideoAttentionBenchmark"),
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model as you would sample it."),
                io.Conditioning.Input("positive", tooltip="Any prompt: its length is part of the cross-attention."),
                io.Latent.Input("latent", tooltip="An empty latent of the size and length you want to know about."),
                sampler_inputs.fixed_seed("Of the noise that the step starts from."),
            ],
            outputs=[
                io.String.Output("table", tooltip="Markdown: one table for each role and shape."),
                io.Image.Output("picture", tooltip="Bars: how many times as fast as ComfyUI's own attention."),
                io.String.Output(
                    "json", tooltip="The same as JSON, with the GPU and versions, to share or to compare."
                ),
            ],
        )

    @classmethod
    @once_more
    def execute(cls, model, positive, latent, seed) -> io.NodeOutput:
        patched, bench = model_rules.add_bench(model)
        modules = model_family.count_sites(model)
        bench.show = Counted("Attention call", 1, modules).step if modules else None
        latent = sampling_job.fitted(model, latent)
        comfy.sample.sample(
            patched, sampling_job.noise_of(latent, seed), 1, 1.0, "euler", "simple", positive, positive,
            latent["samples"],
            noise_mask=latent.get("noise_mask"), seed=seed,
        )  # fmt: skip
        free = comfy.model_management.get_free_memory(comfy.model_management.get_torch_device())
        text = to_text(bench.trials, int(free), bench.left_out)
        picture = image_output.to_image(draw_trials(bench.trials))
        known = plans.blank(model)
        about = {"model": known.model, "device": known.device, "versions": dict(known.versions)}
        data = to_json(bench.trials, date=date.today().isoformat(), **about)
        return io.NodeOutput(text, picture, data, ui=ui.PreviewText(text))


NODES = (VideoAttentionBenchmark,)
