"""Where the values of the table come from. What others measured is told with the model, size and card it was for."""

from .spec import NOT_ON_A_GPU, Source

OTHERS = f"by others; {NOT_ON_A_GPU}"

# --- kernels ---------------------------------------------------------------------------------------------------------
ROUNDING = Source(
    "Kernels without quantisation are 0.001 to 0.003 off float32 attention in 16 bit; the best INT8 ones 0.013. Only "
    "the former are within 0.005.",
    "python -m benchmarks.attention",
    f"float32 on a CPU by us; {NOT_ON_A_GPU}",
)
GOOD_INT8 = Source(
    "INT8 attention is off by 0.0138 to 0.0153 in comfy-kitchen (AMD RDNA3), by 0.0129 to 0.0135 in SageAttention "
    "1.0.6; keys with channels that stand out raise Sage's to 0.036. Within 0.02 are the good ones alone.",
    "https://github.com/Comfy-Org/comfy-kitchen/pull/104",
    f"comfy-kitchen by others, SageAttention in Triton's interpreter by us; {NOT_ON_A_GPU}",
)
GATE_INT8 = Source(
    "comfy-kitchen's own tests let its INT8 attention be off by 0.03.",
    "https://github.com/Comfy-Org/comfy-kitchen/pull/104",
    OTHERS,
)
ANY_INT8 = Source(
    "SageAttention is off by 0.036 where channels stand out, 0.039 where it does not smooth keys. SageAttention's "
    "authors see no loss in the video metrics of HunyuanVideo, Mochi and CogVideoX.",
    "https://arxiv.org/abs/2411.10958",
    f"the errors in Triton's interpreter by us; {NOT_ON_A_GPU}",
)
H3_INT8 = Source(
    "With SageAttention in place of FlashAttention the same forecast falls from 30.82 to 23.56 dB on MiniMax-H3, whose "
    "channels stand out; ComfyUI's documents advise comfy-kitchen's INT8 attention against such artefacts.",
    "https://github.com/sgl-project/sglang/pull/35684 and https://github.com/Comfy-Org/docs/pull/1698",
    OTHERS,
)

# --- patterns --------------------------------------------------------------------------------------------------------
TOP_BLOCKS = Source(
    "Blocks chosen by pooled scores, the others by their mean: without the mean the error of an adaptive choice rose "
    "from 0.085 to 0.44 on made-up, smooth video; near tokens in one block lower it to 0.079.",
    "https://arxiv.org/abs/2607.24027",
    f"on a CPU by us, comfy-kitchen's eager sol_attn; {NOT_ON_A_GPU}",
)
FEW_TOKENS = Source(
    "ComfyUI's Model Sparse Attention leaves fewer than 12288 tokens dense: below, choosing costs more than it saves.",
    "https://github.com/Comfy-Org/ComfyUI/pull/16072",
    OTHERS,
)
H3_RANGE = Source(
    "From 40 to 90 % of the sampling gives better motion and less flicker on the closing frames; rows of text, sound "
    "and references stay exact, as they do in every pattern here.",
    "https://github.com/Comfy-Org/docs/pull/1698",
    OTHERS,
)
H3_DENSITY_30 = Source(
    "30 % of the blocks: 27.07 dB at 1.44 times the speed (re-blocked, 768p, 240 frames, 20 steps, RTX PRO 6000). "
    "Adaptive choice at 16 %, the first 10 of 20 steps dense: 33.3 dB at 1.10 times (5 s, 4 x RTX PRO 5000).",
    "https://huggingface.co/Aazeus/Spark-H3 and https://github.com/vllm-project/vllm-omni/pull/5851",
    OTHERS,
)
H3_DENSITY_15 = Source(
    "H3-Optimizations keeps 15 % unless told otherwise; 30 % was 1.93 times as fast a step (RTX 4070, 1376 x 768, "
    "10 s). At 10 %, re-blocked: 23.30 dB at 1.73 times the speed (RTX PRO 6000).",
    "https://github.com/Zironic/H3-Optimizations and https://huggingface.co/Aazeus/Spark-H3",
    OTHERS,
)
WAN_RANGE = Source(
    "20 % of the steps and the first block dense on Wan 2.1 14B; radial attention leaves a quarter of its steps dense. "
    "On MiniMax-H3 no dense step at all was 20.9 dB, 5 of 20 were 30.6: the first steps decide.",
    "https://arxiv.org/abs/2607.24027, https://arxiv.org/abs/2506.19852 and "
    "https://github.com/vllm-project/vllm-omni/pull/5851",
    OTHERS,
)
WAN_DENSITY_30 = Source(
    "Wan 2.1 14B at 720p: 29.5 % density 25.81 dB at 1.60 times the speed (SVG2).",
    "https://arxiv.org/abs/2505.18875",
    OTHERS,
)
WAN_DENSITY_15 = Source(
    "Wan 2.1 14B at 720p: 12.9 % density 23.68 dB at 1.89 times the speed (SVG2 Turbo), 15 % 20.59 dB at 2.02 times "
    "(Sol-Attn).",
    "https://arxiv.org/abs/2505.18875 and https://arxiv.org/abs/2607.24027",
    OTHERS,
)
WAN_SMALL = Source(
    "Nobody has published a pattern on 5B, so it keeps more than 14B, where 29.5 % is 25.81 dB. There is less to gain: "
    "its attention is 54 % of a step's arithmetic at 1280 x 704 and 121 frames, and at 768 x 512 it stays dense.",
    "https://arxiv.org/abs/2505.18875",
    OTHERS,
)
HUNYUAN_DENSITY_25 = Source(
    "HunyuanVideo: 25.5 % density 30.45 dB at 2.30 times the speed (SVG2); 1.5 has no published figure of a pattern "
    "that needs no training.",
    "https://arxiv.org/abs/2505.18875",
    OTHERS,
)
HUNYUAN_DENSITY_15 = Source(
    "HunyuanVideo, 129 frames: 15 % density 25.21 dB at 2.12 times the speed (Sol-Attn).",
    "https://arxiv.org/abs/2607.24027",
    OTHERS,
)
HUNYUAN_RANGE = Source(
    "20 % of the steps and the first block dense on HunyuanVideo.", "https://arxiv.org/abs/2607.24027", OTHERS
)
LTX_DENSITY = Source(
    "LTX-2.3 at 1080p: 15 % density in the second stage alone 25.69 dB at 1.9 times the speed (Sol-Attn). Below 1080p "
    "attention is 18 to 32 % of a step: there is less to gain.",
    "https://arxiv.org/abs/2607.24027",
    OTHERS,
)
LTX_RANGE = Source(
    "A second stage begins at sigma 0.85, which is 58 % of the schedule, and is covered whole; of one stage the first "
    "fifth or quarter stays dense, as for Wan.",
    "https://arxiv.org/abs/2607.24027",
    OTHERS,
)
H3_RAMP = Source(
    "Denser early, sparser late: H3-Optimizations falls from 50 to 15 % unless told otherwise and saw no gain in dense "
    "late steps, sglang's list for 50 steps falls from 55 to 5 %.",
    "https://github.com/Zironic/H3-Optimizations and https://github.com/sgl-project/sglang/pull/34893",
    OTHERS,
)
LTX_RAMP = Source(
    "Sparser early, denser late, once the first fifth is dense: on the small demo model, of LTX's class, 25 to 75 % "
    "is 27.1 dB, 50 % throughout 25.6 and 75 to 25 % 24.5, at 52 % of the pairs each (8 clips, 20 steps). Wan2GP goes "
    "the same way on LTX-2 (https://github.com/deepbeepmeep/Wan2GP/pull/2289).",
    'python scripts/evaluate_patterns.py --model small --samples 8 --only "over time"',
    f"on a CPU by us, 2026-11-28; {NOT_ON_A_GPU}",
)
CONSTANT = Source(
    "Constant over the steps, as in every published figure of this family; how to change it over time nobody has "
    "measured there, and the small demo model and MiniMax-H3's users disagree. Blocks are not re-ordered by content "
    "here, so more of them are kept than in the figure.",
    "https://arxiv.org/abs/2505.18875",
    OTHERS,
)

# --- forecast --------------------------------------------------------------------------------------------------------
H3_FORECAST_30 = Source(
    "MiniMax-H3, 1344 x 768, 107 frames, 50 steps: 15 steps computed, then one of five, 30.82 dB at 1.85 times the "
    "speed of the same without (387.4 beside 718.5 s). A forecast is at most one in a row here.",
    "https://github.com/sgl-project/sglang/pull/35684",
    OTHERS,
)
H3_FORECAST_27 = Source(
    "MiniMax-H3, 1344 x 768, 107 frames, 50 steps: 11 steps computed, then one of five and fewer, 27.37 dB at 2.52 "
    "times the speed of the same without (285.3 beside 718.5 s).",
    "https://github.com/sgl-project/sglang/pull/35684",
    OTHERS,
)
SPECTRUM = Source(
    "14 of 50 steps computed: 4.67 times on Wan 2.1 14B, up to 4.56 times on HunyuanVideo. More steps are computed "
    "here, since clips of ComfyUI have 20.",
    "https://arxiv.org/abs/2603.01623",
    OTHERS,
)
FORECAST_LTX = Source(
    "On the demo model of scenes, which is of LTX's class, 2 clips of 20 steps: 14 computed are 47.7 dB (balanced), 11 "
    "are 40.1 dB (fast); with the pattern, whose percentages change under way, fewer are forecast. The pattern alone "
    "is 20 dB on its 2,304 tokens, few enough that the dial leaves them dense. Of LTX itself nothing is published.",
    "python -m benchmarks.presets --prompts 2",
    f"on a CPU by us, 2026-11-30; {NOT_ON_A_GPU}",
)
