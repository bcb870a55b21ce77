"""The cold half of routing: what a call is, which rule covers it, which kernel it gets. Runs once for each geometry."""

from __future__ import annotations

from typing import NamedTuple

from ..backends import registry
from ..backends.autotune import HOST_RUN
from ..core.error_handling import error_text
from ..core.geometry import Geometry, describe
from ..core.head_chunks import pattern_of_heads
from ..core.kernel import Kernel
from ..core.reason import Reason
from ..core.site import GUESSED, SELF, AttentionSite, site_of
from ..core.tensor_layout import first_query_of
from ..core.tokens import BOTH, VideoSpan
from ..guidance.strength import CROSS_FRAME, combined
from ..sparse.engine_registry import runners
from .attention_call import AttentionCall
from .choose import choose_auto, choose_engine, compare, why_dense
from .chunking import backend_kernel, begin, budgeted
from .errors import UnsupportedAttention
from .rules import ERROR, GUARD_OFF, Asker, Rule, covering, winner
from .run_stats import Decision, RunStats
from .step_context import CONTEXT, IDLE, locate


class Inspected(NamedTuple):
    """What a call is.

    site: where it comes from.
    video_span: where in it the video's tokens are, or why that cannot be told.
    geometry: of its tensors, None where they cannot be read as heads.
    malformed: why no kernel could take it, None for a call as it should be.
    """

    site: AttentionSite
    video_span: VideoSpan | Reason
    geometry: Geometry | None
    malformed: Reason | None


def decide(call: AttentionCall, rules: tuple[Rule, ...], active, host: str, stats: RunStats) -> Decision:
    """Decide about a call: the last rule that covers it, its backend, and why not, if not.

    call: open; its func: what ComfyUI would run with its slot empty.
    active: for each rule, which of its stretches this step is in, 0 where it does not cover the step.
    host: what runs without us, by name.
    Raises UnsupportedAttention where the rule wants that instead of a fallback.
    """
    try:
        return _decide(call, rules, active, host, stats)
    except UnsupportedAttention:
        raise
    except Exception as error:  # deciding must not cost a render either
        return _undecided(f"it could not be decided ({error_text(error)})", call, rules, active, host, stats)


def _undecided(reason: str, call: AttentionCall, rules, active, host: str, stats: RunStats) -> Decision:
    """Leave a call whose decision failed to the host's own; the last rule about a kernel says why."""
    site = site_of(call.options) or GUESSED[SELF]
    covers = covering(rules, active, site)
    rule = winner(covers, "shape") or winner(covers, "")
    if rule is None or not (rule.shape or rule.backend != registry.HOST):
        stats.notes.append(f"{site.role}-attention: {reason}.")
        return Decision(site, None, rule, None if rule is None else registry.HOST, host)
    wanted, widget = (rule.shape.pattern.name, "pattern") if rule.shape else (rule.backend, "backend")
    if rule.on_unsupported == ERROR:
        raise UnsupportedAttention(sentence(stats.find_asker(rule.asker), wanted, site, None, reason, widget))
    decision = Decision(site, None, rule, wanted, host)
    decision.reason = reason
    return decision


def _decide(call: AttentionCall, rules: tuple[Rule, ...], active, host: str, stats: RunStats) -> Decision:
    found = inspect(call)
    site, video_span, geometry, malformed = found
    covers = covering(rules, active, site)
    perturb_rule = perturbing(covers, call.options.get(CONTEXT, IDLE).perturbation) if shapable(video_span) else None
    # Its kernel, or why the call stays as it is.
    perturb_result = perturb_rule and (malformed or perturb_rule.perturbation.kernel(site, video_span, geometry))
    if callable(perturb_result):
        perturbation = perturb_rule.perturbation
        decision = Decision(site, geometry, perturb_rule, perturbation.name, perturbation.label, video_span)
        decision.kernel = perturb_result
        return decision
    shape, timed = winner(covers, "shape") if shapable(video_span) else None, any(rule.timing for rule in rules)
    shaped = None if shape is None else _shape(call, found, shape, host, stats, timed)
    decision = shaped
    if not isinstance(shaped, Decision) or shape.shape.if_faster:
        decision = _dense(call, found, winner(covers, ""), host, stats, timed)
    if isinstance(shaped, Decision) and decision is not shaped:
        why = why_dense(shaped, decision)
        decision, shaped = (shaped, shaped) if why is None else (decision, why)
    if isinstance(shaped, Reason):
        decision.unshaped, decision.dense = (shape.shape.pattern.name, shaped), shaped
    if perturb_result is not None:
        decision.unshaped = (perturb_rule.perturbation.name, perturb_result)
    strengths = (rule.strength for rule in covers if rule.kind == "strength")
    decision.strength = None if malformed else combined(strengths)
    refused = decision.strength and decision.strength.refuses(video_span)
    if refused and decision.unshaped is None:
        decision.unshaped = (CROSS_FRAME, refused)
    return decision


def perturbing(covers: list[Rule], perturbation) -> Rule | None:
    """Find the rule that is about this extra pass, None in the model's own pass."""
    return None if perturbation is None else next((rule for rule in covers if rule.perturbation is perturbation), None)


def shapable(video_span: VideoSpan | Reason) -> bool:
    """Tell whether a pattern may be for a call: not where it is known that no query is the video's. Other tokens
    attend as ever, whatever the pattern."""
    if isinstance(video_span, Reason) or video_span.side != BOTH:
        return True
    return video_span.queries.start < video_span.queries.stop


def _shape(
    call: AttentionCall, found: Inspected, rule: Rule, host: str, stats: RunStats, timed: bool
) -> Decision | Reason:
    """Decide which engine runs a call by the rule's pattern, or say why the call stays dense."""
    (site, video_span, geometry, malformed), shape = found, rule.shape
    reason = malformed or (video_span if isinstance(video_span, Reason) else None)
    if reason is None and video_span.stop - video_span.start < shape.min_tokens:
        reason = Reason(f"{video_span.stop - video_span.start} video tokens, fewer than min_tokens")
    pattern = shape.pattern
    if reason is None and call.first_head is not None:
        pattern = pattern_of_heads(pattern, call.first_head, call.heads, site.heads)
        reason = pattern if isinstance(pattern, Reason) else None
    able = reason or runners(pattern, video_span, geometry, block=site.block or 0, engine=shape.engine)
    if isinstance(able, Reason):
        if rule.on_unsupported == ERROR:
            asker = stats.find_asker(rule.asker)
            raise UnsupportedAttention(sentence(asker, shape.pattern.name, site, geometry, able, "pattern"))
        return able
    decision = Decision(site, geometry, rule, shape.pattern.name, host, video_span)
    runner = choose_engine(call, decision, tuple(budgeted(rule, one, geometry) for one in able), stats, timed)
    decision.used = f"{shape.label} ({runner.label})"
    return _begun(decision, runner.with_block_cache(lambda: stats.evaluations, shape.refresh_overlap), stats)


def _begun(decision: Decision, kernel: Kernel, stats: RunStats) -> Decision:
    """Give the decision with what runs its calls. The first of them is looked at where anything is to be looked for."""
    decision.history, decision.asker = stats.history, stats.find_asker(decision.rule.asker)
    begin(decision, kernel)
    decision.guard = decision.rule.guard != GUARD_OFF or (decision.used, decision.geometry) not in stats.history.proven
    return decision


def _dense(
    call: AttentionCall, found: Inspected, rule: Rule | None, host: str, stats: RunStats, timed: bool
) -> Decision:
    """Decide which kernel runs a call that attends to everything.

    rule: the last one about a backend, or None.
    """
    site, video_span, geometry, malformed = found
    if rule is None or rule.backend == registry.HOST:
        return Decision(site, geometry, rule, None if rule is None else registry.HOST, host, video_span)
    decision = Decision(site, geometry, rule, rule.backend, host, video_span)
    name, decision.reason = rule.backend, malformed
    if malformed is None and name == registry.AUTO:
        name = choose_auto(call, decision, stats, timed)
    elif malformed is None:
        decision.reason = registry.why_not(name, geometry)
        if decision.reason is None and timed:
            compare(call, decision, name, stats)
    if decision.reason is not None and rule.on_unsupported == ERROR:
        raise UnsupportedAttention(
            sentence(stats.find_asker(rule.asker), rule.backend, site, geometry, decision.reason)
        )
    if decision.reason is None and name != HOST_RUN:
        decision.used = name
        return _begun(decision, backend_kernel(rule, name, geometry), stats)
    return decision


def inspect(call: AttentionCall) -> Inspected:
    """Find out what an open call is, and whether a kernel could take it."""
    malformed = _unreadable(call)
    if malformed is not None:
        return Inspected(*locate(call.options, 0, 1), None, malformed)
    q, k, v = call.to_heads()
    site, video_span = locate(call.options, q.shape[2], k.shape[2], first_query_of(call.q, call.k, call.split_in))
    geometry = describe(
        q, k, v, call.to_mask(), scale=call.kw.get("scale"),
        low_precision=call.kw.get("low_precision_attention") is not False, precision=call.precision,
    )  # fmt: skip
    if k.shape[0] != q.shape[0] or k.shape[:3] != v.shape[:3] or not q.shape[-1] == k.shape[-1] == v.shape[-1]:
        malformed = Reason("q, k and v of different batch or head size")
    elif not k.shape[1] or q.shape[1] % k.shape[1]:
        malformed = Reason(f"{q.shape[1]} heads over {k.shape[1]} key heads")
    return Inspected(site, video_span, geometry, malformed)


def _unreadable(call: AttentionCall) -> Reason | None:
    """Say why the tensors cannot be read as heads at all, or None."""
    q, k, v, heads, split = call.q, call.k, call.v, call.heads, call.split_in
    if not q.ndim == k.ndim == v.ndim == (4 if split else 3) or heads < 1 or (not split and q.shape[-1] % heads):
        return Reason(f"tensors of {q.ndim} axes and {heads} heads")
    head_dim = q.shape[-1] if split else q.shape[-1] // heads
    if not head_dim or (not split and (k.shape[-1] % head_dim or v.shape[-1] % head_dim)):
        return Reason(f"k and v of {k.shape[-1]} and {v.shape[-1]} channels, head size {head_dim}")
    if call.mask is not None and not 2 <= call.mask.ndim <= 4:
        return Reason(f"mask of {call.mask.ndim} axes")
    return None


def sentence(
    asker: Asker | None,
    wanted: str,
    site: AttentionSite,
    geometry: Geometry | None,
    reason: str,
    widget: str = "backend",
) -> str:
    """Write what on_unsupported 'error' says.

    asker: of the rule that asks for the error; it comes first, since ComfyUI blames the sampler.
    wanted: what cannot run.
    widget: which of the node's inputs named it.
    """
    where = f"{site.role}-attention" + ("" if site.block is None else f" of block {site.block}")
    what = "" if geometry is None else f" ({geometry.shape_text})"
    who = "" if asker is None else f"{asker.title}, "
    return (
        f"{who}{widget}: {wanted!r} cannot run the {where}{what}: {reason}. "
        f"Choose another {widget} or set on_unsupported to 'fall back'."
    )
