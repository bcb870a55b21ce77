"""Calibrate a plan for an error budget, save it, load it."""

from dataclasses import replace

import comfy.samplers
from comfy_api.latest import io, ui

from ..attention.plans import draw_plan, plan_data
from ..attention.plans.spread import QUANTILE
from .host import forecast, model_rules
from .runs import calibration, plan_rules, plans, preferences, sampling_job, settling
from .runs.plans import FOLDER
from .runs.progress import Bar
from .runs.repeated_sampling import Sampling
from .widgets import calibrate_inputs, image_output, search_words
from .widgets.calibrate_inputs import BUDGETS, CUSTOM
from .widgets.idle import idle, none_of
from .widgets.node import NOTE, REPORT, Node
from .widgets.once_more import once_more

CATEGORY = "video attention/plan"
PLAN = io.Custom("VIDEO_ATTENTION_PLAN")


class VideoAttentionCalibrate(Node):
    """Finds the fastest plan within a budget of error."""

    TEXT = REPORT
    VIEW = "plan"
    COUNTS_ATTENTION = True
    EXAMPLE = "Calibrate and share a plan"
    IDLE = (idle("custom_budget", when=(none_of("budget", CUSTOM),)),)

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionCalibrate",
            display_name="Video Attention Calibrate (Error Budget)",
            category=CATEGORY,
            description=(
                "Finds what is fastest for each part of the model and of the sampling and keeps the final latent "
                "within an error budget: kernels, patterns, attention outputs kept for some steps, whole steps "
                "forecast. Measures on your own prompt and size: it samples once for every choice worth trying. What "
                "an interrupt stopped goes on when you queue again."
            ),
            search_aliases=search_words.of("VideoAttentionCalibrate"),
            is_output_node=True,
            inputs=calibrate_inputs.inputs(),
            outputs=[
                io.Model.Output(tooltip="The model with the plan applied."),
                PLAN.Output("plan", tooltip="What was chosen. Save it with Video Attention Save Plan."),
                io.Image.Output(
                    "picture", tooltip="Error against time of everything that was tried, the choice marked."
                ),
                io.String.Output(
                    "info", tooltip="The choice in words, predicted and realised error, what was left out."
                ),
            ],
        )

    @classmethod
    @once_more
    def execute(
        cls, model, positive, negative, latent, candidates, budget, custom_budget, block_groups, step_ranges, end_error,
        seeds, seed, steps, cfg, sampler_name, scheduler_name, more_prompts=None, memory_budget=0,
    ) -> io.NodeOutput:  # fmt: skip
        job, line = _job(model, positive, negative, latent, seed, steps, cfg, sampler_name, scheduler_name)
        others = tuple([one] for one in more_prompts or ())
        sampling = Sampling(job, plans.remembered(job, *others), _bar(), others=others)
        how = BUDGETS.get(budget, custom_budget), block_groups, step_ranges, end_error, seeds, memory_budget
        plan, measured, settled = calibrate(sampling, candidates, *how)
        plan = replace(plan, sampling=f"{sampler_name}, cfg {cfg:g}, {line}"[:200])
        text = draw_plan.to_text(plan, measured, settled)
        image = image_output.to_image(draw_plan.draw_plan(measured, settled.choice))
        shown = {**ui.PreviewText(text).as_dict(), "plan": (plan_data.as_data(plan, measured, settled.choice),)}
        return io.NodeOutput(plan_rules.install_plan(model, plan)[0], plan, image, text, ui=shown)


def _job(model, positive, negative, latent, seed, steps, cfg, sampler_name, scheduler_name) -> tuple:
    """Makes the Job and a line about its noise levels.

    Raises ValueError for a MODEL that is not as it would be without this pack.
    """
    if model_rules.rules_of(model) or forecast.spans_of(model):
        raise ValueError(
            "model: nodes of this pack have changed its attention already, or forecast its steps. Connect the model "
            "from before them, or put Video Attention Clear in between; Video Attention Strength can follow behind."
        )
    latent = sampling_job.fitted(model, latent)
    sigmas, line = sampling_job.sigmas_of(model, sampler_name, scheduler_name, steps, 1.0, latent)
    sampler, noise = comfy.samplers.sampler_object(sampler_name), sampling_job.noise_of(latent, seed)
    return sampling_job.Job(model, positive, negative, cfg, sampler, sigmas, latent, noise, seed), line


def _bar():
    bar = Bar(1)
    return lambda done, total: bar.to(done, total)


def calibrate(
    sampling: Sampling, kind: str, budget: float, groups: int, parts: int, ends: str, seeds: int, memory: int = 0
) -> tuple:
    """Measures and chooses a plan. Returns the Plan, what was Measured and what Settled.

    kind: one of plans.KINDS.
    budget: largest relative L2 of the final latent, for QUANTILE of all prompts.
    groups, parts, ends, seeds: as of calibration.measure.
    memory: most MiB that one attention call may take; 0: no limit.
    """
    candidates = [candidate.within(memory) for candidate in plans.candidates(kind)]
    measured = calibration.measure(sampling, candidates, groups, parts, ends, seeds, plans.forecasts(kind))
    settled = settling.settle(sampling, measured, budget)
    choice = settled.choice
    plan = replace(
        plans.blank(sampling.job.model, sampling.job.latent["samples"]),
        budget=budget, error=choice.error, realised=settled.errors[0], seconds=choice.seconds,
        exact_seconds=sum(found[0].seconds for found in measured.options.values()),
        steps=settling.plan_rules_of(choice, measured), quantile=QUANTILE, whole_seconds=choice.whole,
        whole_exact_seconds=sum(found[0].seconds for found in measured.steps.values()),
        forecasts=settling.plan_forecasts_of(choice, measured),
    )  # fmt: skip
    return plan, measured, settled


class VideoAttentionSavePlan(Node):
    """Keeps a plan as a file."""

    TEXT = NOTE
    EXAMPLE = "Calibrate and share a plan"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionSavePlan",
            display_name="Video Attention Save Plan",
            category=CATEGORY,
            description=(
                f"Keeps a plan as JSON in user/{FOLDER}. It holds numbers and names only and is safe to share. With "
                "the model, also what plain ComfyUI understands of it, as a LoRA."
            ),
            search_aliases=search_words.of("VideoAttentionSavePlan"),
            is_output_node=True,
            inputs=[
                PLAN.Input("plan", tooltip="From Video Attention Calibrate or Load Plan."),
                io.String.Input(
                    "filename",
                    default="plan",
                    tooltip="Letters, digits, spaces, - and _. A plan of that name is replaced.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that the plan is for: also writes a small LoRA with the part of the plan that "
                    "plain ComfyUI understands, for its own LoRA loaders.",
                ),
            ],
            outputs=[
                io.String.Output("path", tooltip="The file."),
                io.String.Output("info", tooltip="What was written, and what plain ComfyUI cannot be told."),
            ],
        )

    @classmethod
    def validate_inputs(cls, filename="plan"):
        """Gives True, or one sentence about a file name that cannot be kept on every system."""
        # Before anything runs: what is behind it may take minutes. A linked widget has no value yet.
        return filename is None or plans.wrong_name(filename) or True

    @classmethod
    def execute(cls, plan, filename, model=None) -> io.NodeOutput:
        path = plans.path_of(filename)
        plans.write(plan, path)
        said = [] if model is None else preferences.write(plan, model, path.stem)
        text = "\n".join((f"{path.name} in user/{FOLDER}", *said))
        return io.NodeOutput(str(path), text, ui=ui.PreviewText(text))


class VideoAttentionLoadPlan(Node):
    """Applies a plan's file to a MODEL."""

    TEXT = REPORT
    COUNTS_ATTENTION = True
    EXAMPLE = "Calibrate and share a plan"

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionLoadPlan",
            display_name="Video Attention Load Plan",
            category=CATEGORY,
            description="Applies a saved plan to a model, and says in a sentence each where it does not quite fit.",
            search_aliases=search_words.of("VideoAttentionLoadPlan"),
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to apply it to. It stays unchanged."),
                io.Combo.Input(
                    "plan_name",
                    options=[*(p.name for p in sorted(plans.folder().glob("*.json"))), *preferences.names()]
                    or ["plan.json"],
                    tooltip=f"A file of user/{FOLDER}, or a LoRA with preferences that Save Plan wrote. Press R to see "
                    "new ones.",
                ),
                io.Latent.Input("latent", optional=True, tooltip="What you will sample: says if the size differs."),
            ],
            outputs=[
                io.Model.Output(tooltip="The model with the plan applied, as far as it fits."),
                PLAN.Output("plan", tooltip="The plan as it is in the file."),
                io.String.Output("info", tooltip="What does not fit, a sentence each."),
            ],
        )

    @classmethod
    def validate_inputs(cls, plan_name=""):
        """Gives True, or one sentence about a plan that is not there."""
        # A plan saved after the page was loaded is in no list yet. A linked widget has no value yet.
        return plan_name is None or preferences.is_one(plan_name) or plans.wrong_name(plan_name) or True

    @classmethod
    def fingerprint_inputs(cls, plan_name="", **others):
        """Gives what changes when the plan's file does, so that ComfyUI reads it again."""
        if preferences.is_one(plan_name):
            path = preferences.path_of(plan_name)
        else:
            path = None if plans.wrong_name(plan_name) else plans.path_of(plan_name)
        return path.stat().st_mtime_ns if path is not None and path.exists() else 0

    @classmethod
    def execute(cls, model, plan_name, latent=None) -> io.NodeOutput:
        if preferences.is_one(plan_name):
            plan, read = preferences.read(plan_name, model)
        else:
            plan, read = plans.read(plans.path_of(plan_name)), []
        samples = None if latent is None else sampling_job.fitted(model, latent)["samples"]
        fits, said = plan.fitting(plans.blank(model, samples))
        said = [*read, *said, *plans.missing(fits), *fits.limits]
        planned, more = plan_rules.install_plan(model, fits)
        text = "\n".join((f"{len(fits.steps)} of {len(plan.steps)} rules applied.", *more, *said))
        return io.NodeOutput(planned, plan, text, ui=ui.PreviewText(text))


NODES = (VideoAttentionCalibrate, VideoAttentionSavePlan, VideoAttentionLoadPlan)
