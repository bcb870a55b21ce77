"""How many tokens of what a clip is, and how much memory one attention call over them takes: before anything is loaded.

Counted from shapes alone, and from what each kernel's row says of its scratch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from ..backends import registry
from ..core.geometry import Geometry
from ..core.peak_memory import in_mib
from ..core.tokens import Tokens

# Kinds of which nothing is known before a prompt is.
PROMPT = "text"


def count(tokens: Tokens, text: int | None = None, audio: int | None = None) -> dict[str, int | None]:
    """Count the tokens of a clip by kind, the video's first; None where that is not known.

    tokens: layout of a call, whose grid is known.
    text: tokens of the prompt, None without one.
    audio: tokens of the sound where it is a sequence of its own.
    """
    found: dict[str, int | None] = {"video": prod(tokens.grid)}
    for span in (*tokens.prefix, *tokens.suffix):
        unknown = span.length is None or (span.kind == PROMPT and text is None)
        before = found.get(span.kind, 0)
        found[span.kind] = None if unknown or before is None else before + span.length
    found.setdefault(PROMPT, text)
    if audio is not None:
        found.setdefault("audio", audio)
    return found


def sequence(tokens: Tokens) -> int:
    """Count the tokens of one self-attention call of the video, those of the prompt's as far as they are known."""
    return prod(tokens.grid) + sum(span.length or 0 for span in (*tokens.prefix, *tokens.suffix))


def count_line(tokens: Tokens, text: int | None = None, audio: int | None = None) -> str:
    """Write `Tokens: video 12480, text 512, audio 126.`; arguments as of count."""
    said = [f"{kind} {'by the prompt' if size is None else size}" for kind, size in count(tokens, text, audio).items()]
    return f"Tokens: {', '.join(said)}."


def memory_lines(geometry: Geometry, length: int, refused: Callable = registry.why_not) -> list[str]:
    """Say how much memory a self-attention call takes, by the kernels that can run it here.

    geometry: of any such call of the model.
    length: tokens of the sequence.
    refused: of a backend's name and a geometry, why it cannot run here, or None.
    """
    call = replace(geometry, q_len=length, kv_len=length)
    given = (call.heads + 2 * call.kv_heads) * call.batch * length * call.head_dim * call.dtype.itemsize
    rows = [row for row in registry.TABLE if refused(row.name, call) is None]
    alike: dict[int, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.takes(call)):
        alike.setdefault(row.takes(call), []).append(row.name)
    said = [f"{in_mib(size)} MiB on {', '.join(names)}" for size, names in alike.items()]
    lines = [f"One call of self-attention ({call.shape_text}): q, k and v are {in_mib(given)} MiB."]
    if said:
        lines.append(f"Beside them, the output included, it takes about {'; '.join(said)}.")
    return lines
