"""Times every backend on the real q, k, v of a model: each geometry once, beside the host's own attention."""

from __future__ import annotations

import math

import torch

from .. import sparse
from ..backends import registry
from ..backends.autotune import HOST_RUN, KernelTrial, time_call, try_kernel
from ..core.allocation_record import record_paused
from ..core.geometry import Geometry
from ..core.identity import KeepsIdentity
from ..core.reason import Reason
from ..core.spot_check import SpotCheck
from ..core.tensor_layout import to_heads, to_mask
from ..core.tokens import VideoSpan
from ..routing.compiled_op import eagerly
from ..routing.decide import Incoming, inspect
from ..routing.fallback import in_heads
from ..routing.host_kernel import NAMED, following, host_function, name_of, own_function
from ..sparse.proof import worst_error


class Bench(KeepsIdentity):
    """An attention override that measures and changes nothing: the host's own result is what the model gets.

    previous: the override found in the slot, or None. trials: (role, Geometry) -> trials, fastest first, refusals last.
    """

    def __init__(self, previous=None):
        self.previous = previous
        self.trials: dict[tuple[str, Geometry], tuple[KernelTrial, ...]] = {}
        self._try_eagerly = eagerly(self._try)

    def __call__(
        self, func, q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw
    ):
        """The override contract of comfy.ldm.modules.attention.wrap_attn."""
        host = host_function(func, self.previous, kw)
        self._try_eagerly(Incoming(host, q, k, v, heads, mask, attn_precision, skip_reshape, kw))
        return following(func, self.previous, kw)(
            q, k, v, heads, mask=mask, attn_precision=attn_precision, skip_reshape=skip_reshape,
            skip_output_reshape=skip_output_reshape, **kw,
        )  # fmt: skip

    @record_paused()
    def _try(self, incoming: Incoming) -> None:
        site, video_span, call, odd = inspect(incoming, incoming.kw.get("transformer_options") or {})
        if odd is not None:
            return
        key, name = (site.role, call), name_of(incoming.func)
        if key not in self.trials:
            self.trials[key] = measure(incoming, call, video_span)
        elif name not in (trial.host for trial in self.trials[key]):
            # Blocks of one role and shape, of which the model's file names another function for some.
            self.trials[key] = _in_order((*self.trials[key], host_trial(incoming, sample_of(incoming, call))))


def measure(incoming: Incoming, geometry: Geometry, video_span: VideoSpan | Reason) -> tuple[KernelTrial, ...]:
    """Every backend on one call: milliseconds, relative L2 error against float32, or why not.

    Kernels that `auto` waits for are noted in the registry as right or wrong.
    """
    sample = sample_of(incoming, geometry)
    trials = [host_trial(incoming, sample)]
    for name in registry.names():
        reason = registry.why_not(name, geometry)
        if reason is None:
            kernel = registry.load(name)
            trials.append(try_kernel(name, lambda kernel=kernel: incoming.run(kernel), sample, math.inf))
            witness(trials[-1], incoming, geometry, video_span)
        else:
            trials.append(KernelTrial(name, reason=reason))
    return _in_order(trials)


def sample_of(incoming: Incoming, geometry: Geometry) -> SpotCheck:
    """What outputs of this call are compared with."""
    q, k, v = to_heads(incoming.q, incoming.k, incoming.v, incoming.heads, incoming.split_in)
    return SpotCheck(q, k, v, to_mask(incoming.mask, q.dtype), geometry.scale)


def host_trial(incoming: Incoming, sample: SpotCheck) -> KernelTrial:
    """The host's own attention, or what the model's file names instead, on one call."""
    error = sample(in_heads(incoming.run_host(), incoming.heads))
    seconds = time_call(incoming.run_host, incoming.q.device)
    named = own_function(incoming.kw) is incoming.func
    return KernelTrial(HOST_RUN, seconds, error, host=name_of(incoming.func), named=named)


def _in_order(trials) -> tuple[KernelTrial, ...]:
    return tuple(sorted(trials, key=lambda trial: (trial.reason is not None, trial.seconds)))


def witness(trial: KernelTrial, incoming: Incoming, geometry: Geometry, video_span: VideoSpan | Reason) -> None:
    """Notes whether a kernel that `auto` waits for was right, alone and by lists. video_span: of the call."""
    promise = registry.get(trial.name).promise
    if not promise:
        return
    limit = promise + torch.finfo(geometry.dtype).eps / 2
    registry.note(trial.name, geometry, trial.reason is None and trial.error <= limit)
    if registry.seen_right(trial.name, geometry) and trial.name in sparse.names() and isinstance(video_span, VideoSpan):
        tensors = to_heads(incoming.q, incoming.k, incoming.v, incoming.heads, incoming.split_in)
        error = worst_error(trial.name, video_span, geometry, incoming.run, tensors)
        if error is not None:
            registry.note(trial.name, geometry, error <= limit, by_lists=True)


def to_text(trials: dict[tuple[str, Geometry], tuple[KernelTrial, ...]]) -> str:
    """One Markdown table for each geometry."""
    lines = []
    for (role, call), rows in trials.items():
        base = next(t.seconds for t in rows if t.name == HOST_RUN)
        lines += [f"**{role}-attention**, {call.shape_text}, mask: {call.mask}", ""]
        lines += ["| kernel | ms | speed beside ComfyUI's own | relative L2 error |", "| --- | --- | --- | --- |"]
        for row in rows:
            figures = f"- | - | {row.reason}" if row.reason else _figures(row, base)
            lines.append(f"| {_shown(row)} | {figures} |")
        lines += ["", *auto_lines(call, rows)]
    none = "No attention call was seen: this model class is out of reach, or another node answers for the model."
    return "\n".join(lines) or none


def auto_lines(geometry: Geometry, rows: tuple[KernelTrial, ...]) -> list[str]:
    """What `auto` makes of the kernels that it waits for, of those that ran."""
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
