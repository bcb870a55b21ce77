"""A preset on a MODEL: the same rules as those of the separate nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ...attention.core.site import SELF
from ...attention.forecast import ForecastSettings
from ...attention.presets import Preset
from ...attention.routing import rules
from ...attention.routing.rules import Rule, Shape
from ..host import forecast, model_family, model_rules


@dataclass(frozen=True)
class Asked:
    """What a user leaves on of a preset.

    pattern: whether its pattern is taken.
    forecast: whether its forecast is.
    timing: whether every call is measured.
    on_unsupported: rules.FALL_BACK or rules.ERROR.
    """

    pattern: bool = True
    forecast: bool = True
    timing: bool = False
    on_unsupported: str = rules.FALL_BACK


class Made(NamedTuple):
    """What of a preset was put on a model.

    rules: as of model_rules.
    forecast: which steps are forecast; None: none.
    """

    rules: tuple[Rule, ...]
    forecast: ForecastSettings | None


def install_preset(model, preset: Preset, asked: Asked) -> tuple:
    """Puts a preset on a clone of the MODEL `model`.

    Returns it, what was Made, and sentences about what of the preset was left out.
    """
    made, left, steps = [_kernel(preset, asked)], [], None
    if asked.pattern and preset.pattern is not None:
        made.append(_pattern(preset, asked, model_family.blocks_of(model, SELF)))
    patched = model_rules.add_rules(model, made)
    if asked.forecast and preset.forecast is not None:
        try:
            patched, steps = forecast.install(patched, preset.forecast), preset.forecast
        except ValueError as error:
            left.append(f"No step is forecast: {str(error).removeprefix('model: ')}")
    return patched, Made(tuple(made), steps), left


def _kernel(preset: Preset, asked: Asked) -> Rule:
    return Rule(
        preset.kernel.backend, max_error=preset.kernel.max_error, timing=asked.timing,
        on_unsupported=asked.on_unsupported,
    )  # fmt: skip


def _pattern(preset: Preset, asked: Asked, blocks: int | None) -> Rule:
    """Makes the rule of a preset's pattern.

    blocks: number of the model's blocks with self-attention; None where it is not known.
    """
    choice = preset.pattern
    spans = _without(choice.dense_first_blocks, choice.dense_last_blocks, blocks)
    shape = Shape(choice.pattern, min_tokens=choice.min_tokens, ramp=choice.ramp, if_faster=True)
    return Rule(
        "", SELF, spans, choice.start, choice.end, shape=shape, timing=asked.timing,
        spared=(choice.dense_first_steps, choice.dense_last_steps), on_unsupported=asked.on_unsupported,
    )  # fmt: skip


def _without(first: int, last: int, count: int | None) -> tuple[tuple[int, int | None], ...]:
    """Gives spans of all blocks but the first and the last ones; () for all."""
    if not first and not last:
        return ()
    end = None if count is None or not last else count - 1 - last
    return ((first, end),)


def sentence(preset: Preset, made: Made) -> str:
    """Says in a clause what a preset does, as far as it was taken."""
    bound = f"{preset.kernel.max_error:.1%}".replace("%", " %").replace(".0 %", " %")
    said = [f"the fastest attention kernel within {bound} error of exact attention"]
    said += [_shaped(rule) for rule in made.rules if rule.shape is not None]
    if made.forecast is not None:
        row = made.forecast.in_a_row
        said.append(f"steps forecast, at most {f'{row} in a row' if row > 1 else 'every other one'}")
    return ", ".join(said)


def _shaped(rule: Rule) -> str:
    pattern, ramp = rule.shape.pattern, rule.shape.ramp
    amount = getattr(pattern, "amount", "")
    kept = f" {getattr(pattern, amount):g} %" if amount else ""
    kept += f" to {ramp.end:g} %" if ramp is not None else ""
    when = f" from {rule.start:.0%} of the sampling on".replace("%", " %") if rule.start else ""
    until = f" until {rule.end:.0%}".replace("%", " %") if rule.end < 1 else ""
    return f"{pattern.name}{kept}{when}{until} where that is faster"
