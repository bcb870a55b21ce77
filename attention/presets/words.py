"""What a preset does: in one sentence, and as the values of the nodes that would do the same."""

from __future__ import annotations

from dataclasses import asdict, fields

from ..patterns.ramp import CONSTANT
from .spec import PatternChoice, Preset, dense_parts

BACKEND, PATTERN, FORECAST = "VideoAttentionBackend", "VideoAttentionPattern", "VideoAttentionForecast"


def sentence(preset: Preset, blocks: int | None = None) -> str:
    """Say in one sentence what a preset does.

    blocks: of the model's self-attention; None where they are not known.
    """
    parts = [f"{preset.kernel.backend} kernel within {preset.kernel.max_error:.1%} of exact attention"]
    if preset.pattern is not None:
        parts.append(_pattern_words(preset.pattern, blocks))
    if preset.forecast is not None and preset.forecast.in_a_row:
        asked, many = preset.forecast, preset.forecast.in_a_row
        bound = f" while they are within {asked.max_error:.0%}" if asked.max_error else ""
        run = "one step in a row" if many == 1 else f"{many} steps in a row"
        parts.append(f"up to {run} forecast behind the first {asked.warm_up} and before the last {asked.last}{bound}")
    return f"{preset.level}: {'; '.join(parts)}."


def _pattern_words(choice: PatternChoice, blocks: int | None) -> str:
    seen = choice.percentages
    kept = f"{seen[0]:g} %" if len(seen) == 1 else f"{seen[0]:g} to {seen[-1]:g} %"
    words = [f"{choice.pattern.name} at {kept} from {choice.start:.0%} to {choice.end:.0%} of the sampling"]
    first_steps, last_steps, first, last = dense_parts(choice)
    if first or last:
        end = "" if blocks is None else str(blocks - 1 - last)
        words.append(f"in blocks {first}-{end}" + (f" but the last {last}" if last and blocks is None else ""))
    if first_steps or last_steps:
        words.append(f"not in the first {first_steps} and last {last_steps} steps")
    return ", ".join((*words, f"from {choice.min_tokens} video tokens on"))


def node_values(preset: Preset) -> dict[str, dict]:
    """Give the widgets' values of the separate nodes that do what a preset does, in their order: node id -> values.

    A value of the pattern's dynamic combo is {"pattern": its name, widget: value}, as a prompt has it.
    """
    values = {BACKEND: {"backend": preset.kernel.backend, "max_error": preset.kernel.max_error}}
    if preset.pattern is not None:
        values[PATTERN] = _pattern_values(preset.pattern) | {"max_error": preset.kernel.max_error}
    if preset.forecast is not None:
        values[FORECAST] = asdict(preset.forecast)
    return values


def _pattern_values(choice: PatternChoice) -> dict:
    named = {field.name: getattr(choice.pattern, field.name) for field in fields(choice.pattern)}
    named["token_order"] = named.pop("order")
    named.pop("by_heads", None)
    first_steps, last_steps, first_blocks, last_blocks = dense_parts(choice)
    ramp = choice.ramp
    return {
        "pattern": {"pattern": choice.pattern.name, **named},
        "start_percent": choice.start,
        "end_percent": choice.end,
        "dense_first_steps": first_steps,
        "dense_last_steps": last_steps,
        "dense_first_blocks": first_blocks,
        "dense_last_blocks": last_blocks,
        "min_tokens": choice.min_tokens,
        "ramp": CONSTANT if ramp is None else ramp.shape,
        "keep_end": named[choice.pattern.amount] if ramp is None else ramp.end,
    }
