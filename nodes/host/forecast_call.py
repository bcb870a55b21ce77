"""One call of the model in a run with forecasts: made up, or computed and remembered."""

from __future__ import annotations

import comfy.utils
import torch

from ...attention.core.allocation_record import record_paused
from ...attention.core.reason import Reason
from ...attention.forecast.history import Streams, relative_error
from ...attention.routing.step_context import CONTEXT
from . import forecast_head, hooks
from .forecast_run import DENOISED, HEAD, ForecastRun


class ModelCall:
    """One call of the model, with what the host puts into one: some prompts, each a part of the batch.

    run: its ForecastRun.
    base: the host's model.
    x: (B, ...) what the model is asked about; video and sound packed into one.
    sigma: (B,) its noise level.
    options: the host's transformer_options.
    shapes: of the streams that are packed in x; None for one stream.
    keys: of its prompts.
    """

    def __init__(self, run: ForecastRun, base, x, sigma, options, shapes):
        self.run, self.base, self.x, self.sigma = run, base, x, sigma
        self.shapes = shapes if shapes is not None and len(shapes) > 1 else None
        self.keys = _keys(run, x, options)
        tap = getattr(base.diffusion_model, forecast_head.ATTRIBUTE, None)
        self.tap = tap if run.place == HEAD else None

    def forecast(self, execute) -> torch.Tensor:
        """Gives the answer of the model without its blocks."""
        streams = self._guess()
        out = self._answer_of(streams) if self.tap is None else self._run_head(execute, streams)
        self.run.made()
        return out

    def _run_head(self, execute, streams: Streams) -> torch.Tensor:
        self.tap.clear()
        self.tap.given = streams
        try:
            # Without its blocks a model allocates otherwise than in the steps that the host records.
            with record_paused(), hooks.emptied(self.base.diffusion_model, self.tap.head.lists):
                out = execute()
            if not self.tap.used:
                raise RuntimeError("the model did not come to its last layer")
            return out
        finally:
            self.tap.clear()

    def _guess(self) -> Streams:
        with record_paused():
            return _joined(self.run.guess(self.keys))

    def compute(self, execute) -> torch.Tensor:
        """Lets the model answer, and remembers what it computed."""
        guess = self.run.attempt(self._guess, "a guess") if self.run.ready(self.keys) else None
        return self._compute_output(execute, guess) if self.tap is None else self._compute_head(execute, guess)

    def _compute_head(self, execute, guess) -> torch.Tensor:
        tap = self.tap
        tap.clear()
        tap.guess, tap.attempt = guess, lambda function: self.run.attempt(function, "a guess")
        try:
            out = execute()
            seen, error = tap.seen, tap.error
        finally:
            tap.clear()
        if seen is None:
            self.run.refuse(Reason("another node answered in the place of the model's blocks"))
        else:
            self.run.attempt(lambda: self._remember(seen, error), "remembering a step")
        return out

    def _compute_output(self, execute, guess) -> torch.Tensor:
        out = execute()

        def look() -> None:
            value = self._value_of(out)
            error = None if guess is None else relative_error(self._apart(guess[0]), self._apart(value))
            self._remember((value,), error)

        self.run.attempt(look, "remembering a step")
        return out

    def _remember(self, streams: Streams, error) -> None:
        parts = len(self.keys)
        batched = self.tap is None or self.tap.head.batched
        if parts > 1 and not batched or batched and streams[0].shape[0] % parts:
            return self.run.refuse(Reason("the prompts of one call could not be told apart"))
        cut = [s.chunk(parts) if parts > 1 else (s,) for s in streams]
        with record_paused():
            self.run.computed(self.keys, [tuple(each) for each in zip(*cut, strict=True)], error)

    def _value_of(self, denoised: torch.Tensor) -> torch.Tensor:
        """Finds the model's output behind a denoised clip; that itself where it is what is forecast."""
        if self.run.place == DENOISED:
            return denoised
        calculate, zeros = self.base.model_sampling.calculate_denoised, torch.zeros_like(denoised)
        gain = calculate(self.sigma, torch.ones_like(denoised), zeros)
        # Where the model's output counts nothing, any will do.
        value = (denoised - calculate(self.sigma, zeros, self.x)) / torch.where(gain == 0, 1, gain)
        return torch.where(gain == 0, 0, value)

    def _answer_of(self, streams: Streams) -> torch.Tensor:
        if self.run.place == DENOISED:
            return streams[0]
        return self.base.model_sampling.calculate_denoised(self.sigma, streams[0], self.x)

    def _apart(self, packed: torch.Tensor) -> Streams:
        return (packed,) if self.shapes is None else tuple(comfy.utils.unpack_latents(packed, self.shapes))


def _joined(values: list[Streams]) -> Streams:
    """Puts the prompts of one call side by side, as the host has them."""
    return values[0] if len(values) == 1 else tuple(torch.cat(parts) for parts in zip(*values, strict=True))


def _keys(run: ForecastRun, x: torch.Tensor, options: dict) -> list[tuple]:
    """Names what each prompt of a call is remembered by: nothing of another window, shape or pass is taken for it."""
    window = getattr(options.get("context_window"), "index_list", None)
    perturbation = options[CONTEXT].perturbation if CONTEXT in options else None
    prompts = options.get("uuids") or options.get("cond_or_uncond") or [0]
    kind = (tuple(window) if window else None, id(perturbation), x.shape[0] // len(prompts), *x.shape[1:])
    return [run.key(prompt, *kind, str(x.device)) for prompt in prompts]
