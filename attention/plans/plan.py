"""A plan: which kernel or pattern runs where, calibrated for one model, size and GPU."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace

from ..core.site import COVERS, SELF
from ..forecast import ForecastSettings, ForecastSpan
from ..patterns.ramp import Ramp
from ..reuse import ReuseSettings
from ..routing.rules import Rule, Shape


@dataclass(frozen=True)
class Candidate:
    """What a part of the model may run on.

    backend: one of rules.CHOICES, or empty.
    pattern: one of patterns.TABLE, or None.
    ramp: how the pattern's percentage changes over the steps; None: it does not.
    reuse: for how many steps an output is kept; None: it is not. Never two of backend, pattern and this.
    refresh_overlap: as of Shape, of a pattern that chooses blocks.
    memory: most MiB that a call may take, as of a Rule; its name does not say it.
    """

    backend: str = ""
    pattern: object | None = None
    ramp: Ramp | None = None
    reuse: ReuseSettings | None = None
    refresh_overlap: float = 0.0
    memory: int = 0

    @property
    def name(self) -> str:
        """Name it: `sage` or `sliding tile (frames 12, height 50, width 50)`."""
        if self.pattern is None:
            return self.backend if self.reuse is None else self.reuse.label
        # Flags, tiles and the like that are as always say nothing.
        told = [f for f in dataclasses.fields(self.pattern) if self._tells(f)]
        words = ", ".join(f"{f.name} {self._value(f.name)}" for f in told)
        words += f", refresh_overlap {self.refresh_overlap:g}" if self.refresh_overlap else ""
        return f"{self.pattern.name} ({words})" if words else self.pattern.name

    @property
    def singles(self) -> int:
        """Count the single tokens that its pattern sees beside blocks."""
        return getattr(self.pattern, "singles", 0)

    @property
    def keeps_choices(self) -> bool:
        """Tell whether blocks that its pattern chose may stand for some steps."""
        return self.refresh_overlap > 0 or getattr(self.pattern, "refresh", 1) > 1

    def _value(self, name: str) -> str:
        value = _plain(getattr(self.pattern, name))
        if self.ramp is None or name != self.pattern.amount:
            return value
        return f"{value} to {_plain(self.ramp.end)} {self.ramp.shape}"

    def _tells(self, field) -> bool:
        value = getattr(self.pattern, field.name)
        return value != field.default or (
            type(value) in (int, float) and field.name not in ("step", "refresh", "singles")
        )

    def fits(self, role: str) -> bool:
        """Tell whether it can do anything for calls of this role: patterns are about the video's own tokens."""
        return self.pattern is None or role in COVERS[SELF]

    def within(self, memory: int) -> Candidate:
        """Make the one whose calls take at most so many MiB; outputs that are kept have a limit of their own."""
        return self if self.reuse is not None else replace(self, memory=memory)

    def rule(self, role: str, blocks, start: float, end: float, **more) -> Rule:
        """Make the rule that puts this candidate somewhere.

        role: see Rule.
        blocks: see Rule.
        start: see Rule.
        end: see Rule.
        more: other fields of a Rule.
        """
        more_of_shape = {"ramp": self.ramp, "refresh_overlap": self.refresh_overlap}
        shape = None if self.pattern is None else Shape(self.pattern, **more_of_shape)
        backend = {} if self.reuse is not None else {"backend": self.backend}
        return Rule(
            role=role, blocks=tuple(blocks), start=start, end=end, shape=shape, reuse=self.reuse, memory=self.memory,
            **backend, **more,
        )  # fmt: skip


def _plain(value) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_plain, value))
    return f"{value:g}" if type(value) is float else str(value)


@dataclass(frozen=True)
class PlanRule:
    """One rule of a plan, and what was measured for it. A plan's file lists them as "steps".

    candidate: what runs.
    role: of attention.
    blocks: first and last.
    start: 0 to 1 of the noise schedule.
    end: 0 to 1 of the noise schedule.
    error: relative L2 of the final latent with this rule alone.
    local: relative L2 of one call's output; None if not measured.
    effect: relative L2 of the output of the block around it; None if not measured.
    seconds: of its calls in one sampling, with the candidate.
    exact_seconds: the same, with the host's own attention.
    """

    candidate: Candidate
    role: str
    blocks: tuple[int, int]
    start: float
    end: float
    error: float
    local: float | None
    effect: float | None
    seconds: float
    exact_seconds: float

    def rule(self) -> Rule:
        """Make the Rule that puts the candidate there."""
        return self.candidate.rule(self.role, (self.blocks,), self.start, self.end)


@dataclass(frozen=True)
class PlanForecast:
    """A range of steps of a plan in which some are forecast, and what was measured for it.

    settings: how.
    start: 0 to 1 of the noise schedule.
    end: 0 to 1 of the noise schedule.
    error: relative L2 of the final latent with this forecast alone.
    seconds: of the whole sampling in this range, with it.
    exact_seconds: the same, with every step computed.
    """

    settings: ForecastSettings
    start: float
    end: float
    error: float
    seconds: float
    exact_seconds: float

    def span(self) -> ForecastSpan:
        """Make the ForecastSpan that forecasts there."""
        return ForecastSpan(self.settings, self.start, self.end)


@dataclass(frozen=True)
class Plan:
    """Which kernel or pattern runs where in one model, which steps are forecast, and what that was measured to cost.

    model: class of the diffusion model.
    fingerprint: digest of its structure, not of its weights.
    blocks: of its self-attention.
    heads: of its self-attention.
    head_dim: of its self-attention.
    device: the GPU's name.
    tokens: of the latent it was calibrated on.
    sampling: how was sampled, in words.
    budget: relative L2 of the final latent that is allowed.
    error: the same, predicted.
    realised: the same, measured with the calibrating prompt and seed.
    exact_seconds: of the attention that was decided about, in one sampling without the plan.
    seconds: the same, with the plan.
    versions: of the software, (name, version).
    steps: its rules.
    quantile: of all prompts so many are predicted to stay at or below `error`; 0 in plans from before there was one,
        whose `error` is the root mean square over prompts.
    whole_exact_seconds: of one whole sampling without the plan; 0 where that was not measured.
    whole_seconds: the same, with the plan.
    forecasts: its ranges of steps in which some are forecast.
    """

    model: str
    fingerprint: str
    blocks: int
    heads: int
    head_dim: int
    device: str
    tokens: int
    sampling: str = ""
    budget: float = 0.0
    error: float = 0.0
    realised: float = 0.0
    exact_seconds: float = 0.0
    seconds: float = 0.0
    versions: tuple[tuple[str, str], ...] = ()
    steps: tuple[PlanRule, ...] = ()
    quantile: float = 0.0
    whole_exact_seconds: float = 0.0
    whole_seconds: float = 0.0
    forecasts: tuple[PlanForecast, ...] = ()

    @property
    def memory(self) -> int:
        """Return the most MiB that a call of its rules may take; 0 where none has a limit."""
        return max((step.candidate.memory for step in self.steps), default=0)

    @property
    def limits(self) -> list[str]:
        """Say how much memory its calls may take, in a sentence where they have a limit."""
        return [f"Calls take at most {self.memory} MiB each, in chunks where they would take more."] * bool(self.memory)

    def spans(self) -> tuple[ForecastSpan, ...]:
        """Make the ForecastSpans of the plan, in its order."""
        return tuple(one.span() for one in self.forecasts)

    def rules(self) -> tuple[Rule, ...]:
        """Make the Rules of the plan, in its order."""
        return tuple(replace(step.rule(), budget=self.budget) for step in self.steps)

    def fitting(self, other: Plan) -> tuple[Plan, list[str]]:
        """Keep what of this plan can be applied to another model.

        other: a plan without rules that describes that model.
        Returns the plan, and a sentence for each way in which the models are not the same.
        """
        if self.model != other.model:
            return replace(self, steps=(), forecasts=()), [
                f"The plan is for {self.model}, this is {other.model}: not applied."
            ]
        kept, said = tuple(step for step in self.steps if step.blocks[0] < other.blocks), []
        here, there = ((p.blocks, p.heads, p.head_dim, p.fingerprint) for p in (other, self))
        if here != there:
            lost = len(self.steps) - len(kept)
            gone = f", {lost} of {len(self.steps)} rules are for blocks that are not here" if lost else ""
            said.append(
                f"The plan is for a {self.model} of {_size(self)}, this one has {_size(other)}: its errors need not "
                f"hold{gone}."
            )
        if self.device != other.device:
            said.append(f"It was measured on {self.device}, this is {other.device}: errors hold, speeds may not.")
        if other.tokens and self.tokens != other.tokens:
            said.append(
                f"It was calibrated on {self.tokens} video tokens, these are {other.tokens}: errors may differ."
            )
        return replace(self, steps=kept), said


def _size(plan: Plan) -> str:
    return f"{plan.blocks} blocks and {plan.heads} heads of {plan.head_dim} (structure {plan.fingerprint[:8]})"
