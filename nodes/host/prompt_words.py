"""The words of a prompt, token by token as its text encoder cut it: what a map of its tokens is labelled with."""

from __future__ import annotations

from comfy_execution.utils import get_executing_context

from ...attention.core.error_handling import error_text
from . import workflow_graph

# Key of a CONDITIONING's options under which a node of ours says its words.
WORDS = "vattn.words"
# Widgets in which nodes keep a prompt, of encoders and of boxes for text.
TEXTS = ("text", "prompt", "value", "string", "clip_l", "t5xxl")
# How tokenizers write the space before a word, and the end of one.
SPACES, ENDS = ("\u2581", "\u0120"), ("</w>",)


def words_of(hidden, positive, clip, count: int) -> tuple[list[str] | None, str]:
    """Finds the words of `count` tokens of a prompt; None and a sentence where they cannot be told.

    hidden: of the node that runs, with dynprompt and unique_id.
    positive: the CONDITIONING.
    clip: the CLIP that encoded it; None where it is not connected.
    """
    own = positive[0][1].get(WORDS) if positive else None
    if own is not None:
        return (list(own), "") if len(own) == count else (None, "The model reads other tokens than the prompt's words.")
    if clip is None:
        return None, "Connect clip to see words here."
    text = _text(hidden)
    if text is None:
        return None, "The prompt's text is no widget of a node before this one, so its words are not known."
    try:
        return _cut(clip, text, count)
    except Exception as error:  # a tokenizer may be of any pack; a map without words is a map
        return None, f"This text encoder does not tell its words: {error_text(error)}"


def _text(hidden) -> str | None:
    """Finds the text nearest above the input `positive` of the node that runs."""
    context = get_executing_context()
    if context is None or hidden is None or hidden.dynprompt is None:
        return None
    graph = workflow_graph.behind(context.prompt_id, hidden.dynprompt)
    waiting = [node for name, node, _ in graph.links(hidden.unique_id) if name == "positive"]
    seen = set()
    while waiting:
        key = waiting.pop(0)
        node = graph.node(key)
        if key in seen or node is None:
            continue
        seen.add(key)
        found = next(
            (node["inputs"][name] for name in TEXTS if isinstance(node.get("inputs", {}).get(name), str)), None
        )
        if found is not None:
            return found
        kinds = [(graph.kind(key, *link), link) for link in graph.links(key)]
        # A text that is linked in, and what another node did to the prompt; of a pair the first.
        waiting += [link[1] for kind, link in kinds if kind == "STRING"] + [
            link[1] for kind, link in kinds if kind == "CONDITIONING" and "neg" not in link[0]
        ]
    return None


def _cut(clip, text: str, count: int) -> tuple[list[str] | None, str]:
    """Cuts a text as the encoder does whose tokens are as many as `count`."""
    for name, batches in clip.tokenize(text).items():
        pairs = [tuple(pair[:2]) for batch in batches for pair in batch]
        tokenizer = getattr(clip.tokenizer, name, None) or getattr(clip.tokenizer, f"clip_{name}", clip.tokenizer)
        if len(pairs) != count or not all(isinstance(token, int) for token, _ in pairs):
            continue
        return [_clean(piece) for _, piece in tokenizer.untokenize(pairs)], ""
    return None, "The model reads another number of tokens than the text encoder made, so they stand without words."


def _clean(piece) -> str:
    """Writes a piece of a word as it is read: a space where a word begins."""
    text = piece.decode("utf-8", "replace") if isinstance(piece, bytes) else str(piece)
    for sign in SPACES:
        text = text.replace(sign, " ")
    for sign in ENDS:
        text = text.replace(sign, " ")
    return text
