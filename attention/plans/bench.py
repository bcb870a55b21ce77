"""Times every backend on the real q, k, v of a model: each geometry once, beside the host's own attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from ..backends import registry
from ..backends.autotune import HOST_RUN, KernelTrial, time_call, try_kernel
from ..core.allocation_record import record_paused
from ..core.error_handling import try_twice
from ..core.geometry import Geometry
from ..core.reason import Reason
from ..core.spot_check import SpotCheck
from ..core.tokens import VideoSpan
from ..routing.attention_call import AttentionCall, Override
from ..routing.decide import inspect
from ..routing.host_kernel import NAMED, host_function, name_of, own_function
from ..sparse import engine_registry
from ..sparse.proof import worst_error
from .bench_memory import HEADS, cells, measured


class Bench(Override):
    """Measures every call and changes none: the host's own result is what the model gets.

    previous: the override found in the slot, or None.
    trials: (role, Geometry) -> trials, fastest first, refusals last.
    show: called behind each call; None for nobody.
    left_out: role -> why a call of it could not be measured.
    """

    def __init__(self, previous=None):
        super().__init__(previous)
        self.show: Callable | None = None
        self.trials: dict[tuple[str, Geometry], tuple[KernelTrial, ...]] = {}
        self.left_out: dict[str, Reason] = {}

    def answer(self, call: AttentionCall) -> torch.Tensor:
        """Try every backend on a call of a geometry that is new, and answer as without us."""
        own = call.but(func=host_function(call.func, self.previous, call.options))
        found = try_twice(lambda: self._try(own), call.q.device)
        if isinstance(found, Reason):
            self.left_out.setdefault(inspect(call).site.role, found)
        if self.show is not None:
            self.show()
        return self.next(call)

    @record_paused()
    def _try(self, call: AttentionCall) -> None:
        site, video_span, geometry, malformed = inspect(call)
        if malformed is not None:
            return
        key, name = (site.role, geometry), name_of(call.func)
        if key not in self.trials:
            self.trials[key] = measure(call, geometry, video_span)
        elif name not in (trial.host for trial in self.trials[key]):
            # Blocks of one role and shape, of which the model's file names another function for some.
            self.trials[key] = _in_order((*self.trials[key], host_trial(call, spot_check_of(call, geometry))))


def measure(call: AttentionCall, geometry: Geometry, video_span: VideoSpan | Reason) -> tuple[KernelTrial, ...]:
    """Measure every backend on one call: milliseconds, relative L2 error against float32, memory, or why not.

    Kernels that `auto` waits for are noted in the registry as right or wrong.
    """
    spot_check = spot_check_of(call, geometry)
    trials = [host_trial(call, spot_check)]
    for name in registry.names():
        reasons = registry.reasons(name, geometry)
        if not reasons:
            kernel = registry.load(name)
            trials.append(try_kernel(name, lambda kernel=kernel: call.run(kernel), spot_check, math.inf))
            witness(trials[-1], call, geometry, video_span)
            trials[-1] = measured(trials[-1], lambda one, kernel=kernel: one.run(kernel), call)
        else:
            trials.append(KernelTrial(name, reason="; ".join(reasons)))
    return _in_order(trials)


def spot_check_of(call: AttentionCall, geometry: Geometry) -> SpotCheck:
    """Make what outputs of this call are compared with."""
    return SpotCheck(*call.to_heads(), call.to_mask(), geometry.scale)


def host_trial(call: AttentionCall, spot_check: SpotCheck) -> KernelTrial:
    """Try the host's own attention, or what the model's file names instead, on one call."""
    error = spot_check(call.run_host())
    seconds = time_call(call.run_host, call.q.device)
    named = own_function(call.options) is call.func
    trial = KernelTrial(HOST_RUN, seconds, error, host=name_of(call.func), named=named)
    return measured(trial, AttentionCall.run_host, call)


def _in_order(trials) -> tuple[KernelTrial, ...]:
    return tuple(sorted(trials, key=lambda trial: (trial.reason is not None, trial.seconds)))


def witness(trial: KernelTrial, call: AttentionCall, geometry: Geometry, video_span: VideoSpan | Reason) -> None:
    """Note whether a kernel that `auto` waits for was right, alone and by lists.

    video_span: of the call.
    """
    promise = registry.get(trial.name).promise
    if not promise:
        return
    limit = promise + torch.finfo(geometry.dtype).eps / 2
    registry.note(trial.name, geometry, trial.reason is None and trial.error <= limit)
    is_engine = trial.name in engine_registry.names()
    if registry.seen_right(trial.name, geometry) and is_engine and isinstance(video_span, VideoSpan):
        error = worst_error(trial.name, video_span, geometry, call.run, call.to_heads())
        if error is not None:
            registry.note(trial.name, geometry, error <= limit, by_lists=True)


def to_text(
    trials: dict[tuple[str, Geometry], tuple[KernelTrial, ...]],
    free: int | None = None,
    left_out: Mapping = MappingProxyType({}),
) -> str:
    """Write one Markdown table for each geometry.

    free: bytes that a call may take; None: nothing is said of how many tokens fit.
    left_out: role -> why a call of it could not be measured.
    """
    lines = [f"A call of {role}-attention could not be measured: {why}." for role, why in left_out.items()]
    lines += [""] * bool(lines)
    for (role, geometry), rows in trials.items():
        base = next(t.seconds for t in rows if t.name == HOST_RUN)
        lines += [f"**{role}-attention**, {geometry.shape_text}, mask: {geometry.mask}", ""]
        heads = ["kernel", "ms", "speed beside ComfyUI's own", "relative L2 error"]
        memory = HEADS[: 1 if free is None else 2] if any(row.peak is not None for row in rows) else ()
        lines += [f"| {' | '.join((*heads, *memory))} |", f"|{' --- |' * len((*heads, *memory))}"]
        for row in rows:
            figures = f"- | - | {row.reason}" if row.reason else _figures(row, base)
            more = cells(row, geometry, free)[: len(memory)]
            lines.append(f"| {' | '.join((_shown(row), figures, *more))} |")
        lines += ["", *auto_lines(geometry, rows)]
    none = "No attention call was seen: this model class is out of reach, or another node answers for the model."
    return "\n".join(lines) or none


def auto_lines(geometry: Geometry, rows: tuple[KernelTrial, ...]) -> list[str]:
    """Say what `auto` makes of the kernels that it waits for, of those that ran."""
    said = []
    for row in rows:
        if row.name == HOST_RUN or row.reason or not registry.get(row.name).promise:
            continue
        if not registry.seen_right(row.name, geometry):
            takes = f"does not take it: it was wrong, its error should be {registry.get(row.name).promise:g} at most"
        elif registry.seen_right(row.name, geometry, by_lists=True):
            takes = "may take it from now on, for patterns too, until ComfyUI stops"
        else:
            takes = "may take it from now on, not for patterns, until ComfyUI stops"
        said.append(f"- {row.name}: `auto` {takes}.")
    return [*said, ""] if said else []


def _shown(row: KernelTrial) -> str:
    host = f"ComfyUI ({row.host}, {NAMED})" if row.named else "ComfyUI"
    return host if row.name == HOST_RUN else row.name


def _figures(row: KernelTrial, base: float) -> str:
    return f"{row.seconds * 1e3:.3f} | {base / row.seconds:.2f}x | {row.error:.1e}"
