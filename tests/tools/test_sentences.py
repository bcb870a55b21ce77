"""Every sentence that a node shows is there in Chinese, and the table has none that nothing says."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import host
import pytest
import said

from attention import families, patterns
from attention.backends import registry
from attention.core.site import ROLES
from attention.sparse import engine_registry

TABLE = host.ROOT / "web" / "sentences" / "zh.js"
# What the source makes with values that say something, as they are.
SAMPLES = {
    "7 mask": ("key mask", "dense mask", "none mask"),
    "scheduler 7": ("Usual: scheduler simple.", "Usual: 121 pictures at 24 a second, scheduler beta."),
    "7 attention 7 7, and 7 left alone by: 7.": (
        "1 attention call told no block, and was left alone by: sage.",
        "8 attention calls told nothing of themselves, as those of a second model without these nodes, and were left "
        "alone by: radial (flex), sage.",
    ),
    "7 for 7: 7.": ("high for Wan 2.2 5B: the fastest attention kernel within 2 % error of exact attention.",),
    "7, 7 left": ("Step 3 of 20, 12 s left", "Step 3 of 20, 2 min 5 s left", "Sampling 2 of 9, 1 h 2 min left"),
    "7 mask on CUDA": ("key mask on CUDA", "dense mask on CUDA"),
    " of 7": (),
    "7, 7: 77, each for 1/7 of the covered steps": ("keep, late: 20, 30 percent, each for 1/2 of the covered steps",
        "tau, late: 0.9, 0.8, each for 1/2 of the covered steps"),
    "made in software on": (),
    "not multiplied by": (),
    "7 reused (7).": ("Reuse every 2 steps: 4 of 8 self-attention calls reused (it failed).",),
    "7 reused.": (
        "Reuse every 2 steps: 4 of 8 cross-attention calls reused.",
        "Reuse every 2 steps: 4 of 8 attention calls reused.",
    ),
    " in the computer's memory": ("kept up to 3.1 of 9 MiB in the computer's memory",),
    ", which window 0 takes": (),
    ", a quarter of the window": (),
    "7; this model was trained with 77": (
        "A window is 57 pictures, 2.28 s at 25 a second; this model was trained with 121 pictures at 24 a second, "
        "which window 0 takes. The overlap is 9 pictures, 0.36 s, a quarter of the window.",
        "A window is 57 pictures, 2.28 s at 25 a second; this model was trained with 121 pictures at 24 a second.",
    ),
    "7. The overlap is 7 pictures, 7 s7.": ("The overlap is 9 pictures, 0.36 s.",),
    "7 instead of 7": (
        "Whole sampling 3.00 s instead of 4.00 s, 1.33x as fast; attention 2.00 s instead of 3.00 s, 1.50x as fast; "
        "error 0.012 of 0.030 allowed",
    ),
    "Whole sampling 7; attention": (),
    ", attention 7 (7 s of it, exact 7 s)": ("whole sampling 1.3x as fast, attention 1.4x (2 s of it, exact 3 s).",),
    "Nothing was forecast: ": (),
    "7 ran 7.": ("cuda:1 ran sdpa (12 calls), radial (flex) (4 calls).",),
    "7: one prompt each, as ComfyUI does.": ("On 2 GPUs (cuda:0, cuda:1): one prompt each, as ComfyUI does.",),
    "On one of the 7 in 7: 7.": ("On one of the GPUs in 2 evaluations: gpus is 1.",),
    "7: 7 tokens; each handed 7 to others in a step.": (
        "On 2 GPUs (cuda:0, cuda:1): 400 + 400 tokens; each handed 3.1 MiB to others in a step.",
        "On 2 GPUs (cuda:0, cuda:1): 400 + 400 tokens, 4 + 4 heads; each handed 3.1 MiB to others in a step.",
        "On 4 ComfyUIs (number 0, number 1, this one): 4 + 4 tokens, 4 + 4 heads in each of 2 groups, one for each "
        "prompt; each handed 3.1 MiB to others in a step.",
    ),
    "7 of 7 nodes": tuple(f"{number} of 21 nodes" for number in ("1st", "2nd", "3rd", "11th", "21st")),
    "fell back from 7, 7, 7 calls: 7": ("fell back from sage, self, 12 calls: it failed",),
}  # fmt: skip
# Put together of several parts, or what a value says, as reports have them.
MORE = (
    "Self-attention: 0 of 6 self-attention calls (900 video tokens, fewer than min_tokens).",
    "Sage: 4 of 80 attention calls (float32, and 2 more reasons).",
    "Backend sage: 4 of 80 temporal-attention calls (it failed).",
    "Host default (1st of 3 nodes): ComfyUI's own attention for all 12 self-attention calls, as chosen.",
    "Host default: ComfyUI's own attention for all 12 attention calls, as chosen.",
    "Sage (2nd of 3 nodes): another rule ran all 12 self-attention calls of its blocks and steps.",
    "Sage: another rule ran all 12 attention calls of its blocks and steps.",
    "Self-attention 1.43x as fast as ComfyUI's own (sdpa flash); about 8 % of the run saved, 3.1 s.",
    "Cross-attention: ComfyUI's own is as fast as the other kernel that can run here, so nothing is saved.",
    "Self-attention: ComfyUI's own is as fast as each of the 3 others that can run here.",
    "ComfyUI's own attention, not timed: turn timing on in a Video Attention Backend before the sampler to see what it "
    "takes.",
    "Not timed: turn timing on in KSampler to see how much faster sage is.",
    "LTXVModel, 2 windows of 4 x 8 x 16 tokens (time x height x width), 20 steps (40 model evaluations): 480 attention "
    "calls.",
    "Time: 20 steps in 61.20 s: the first 5.01 s, then 2.96 s each; 9.00 s of it in attention, 15%.",
    "All 20 attention calls were taken by an other override (Sage2), past every override.",
    "The 12 self-attention calls were taken by another node, past every override.",
    "**self-attention**, 1x32 heads (8 key heads), 1536x1536 tokens, head size 64, float32, mask: none",
    "output shape (1, 2) instead of (1, 3)", "scale 0.5, takes a positive one", "3.20 s, 15%", "5 tokens", "step 12",
    "3.20 s", "Sage: 4 of 80 cross-attention calls.", "3 attention calls",
    "ComfyUI's own",
    "(chosen)", "cross, 12 calls: it failed", "1 step", "Attention call 3 of 9, step 2 of 7",
    "Sage: 4 of 80 attention calls.",
    "  steps 1-2,4,6,8 (sigma 1 to 0.05): computed", "  step 3 (sigma 0.9 to 0.55): computed",
    "  steps 3,5 (sigma 0.9 to 0.55): adaptive: forecast taylor 1, 3 in a row",
    "  step 3 (sigma 0.9 to 0.55): adaptive: forecast taylor 1, 3 in a row, error 0.05",
    "No step is forecast: EasyCache or LazyCache is on it, which leaves evaluations out as well, and neither would "
    "know of the other. Bypass that node or this one.",
    "the model's output failed (RuntimeError: the model did not come to its last layer)",
    "sage cannot run here: needs cuda, the tensors are on cpu. ComfyUI's own attention runs in its place.",
    "sage cannot run here: needs cuda, the tensors are on cpu. The sampler will stop.",
    "Of KSampler.", "KSampler: not counted.", "Of KSampler (node 5) and KSampler (node 7).",
    "NaN or Inf in step 3 of 20: this is the prediction of the last step that was finished.",
    "cuda:1: 3 calls fell back: it failed.", "Show 3 advanced inputs", "Hide 3 advanced inputs",
    "Show 1 advanced input", "Hide 1 advanced input", "the token at frame 3",
    "1 window over 24 latent frames, most visible seam endless",
    "In 4 of 8 attention calls keys went around 2 groups of 2: 1.2 MB of that in a step.",
    "In 4 of 8 attention calls keys were gathered from all 3: 1.2 MB of that in a step.",
    "identity drift", "Sampling: 3 steps in 2.3 s.", "Tokens: video 36, text by the prompt, audio 12.",
    "Tokens: text 12.",
    "planned: 26.5 dB", "sage in steps, 0-100 %",
    "4 windows of 4 x 3 x 4 and 5 x 3 x 4 tokens (time x height x width)",
    "text: 3 tokens", "image: 3 tokens", "audio: 3 tokens",
    *(f"Step 3 of 20 of the {place}" for place in ("first model", "second model", "first stage", "second stage")),
    *(f"{how} {when}." for how in ("Cancelled", "Stopped by NaN", "Stopped by an error")
      for when in ("after step 3 of 20", "before the end of its first step")),
)  # fmt: skip
# No view shows it: values of a combo, errors, logs, words of a picture, of JSON and of files.
NOT_SHOWN = {
    "on top", "replaced by the host", "in these steps", "without options", "attention as it is", "attention 7%",
    "step 7x", "7: its mask", "what the marked token sees", "; the 7 parts that take the most time",
    "fall back", "first call", "every call", "table order", "it was", "they were", "the progress bar",
    "not measured on a GPU by us", "b h r c -> b h (r queries) (c keys)", "engine: 7 is not known. Known: 7",
    "7 `auto` takes it once Video Attention Benchmark has seen it right.", "7 in 7", "7, structure 7",
    "width, from the left", "height, from the top", ", which draws noise for the sound too", " of block 7", "what ran",
    "weight 0", "its mask", "the marked token sees, by frame", "imed out", " (?:([\\d.]+) %|tau ([\\d.]+))",
    "forecast steps", "here 7", "8 bit", "model dtype",
   "by measured speed", "tokens, keys around machines", ", this one", "advanced inputs", "advanced input",
    "prompts, then tokens", "a clip no longer than trained_frames", "scale 0", "scale 1 or alpha 0",
}  # fmt: skip
NOT_SHOWN_LIKE = re.compile(
    r"video attention/|filename: |meeting_point: |.*every: no output of"
    r"|.*cannot run the .*Choose another|right: relative L2|font: |.*sans-serif|rgb\(|gray"
    r"|\(prefers|\[data-|\[-\+\]|\[a-z\]"
)
# What stays as it is: what users type, values of combos, units.
NAMES = {
    "cfg_high", "cfg_low", "model_high", "model_low", "positive", "negative", "model",
    "keep", "late", "tau",
    "alpha", "attn", "auto", "beta", "causal", "cfg", "comfy", "cpu", "cuda", "exact", "flash", "fps", "high",
    "hopper", "inf",
    "install", "ms", "output", "pip", "refiner", "sageattention", "simple", "sqrt", "taylor", "token", "torch",
    "triton", "upscaler",
    "user", "vsa",
}  # fmt: skip


@pytest.fixture(scope="module")
def say(browser):
    """say(texts): each in Chinese, and the keys that this took, as web/sentences.js has it."""
    page = browser.new_page()
    page.goto("about:blank")
    code = base64.b64encode((host.ROOT / "web" / "sentences.js").read_bytes()).decode()
    load = (
        "async ([code, table]) => { window.say = (await import(`data:text/javascript;base64,${code}`)).speaker(table) }"
    )
    page.evaluate(load, [code, table()])
    script = "(texts) => { const used = new Set(); return [texts.map((text) => say(text, used)), [...used]]; }"
    yield lambda texts: page.evaluate(script, list(texts))
    page.close()


def table() -> dict[str, str]:
    def once(pairs):
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), sorted({key for key in keys if keys.count(key) > 1})
        return dict(pairs)

    return json.loads(
        TABLE.read_text(encoding="utf-8").split("export default")[1].strip(" ;\n"), object_pairs_hook=once
    )


def names() -> list[str]:
    """Names that no language translates, longest first."""
    kernels = [row.name for row in (*registry.TABLE, *engine_registry.TABLE)]
    models = [name for family in families.TABLE for name in (family.name, *(row.name for row in family.variants))]
    shapes = [pattern.name for pattern in patterns.TABLE]
    return sorted({*kernels, *models, *shapes, *ROLES, registry.HOST}, key=len, reverse=True)


def english_in(text: str, known: list[str]) -> list[str]:
    """The English words that are left in a text."""
    text = re.sub(r"`[^`]*`|https?://\S+", "", text)
    for name in known:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "", text, flags=re.IGNORECASE)
    return [word for word in re.findall(r"(?<![\w.-])[a-z]{2,}(?!\w)", text) if word not in NAMES]


def role_in(text: str) -> str:
    return text.replace(f"{said.VALUE}-attention", "cross-attention")


def shown() -> dict[str, list[str]]:
    """Every sentence to be said -> where the source makes it."""
    summaries = {row.summary for row in (*registry.TABLE, *engine_registry.TABLE)}
    found = {}
    for text, places in (said.server_sentences() | said.page_sentences()).items():
        if text in NOT_SHOWN or NOT_SHOWN_LIKE.match(text) or any(text in summary for summary in summaries):
            continue
        # A table's cells are said one by one.
        parts = text.strip("| ").split(" | ") if text.startswith("|") else SAMPLES.get(text, (role_in(text),))
        found |= dict.fromkeys(parts, places)
    return found | dict.fromkeys((*MORE, *(f"{role}-attention" for role in ROLES)), ["any"])


def test_every_sentence_is_there_in_chinese(say):
    sentences, known = shown(), names()
    answers, _ = say(sentences)
    lacking = {
        f"{places[0]}: {text!r} -> {answer!r}"
        for (text, places), answer in zip(sentences.items(), answers, strict=True)
        if english_in(answer, known)
    }
    assert not lacking, "web/sentences/zh.js lacks:\n" + "\n".join(sorted(lacking))
    assert len(sentences) > 600


# What is put together of several parts, each of which has a key: none may take what belongs to another.
TOGETHER = json.loads(Path(__file__).with_name("together.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", TOGETHER)
def test_parts_of_a_sentence_stay_in_their_places(say, text):
    (answer,), _ = say([text])
    assert answer == TOGETHER[text]


def test_the_table_has_nothing_that_no_source_says(say):
    _, used = say(shown())
    idle = [key for key in table() if key not in used and not re.fullmatch(r"\w+", key)]
    assert not idle, "\n".join(idle)
