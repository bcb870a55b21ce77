"""The cold half of routing: what a call is, which rule covers it, which kernel it gets. Runs once for each geometry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ..backends import registry
from ..backends.autotune import HOST_RUN, AutotuneResult, fastest_backend
from ..core.error_handling import error_message, error_text
from ..core.geometry import Geometry, describe
from ..core.head_chunks import pattern_of
from ..core.reason import Reason
from ..core.site import GUESSED, SELF, AttentionSite, site_of
from ..core.spot_check import SpotCheck
from ..core.tensor_layout import first_query_of, to_heads, to_mask
from ..core.tokens import BOTH, VideoSpan
from ..guidance.strength import combined
from ..sparse import AUTO, Runner, runners
from ..sparse.autotune import fastest, key_of
from .host_kernel import name_of
from .rules import ERROR, GUARD_OFF, MEASURE, Rule
from .run_stats import Decision, RunStats
from .step_context import CONTEXT, IDLE, locate


class UnsupportedAttention(RuntimeError):
    """The user asked for an error instead of a fallback. Names backend, site and reason."""


@dataclass(frozen=True)
class Incoming:
    """One call as the host made it. q: (B, L, H*D), or (B, H, L, D) when split_in; func: the host's own attention, or
    the function that the model's file names for the module. chunk: the first of its heads, where the module's are
    spread over several calls."""

    func: Callable
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    heads: int
    mask: torch.Tensor | None
    precision: torch.dtype | None
    split_in: bool
    kw: dict
    chunk: int | None = None

    def run(self, kernel) -> torch.Tensor:
        """(B, H, Lq, D) of a backend's kernel."""
        return run_kernel(
            kernel, self.q, self.k, self.v, self.heads, self.mask, self.precision, self.split_in, self.kw.get("scale")
        )

    def run_host(self) -> torch.Tensor:
        """The host's own attention, whatever override sits in between: a second call must not disturb that one."""
        return self.func(
            self.q, self.k, self.v, self.heads, mask=self.mask, attn_precision=self.precision,
            skip_reshape=self.split_in, skip_output_reshape=True, **self.kw,
        )  # fmt: skip


def run_kernel(kernel, q, k, v, heads, mask, precision, split_in, scale) -> torch.Tensor:
    """(B, H, Lq, D) in q's dtype, computed in `precision` where the model asks for a wider one."""
    dtype = q.dtype
    q, k, v = to_heads(q, k, v, heads, split_in)
    if precision is not None and precision != dtype:
        q, k, v = q.to(precision), k.to(precision), v.to(precision)
    out = kernel(q, k, v, mask=to_mask(mask, q.dtype), scale=scale)
    return checked(out, q.shape, dtype)


def checked(out: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """A kernel's output in `dtype`; an error for one of another shape, or of whole or complex numbers."""
    if out.shape != shape:
        raise ValueError(f"output shape {tuple(out.shape)} instead of {tuple(shape)}")
    if not out.is_floating_point():
        raise TypeError(f"output of {str(out.dtype).removeprefix('torch.')}")
    return out.to(dtype)


def decide(
    incoming: Incoming, options: Mapping, rules: tuple[Rule, ...], active, host: str, stats: RunStats
) -> Decision:
    """The Decision for a call: last rule that covers it, its backend, and why not, if not.

    options: the host's, with the AttentionSite and the StepContext of the call. active: for each rule, whether it
    covers this step. host: what runs without us, by name. Raises UnsupportedAttention when the rule wants that instead
    of a fallback.
    """
    try:
        return _decide(incoming, options, rules, active, host, stats)
    except UnsupportedAttention:
        raise
    except Exception as error:  # deciding must not cost a render either
        return _undecided(f"it could not be decided ({error_text(error)})", options, rules, active, host, stats)


def _undecided(reason: str, options, rules, active, host: str, stats: RunStats) -> Decision:
    """The Decision of a call whose decision failed: the host's own, and the last rule about a kernel says why not."""
    site = site_of(options) or GUESSED[SELF]
    covering = [rule for rule, on in zip(rules, active) if on and rule.covers(site)]
    rule = winner(covering, "shape") or winner(covering, "")
    if rule is None or not (rule.shape or rule.backend != registry.HOST):
        stats.notes.append(f"{site.role}-attention: {reason}.")
        return Decision(site, None, rule, None if rule is None else registry.HOST, host)
    wanted, widget = (rule.shape.pattern.name, "pattern") if rule.shape else (rule.backend, "backend")
    if rule.on_unsupported == ERROR:
        raise UnsupportedAttention(sentence(wanted, site, None, reason, widget))
    decision = Decision(site, None, rule, wanted, host)
    decision.reason = reason
    return decision


def _decide(
    incoming: Incoming, options: Mapping, rules: tuple[Rule, ...], active, host: str, stats: RunStats
) -> Decision:
    site, video_span, call, odd = inspect(incoming, options)
    covering = [rule for rule, on in zip(rules, active) if on and rule.covers(site)]
    weak = weakened(covering, options.get(CONTEXT, IDLE).extra) if shapable(video_span) else None
    kept = weak and (odd or weak.extra.kernel(site, video_span, call))
    if callable(kept):
        decision = Decision(site, call, weak, weak.extra.name, weak.extra.label, video_span)
        decision.kernel = kept
        return decision
    shape = winner(covering, "shape") if shapable(video_span) else None
    shaped = None if shape is None else _shape(incoming, shape, site, video_span, call, odd, host, stats)
    decision = (
        shaped if isinstance(shaped, Decision) else _dense(incoming, covering, site, video_span, call, odd, host, stats)
    )
    if isinstance(shaped, Reason):
        decision.unshaped, decision.dense = (shape.shape.pattern.name, shaped), shaped
    if kept is not None:
        decision.unshaped = (weak.extra.name, kept)
    decision.strength = None if odd else combined(rule.strength for rule in covering if rule.kind == "strength")
    return decision


def weakened(covering: list[Rule], extra) -> Rule | None:
    """The rule that is about this extra pass, None in the model's own pass."""
    return None if extra is None else next((rule for rule in covering if rule.extra is extra), None)


def shapable(video_span: VideoSpan | Reason) -> bool:
    """False where it is known that no query is the video's: other tokens attend as ever, whatever the pattern."""
    if isinstance(video_span, Reason) or video_span.side != BOTH:
        return True
    return video_span.queries.start < video_span.queries.stop


def winner(covering: list[Rule], kind: str) -> Rule | None:
    """The last rule of a kind among those that cover a call. kind: as Rule.kind has it."""
    return next((rule for rule in reversed(covering) if rule.kind == kind), None)


def _shape(
    incoming, rule: Rule, site, video_span: VideoSpan | Reason, call, odd, host: str, stats: RunStats
) -> Decision | Reason:
    """The Decision of a call that runs by a pattern, or why it stays dense."""
    reason, shape = odd or (video_span if isinstance(video_span, Reason) else None), rule.shape
    if reason is None and video_span.stop - video_span.start < shape.min_tokens:
        reason = Reason(f"{video_span.stop - video_span.start} video tokens, fewer than min_tokens")
    pattern = shape.pattern
    if reason is None and incoming.chunk is not None:
        pattern = pattern_of(pattern, incoming.chunk, incoming.heads, site.heads)
        reason = pattern if isinstance(pattern, Reason) else None
    found = reason or runners(
        pattern, video_span, call, block=site.block or 0, engine=shape.engine, order=video_span.order
    )
    if isinstance(found, Reason):
        if rule.on_unsupported == ERROR:
            raise UnsupportedAttention(sentence(shape.pattern.name, site, call, found, "pattern"))
        return found
    decision = Decision(site, call, rule, shape.pattern.name, host, video_span)
    runner = choose_engine(incoming, decision, found, stats)
    decision.used = f"{shape.pattern.name} ({runner.label})"
    return _begun(decision, runner.holding(lambda: stats.evaluations).kernel, stats)


def _begun(decision: Decision, kernel: Callable, stats: RunStats) -> Decision:
    """The decision with what runs its calls. The first of them is looked at where anything is to be looked for."""
    decision.kernel, decision.known = kernel, stats.known
    decision.guard = decision.rule.guard != GUARD_OFF or (decision.used, decision.geometry) not in stats.known.proven
    return decision


def choose_engine(incoming: Incoming, decision: Decision, found: tuple[Runner, ...], stats: RunStats) -> Runner:
    """The fastest of the engines that accept a call; the decision learns what was measured."""
    rule = decision.rule
    if len(found) == 1 or rule.shape.engine != AUTO or rule.choice != MEASURE:
        return found[0]

    def tensors():
        q, k, v = to_heads(incoming.q, incoming.k, incoming.v, incoming.heads, incoming.split_in)
        return q, k, v, to_mask(incoming.mask, q.dtype)

    key = key_of(decision.geometry, incoming.q.device, name_of(incoming.func), incoming.split_in)
    try:
        runner, decision.choice, fresh = fastest(
            key, found, incoming.run, incoming.run_host, tensors, rule.max_error, decision.geometry.scale
        )
    except Exception as error:  # a choice must not cost a render
        stats.notes.append(f"auto could not measure the engines ({error_message(error)}) and went by table order.")
        return found[0]
    if fresh:
        stats.choosing += decision.choice.spent
    return runner


def _dense(incoming, covering, site, video_span, call, odd, host: str, stats: RunStats) -> Decision:
    """The Decision of a call that attends to everything: the last backend rule's choice."""
    rule = winner(covering, "")
    if rule is None or rule.backend == registry.HOST:
        return Decision(site, call, rule, None if rule is None else registry.HOST, host, video_span)
    decision = Decision(site, call, rule, rule.backend, host, video_span)
    name, decision.reason = rule.backend, odd
    if odd is None and name == registry.AUTO:
        name = choose_auto(incoming, decision, stats)
    elif odd is None:
        decision.reason = registry.why_not(name, call)
    if decision.reason is not None and rule.on_unsupported == ERROR:
        raise UnsupportedAttention(sentence(rule.backend, site, call, decision.reason))
    if decision.reason is None and name != HOST_RUN:
        decision.used = name
        return _begun(decision, registry.load(name), stats)
    return decision


def choose_auto(incoming: Incoming, decision: Decision, stats: RunStats) -> str:
    """The backend that `auto` gives this call, HOST_RUN for the host's own; the decision learns why."""
    accepted, reasons = registry.candidates(decision.geometry)
    decision.passed_over = reasons
    if not accepted:
        decision.reason = "no backend accepts this call"
        return HOST_RUN
    if decision.rule.choice != MEASURE or decision.geometry.grad:
        name, decision.passed_over = registry.pick(decision.geometry)
        return name
    try:
        decision.choice, fresh = _measure(incoming, decision, accepted)
    except Exception as error:  # out of memory in the sample, say: a choice must not cost a render
        stats.notes.append(f"auto could not measure ({error_text(error)}) and went by table order.")
        return accepted[0]
    if fresh:
        stats.choosing += decision.choice.spent
    return decision.choice.winner


def _measure(incoming: Incoming, decision: Decision, accepted: list[str]) -> tuple[AutotuneResult, bool]:
    def make_spot_check() -> SpotCheck:
        q, k, v = to_heads(incoming.q, incoming.k, incoming.v, incoming.heads, incoming.split_in)
        return SpotCheck(q, k, v, to_mask(incoming.mask, q.dtype), decision.geometry.scale)

    runs = {name: lambda name=name: incoming.run(registry.load(name)) for name in accepted}
    key = (str(incoming.q.device), decision.geometry, name_of(incoming.func), incoming.split_in)
    return fastest_backend(key, runs, incoming.run_host, make_spot_check, decision.rule.max_error)


def inspect(
    incoming: Incoming, options: Mapping
) -> tuple[AttentionSite, VideoSpan | Reason, Geometry | None, Reason | None]:
    """Site, place and geometry of a call and, when it is none that a kernel could take, why."""
    q, k, v, heads, split = incoming.q, incoming.k, incoming.v, incoming.heads, incoming.split_in
    if (odd := _odd_layout(incoming)) is not None:
        return *locate(options, 0, 1), None, odd
    q, k, v = to_heads(q, k, v, heads, split)
    site, video_span = locate(options, q.shape[2], k.shape[2], first_query_of(incoming.q, incoming.k, split))
    call = describe(
        q, k, v, to_mask(incoming.mask, q.dtype), scale=incoming.kw.get("scale"),
        low_precision=incoming.kw.get("low_precision_attention") is not False, precision=incoming.precision,
    )  # fmt: skip
    if k.shape[0] != q.shape[0] or k.shape[:3] != v.shape[:3] or not q.shape[-1] == k.shape[-1] == v.shape[-1]:
        return site, video_span, call, Reason("q, k and v of different batch or head size")
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        return site, video_span, call, Reason(f"{q.shape[1]} heads over {k.shape[1]} key heads")
    return site, video_span, call, None


def _odd_layout(incoming: Incoming) -> Reason | None:
    """Why the tensors cannot be read as heads at all, or None."""
    q, k, v, heads, split = incoming.q, incoming.k, incoming.v, incoming.heads, incoming.split_in
    if not q.ndim == k.ndim == v.ndim == (4 if split else 3) or heads < 1 or (not split and q.shape[-1] % heads):
        return Reason(f"tensors of {q.ndim} axes and {heads} heads")
    head_dim = q.shape[-1] if split else q.shape[-1] // heads
    if not head_dim or (not split and (k.shape[-1] % head_dim or v.shape[-1] % head_dim)):
        return Reason(f"k and v of {k.shape[-1]} and {v.shape[-1]} channels, head size {head_dim}")
    if incoming.mask is not None and not 2 <= incoming.mask.ndim <= 4:
        return Reason(f"mask of {incoming.mask.ndim} axes")
    return None


def sentence(backend: str, site: AttentionSite, geometry: Geometry | None, reason: str, widget: str = "backend") -> str:
    """What on_unsupported 'error' says. widget: which of the node's inputs named it."""
    where = f"{site.role}-attention" + ("" if site.block is None else f" of block {site.block}")
    what = "" if geometry is None else f" ({geometry.shape_text})"
    return (
        f"{widget}: {backend!r} cannot run the {where}{what}: {reason}. "
        f"Choose another {widget} or set on_unsupported to 'fall back'."
    )
