"""Guide a model by its own attention."""

from comfy_api.latest import io, ui

from ..attention import guidance
from ..attention.core.site import AUDIO_SELF, CROSS, SELF
from ..attention.guidance import ENHANCE, nag, pag, perturb, riflex, stg
from ..attention.guidance.strength import Strength
from ..attention.routing import rules
from .host import guidance_pass, model_rules, nag_prompt, riflex_rope
from .widgets import guidance_inputs, rule_inputs, search_words
from .widgets.idle import switched_off
from .widgets.node import NOTE, Node

CATEGORY = "video attention/guidance"
PASS_COST = "Cost: one more model call in each covered step: 3 instead of 2 with CFG, 2 instead of 1 at cfg 1."


def _off(model, name: str) -> io.NodeOutput:
    return io.NodeOutput(model, ui=ui.PreviewText(f"{name} is off: the model is as it came."))


def _weaken(model, name: str, how: str, blocks, start: float, end: float, audio: bool, usual, guide) -> io.NodeOutput:
    """Makes the output of a node with an extra pass. usual: (family, its model, blocks) -> block for none."""
    spans = rule_inputs.spans_of(blocks, start, end)
    family, count = guidance_pass.reachable(model, SELF)
    spans = spans or ((usual(family, model.model.diffusion_model, count),) * 2,)
    if all(first >= count for first, _ in spans):
        raise ValueError(f"blocks: {blocks!r} names none of this model's blocks, which are 0-{count - 1}.")
    extra = perturb.Perturbation(name, how)
    roles = (SELF, AUDIO_SELF) if audio else (SELF,)
    made = tuple(rules.Rule("", role, spans, start, end, perturbation=extra) for role in roles)
    weak = ",".join(f"{a}" if a == b else f"{a}-{'' if b is None else b}" for a, b in spans)
    text = f"{model_rules.status(model)}\n{name}: block {weak} of 0-{count - 1}. {PASS_COST}"
    return io.NodeOutput(guidance_pass.install_pass(model, made, guide), ui=ui.PreviewText(text))


class VideoAttentionSpatiotemporalGuidance(rule_inputs.ChecksBlocks):
    """Guides by a pass without self-attention in some blocks (arXiv:2411.18664)."""

    TEXT = NOTE
    COUNTS_ATTENTION = True
    IDLE = switched_off("scale", "mode", "rescale", "audio", *guidance_inputs.WHERE)

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionSpatiotemporalGuidance",
            display_name="Video Attention Spatiotemporal Guidance (STG)",
            category=CATEGORY,
            description=(
                "Clearer detail and motion, also at cfg 1: predicts once more with self-attention of one block "
                f"switched off and moves away from that (spatiotemporal skip guidance, arXiv 2411.18664). {PASS_COST}"
            ),
            search_aliases=search_words.of("VideoAttentionSpatiotemporalGuidance"),
            inputs=[
                rule_inputs.model(),
                guidance_inputs.enabled(),
                guidance_inputs.number(
                    "scale", 1.0, 0.0, 20.0, "How far away from the weaker model. 0 is off; 0.5 to 2 is usual."
                ),
                io.Combo.Input(
                    "mode",
                    options=list(perturb.HOWS),
                    default=perturb.VALUES,
                    tooltip="values: each token keeps its own value, the paper's STG-A. skip: the attention adds "
                    "nothing.",
                ),
                guidance_inputs.number(
                    "rescale", 0.7, 0.0, 1.0,
                    "How far the contrast is brought back to that before guidance. 0 leaves it, 1 restores it.",
                ),
                guidance_inputs.audio(),
                *guidance_inputs.blocks_and_steps("Empty: the usual one, shown on the node."),
            ],
            outputs=guidance_inputs.guided_model(),
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, enabled, scale, mode, rescale, audio, blocks, start_percent, end_percent
    ) -> io.NodeOutput:  # fmt: skip
        if not enabled or scale == 0.0:
            return _off(model, stg.NAME)

        def guide(guided, strong, weak):
            return stg.guide(guided, strong, weak, scale, rescale)

        def usual(family, network, count):
            return stg.usual_block(count, family.skipped_block(network))

        return _weaken(model, stg.NAME, mode, blocks, start_percent, end_percent, audio, usual, guide)


class VideoAttentionPerturbedAttentionGuidance(rule_inputs.ChecksBlocks):
    """Guides by a pass whose tokens attend to themselves alone (arXiv:2403.17377)."""

    TEXT = NOTE
    COUNTS_ATTENTION = True
    IDLE = switched_off("scale", "audio", *guidance_inputs.WHERE)

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionPerturbedAttentionGuidance",
            display_name="Video Attention Perturbed Attention Guidance (PAG)",
            category=CATEGORY,
            description=(
                "Cleaner structure in video models, also at cfg 1: predicts once more with tokens that attend to "
                "themselves alone and moves away from that (perturbed attention guidance, arXiv 2403.17377). "
                f"{PASS_COST}"
            ),
            search_aliases=search_words.of("VideoAttentionPerturbedAttentionGuidance"),
            inputs=[
                rule_inputs.model(),
                guidance_inputs.enabled(),
                guidance_inputs.number(
                    "scale", 3.0, 0.0, 100.0, "How far away from the perturbed model. 0 is off; 1 to 3 is usual."
                ),
                guidance_inputs.audio(),
                *guidance_inputs.blocks_and_steps("Empty: the middle one."),
            ],
            outputs=guidance_inputs.guided_model(),
        )

    @classmethod
    def execute(cls, model, enabled, scale, audio, blocks, start_percent, end_percent) -> io.NodeOutput:
        if not enabled or scale == 0.0:
            return _off(model, pag.NAME)

        def guide(guided, strong, weak):
            return pag.guide(guided, strong, weak, scale)

        def usual(family, network, count):
            return pag.usual_block(count)

        how = perturb.VALUES
        return _weaken(model, pag.NAME, how, blocks, start_percent, end_percent, audio, usual, guide)


class VideoAttentionNormalizedAttentionGuidance(rule_inputs.ChecksBlocks):
    """Guides by a negative prompt inside attention to the prompt (arXiv:2505.21179)."""

    TEXT = NOTE
    COUNTS_ATTENTION = True
    IDLE = switched_off("nag_scale", "nag_tau", "nag_alpha", "audio", *guidance_inputs.WHERE)

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionNormalizedAttentionGuidance",
            display_name="Video Attention Normalized Attention Guidance (NAG)",
            category=CATEGORY,
            description=(
                "A negative prompt that works at cfg 1 and with distilled models, inside attention to the prompt "
                "(normalised attention guidance, arXiv 2505.21179). No extra model call: attention to the prompt "
                "runs twice. For LTX-Video, LTX-2, Wan and Cosmos."
            ),
            search_aliases=search_words.of("VideoAttentionNormalizedAttentionGuidance"),
            inputs=[
                rule_inputs.model(),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What to move away from. Not connected: the sampler's own negative prompt.",
                ),
                guidance_inputs.enabled(),
                guidance_inputs.number(
                    "nag_scale", 11.0, 1.0, 100.0, "How far away from the negative prompt. 1 is off.", step=0.1
                ),
                guidance_inputs.number(
                    "nag_tau", 2.5, 1.0, 10.0, "How many times stronger than before the features may become."
                ),
                guidance_inputs.number(
                    "nag_alpha", 0.25, 0.0, 1.0, "How much of the guided features is mixed in. 0 is off.", step=0.01
                ),
                io.Boolean.Input("audio", default=True, tooltip="In models with sound: also for the sound."),
                *rule_inputs.blocks_and_steps(),
            ],
            outputs=guidance_inputs.guided_model(),
        )

    @classmethod
    def execute(
        cls, model, enabled, nag_scale, nag_tau, nag_alpha, audio, blocks, start_percent, end_percent, negative=None
    ) -> io.NodeOutput:  # fmt: skip
        asked = nag.Nag(nag_scale, nag_tau, nag_alpha)
        if not enabled or asked.idle:
            return _off(model, nag.NAME)
        spans = rule_inputs.spans_of(blocks, start_percent, end_percent)
        family, count = guidance_pass.reachable(model, CROSS)
        if family.mixed_prompt is not None:
            raise ValueError(f"model: {nag.NAME} cannot guide {family.name}: {family.mixed_prompt}. Bypass this node.")
        role = rules.ALL_ROLES if audio else CROSS
        rule = rules.Rule("", role, spans, start_percent, end_percent, nag=asked)
        text = (
            f"{model_rules.status(model, rule)}\n{nag.NAME}. Cost in each covered step: {guidance.find(nag.NAME).cost}."
        )
        return io.NodeOutput(nag_prompt.install_negative(model, rule, negative), ui=ui.PreviewText(text))


class VideoAttentionEnhance(rule_inputs.ChecksBlocks):
    """Strengthens what self-attention brings in from other frames (arXiv:2502.07508)."""

    TEXT = NOTE
    COUNTS_ATTENTION = True
    IDLE = switched_off("weight", *guidance_inputs.WHERE)

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionEnhance",
            display_name="Video Attention Cross-Frame Emphasis (Enhance-A-Video)",
            category=CATEGORY,
            description=(
                "Steadier, more detailed clips with no extra model call: cross-frame emphasis strengthens what self-"
                "attention brings in from other frames (Enhance-A-Video, arXiv 2502.07508). The same as cross_frame "
                "of Video Attention Strength."
            ),
            search_aliases=search_words.of("VideoAttentionEnhance"),
            inputs=[
                rule_inputs.model(),
                guidance_inputs.enabled(),
                guidance_inputs.number(
                    "weight", 4.0, 0.0, 100.0, "The paper's temperature. 0 is off, 1 to 5 is usual.", step=0.1
                ),
                *rule_inputs.blocks_and_steps(),
            ],
            outputs=guidance_inputs.guided_model(),
        )

    @classmethod
    def execute(cls, model, enabled, weight, blocks, start_percent, end_percent) -> io.NodeOutput:
        if not enabled or weight == 0.0:
            return _off(model, ENHANCE)
        spans = rule_inputs.spans_of(blocks, start_percent, end_percent)
        guidance_pass.reachable(model, SELF)
        rule = rules.Rule("", SELF, spans, start_percent, end_percent, strength=Strength(cross_frame=weight))
        text = (
            f"{model_rules.status(model, rule)}\n{ENHANCE}. Cost in each covered step: {guidance.find(ENHANCE).cost}."
        )
        return io.NodeOutput(model_rules.add_rule(model, rule), ui=ui.PreviewText(text))


class VideoAttentionRiflex(Node):
    """Lets a MODEL make longer clips than it was trained for (arXiv:2502.15894)."""

    TEXT = NOTE
    IDLE = switched_off("frequency", "trained_frames")

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionRiflex",
            display_name="Video Attention RIFLEx (Longer Clips)",
            category=CATEGORY,
            description=(
                "Clips up to about twice as long as the model was trained on, without starting over (RIFLEx, arXiv "
                "2502.15894). For Wan, HunyuanVideo and CogVideoX. Costs nothing; clips of trained length stay as "
                "they are."
            ),
            search_aliases=search_words.of("VideoAttentionRiflex"),
            inputs=[
                rule_inputs.model(),
                guidance_inputs.enabled(),
                io.Int.Input(
                    "frequency",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Which frequency over time to slow down, the paper's k: 1 is the fastest. 0: the one known "
                    "for the model.",
                ),
                io.Int.Input(
                    "trained_frames",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip="Frames of the clips in training; a clip must be longer to change. 0: as known.",
                ),
            ],
            outputs=guidance_inputs.guided_model(),
        )

    @classmethod
    def execute(cls, model, enabled, frequency, trained_frames) -> io.NodeOutput:
        if not enabled:
            return _off(model, riflex.NAME)
        number, frames, text = riflex_rope.lengthening(model, frequency, trained_frames)
        return io.NodeOutput(riflex_rope.install_riflex(model, number, frames), ui=ui.PreviewText(text))


NODES = (
    VideoAttentionSpatiotemporalGuidance,
    VideoAttentionPerturbedAttentionGuidance,
    VideoAttentionNormalizedAttentionGuidance,
    VideoAttentionEnhance,
    VideoAttentionRiflex,
)
