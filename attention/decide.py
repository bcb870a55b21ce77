"""The cold half of routing: what a call is, which rule covers it, which kernel it gets. Runs once for each geometry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from . import registry
from .call import Call, describe
from .choose import HOST_RUN, Choice, choose
from .chunks import pattern_of
from .failures import brief, named
from .layout import begin_of, to_heads, to_mask
from .moment import IDLE, MOMENT, locate
from .own import name_of
from .rules import ERROR, GUARD_OFF, MEASURE, Rule
from .sample import Sample
from .site import GUESSED, SELF, Site, site_of
from .sparse import AUTO, Runner, runners
from .sparse.choose import fastest, key_of
from .strength import combined
from .tally import Record, Tally
from .tokens import BOTH, Place


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


def decide(incoming: Incoming, options: Mapping, rules: tuple[Rule, ...], active, host: str, tally: Tally) -> Record:
    """The Record for a call: last rule that covers it, its backend, and why not, if not.

    options: the host's, with the Site and the Moment of the call. active: for each rule, whether it covers this step.
    host: what runs without us, by name. Raises UnsupportedAttention when the rule wants that instead of a fallback.
    """
    try:
        return _decide(incoming, options, rules, active, host, tally)
    except UnsupportedAttention:
        raise
    except Exception as error:  # deciding must not cost a render either
        return _undecided(f"it could not be decided ({named(error)})", options, rules, active, host, tally)


def _undecided(reason: str, options, rules, active, host: str, tally: Tally) -> Record:
    """The Record of a call whose decision failed: the host's own, and the last rule about a kernel says why not."""
    site = site_of(options) or GUESSED[SELF]
    covering = [rule for rule, on in zip(rules, active) if on and rule.covers(site)]
    rule = winner(covering, "shape") or winner(covering, "")
    if rule is None or not (rule.shape or rule.backend != registry.HOST):
        tally.notes.append(f"{site.role}-attention: {reason}.")
        return Record(site, None, rule, None if rule is None else registry.HOST, host)
    wanted, widget = (rule.shape.pattern.name, "pattern") if rule.shape else (rule.backend, "backend")
    if rule.on_unsupported == ERROR:
        raise UnsupportedAttention(sentence(wanted, site, None, reason, widget))
    record = Record(site, None, rule, wanted, host)
    record.reason = reason
    return record


def _decide(incoming: Incoming, options: Mapping, rules: tuple[Rule, ...], active, host: str, tally: Tally) -> Record:
    site, place, call, odd = inspect(incoming, options)
    covering = [rule for rule, on in zip(rules, active) if on and rule.covers(site)]
    weak = weakened(covering, options.get(MOMENT, IDLE).extra) if shapable(place) else None
    kept = weak and (odd or weak.extra.kernel(site, place, call))
    if callable(kept):
        record = Record(site, call, weak, weak.extra.name, weak.extra.label, place)
        record.kernel = kept
        return record
    shape = winner(covering, "shape") if shapable(place) else None
    shaped = None if shape is None else _shape(incoming, shape, site, place, call, odd, host, tally)
    record = shaped if isinstance(shaped, Record) else _dense(incoming, covering, site, place, call, odd, host, tally)
    if isinstance(shaped, str):
        record.unshaped, record.dense = (shape.shape.pattern.name, shaped), shaped
    if kept is not None:
        record.unshaped = (weak.extra.name, kept)
    record.strength = None if odd else combined(rule.strength for rule in covering if rule.kind == "strength")
    return record


def weakened(covering: list[Rule], extra) -> Rule | None:
    """The rule that is about this extra pass, None in the model's own pass."""
    return None if extra is None else next((rule for rule in covering if rule.extra is extra), None)


def shapable(place: Place | str) -> bool:
    """False where it is known that no query is the video's: other tokens attend as ever, whatever the pattern."""
    return isinstance(place, str) or place.side != BOTH or place.queries.start < place.queries.stop


def winner(covering: list[Rule], kind: str) -> Rule | None:
    """The last rule of a kind among those that cover a call. kind: as Rule.kind has it."""
    return next((rule for rule in reversed(covering) if rule.kind == kind), None)


def _shape(incoming, rule: Rule, site, place: Place | str, call, odd, host: str, tally: Tally) -> Record | str:
    """The Record of a call that runs by a pattern, or why it stays dense."""
    reason, shape = odd or (place if isinstance(place, str) else None), rule.shape
    if reason is None and place.stop - place.start < shape.min_tokens:
        reason = f"{place.stop - place.start} video tokens, fewer than min_tokens"
    pattern = shape.pattern
    if reason is None and incoming.chunk is not None:
        pattern = pattern_of(pattern, incoming.chunk, incoming.heads, site.heads)
        reason = pattern if isinstance(pattern, str) else None
    found = reason or runners(pattern, place, call, block=site.block or 0, engine=shape.engine, order=place.order)
    if isinstance(found, str):
        if rule.on_unsupported == ERROR:
            raise UnsupportedAttention(sentence(shape.pattern.name, site, call, found, "pattern"))
        return found
    record = Record(site, call, rule, shape.pattern.name, host, place)
    runner = choose_engine(incoming, record, found, tally)
    record.used = f"{shape.pattern.name} ({runner.label})"
    return _begun(record, runner.holding(lambda: tally.evaluations).kernel, tally)


def _begun(record: Record, kernel: Callable, tally: Tally) -> Record:
    """The record with what runs its calls. The first of them is looked at where anything is to be looked for."""
    record.kernel, record.known = kernel, tally.known
    record.guard = record.rule.guard != GUARD_OFF or (record.used, record.call) not in tally.known.proven
    return record


def choose_engine(incoming: Incoming, record: Record, found: tuple[Runner, ...], tally: Tally) -> Runner:
    """The fastest of the engines that accept a call; the record learns what was measured."""
    rule = record.rule
    if len(found) == 1 or rule.shape.engine != AUTO or rule.choice != MEASURE:
        return found[0]

    def tensors():
        q, k, v = to_heads(incoming.q, incoming.k, incoming.v, incoming.heads, incoming.split_in)
        return q, k, v, to_mask(incoming.mask, q.dtype)

    key = key_of(record.call, incoming.q.device, name_of(incoming.func), incoming.split_in)
    try:
        runner, record.choice, fresh = fastest(
            key, found, incoming.run, incoming.run_host, tensors, rule.max_error, record.call.scale
        )
    except Exception as error:  # a choice must not cost a render
        tally.notes.append(f"auto could not measure the engines ({brief(error)}) and went by table order.")
        return found[0]
    if fresh:
        tally.choosing += record.choice.spent
    return runner


def _dense(incoming, covering, site, place, call, odd, host: str, tally: Tally) -> Record:
    """The Record of a call that attends to everything: the last backend rule's choice."""
    rule = winner(covering, "")
    if rule is None or rule.backend == registry.HOST:
        return Record(site, call, rule, None if rule is None else registry.HOST, host, place)
    record = Record(site, call, rule, rule.backend, host, place)
    name, record.reason = rule.backend, odd
    if odd is None and name == registry.AUTO:
        name = choose_auto(incoming, record, tally)
    elif odd is None:
        record.reason = registry.why_not(name, call)
    if record.reason is not None and rule.on_unsupported == ERROR:
        raise UnsupportedAttention(sentence(rule.backend, site, call, record.reason))
    if record.reason is None and name != HOST_RUN:
        record.used = name
        return _begun(record, registry.load(name), tally)
    return record


def choose_auto(incoming: Incoming, record: Record, tally: Tally) -> str:
    """The backend that `auto` gives this call, HOST_RUN for the host's own; the record learns why."""
    accepted, reasons = registry.candidates(record.call)
    record.passed_over = reasons
    rule = record.rule
    if not accepted:
        record.reason = "no backend accepts this call"
        return HOST_RUN
    if rule.choice != MEASURE or record.call.grad:
        name, record.passed_over = registry.pick(record.call)
        return name
    try:
        record.choice, fresh = _measure(incoming, record, accepted)
    except Exception as error:  # out of memory in the sample, say: a choice must not cost a render
        tally.notes.append(f"auto could not measure ({named(error)}) and went by table order.")
        return accepted[0]
    if fresh:
        tally.choosing += record.choice.spent
    return record.choice.winner


def _measure(incoming: Incoming, record: Record, accepted: list[str]) -> tuple[Choice, bool]:
    def make_sample() -> Sample:
        q, k, v = to_heads(incoming.q, incoming.k, incoming.v, incoming.heads, incoming.split_in)
        return Sample(q, k, v, to_mask(incoming.mask, q.dtype), record.call.scale)

    runs = {name: lambda name=name: incoming.run(registry.load(name)) for name in accepted}
    key = (str(incoming.q.device), record.call, name_of(incoming.func), incoming.split_in)
    return choose(key, runs, incoming.run_host, make_sample, record.rule.max_error)


def inspect(incoming: Incoming, options: Mapping) -> tuple[Site, Place | str, Call | None, str | None]:
    """Site, place and geometry of a call and, when it is none that a kernel could take, why."""
    q, k, v, heads, split = incoming.q, incoming.k, incoming.v, incoming.heads, incoming.split_in
    odd = _odd_layout(incoming)
    if odd is not None:
        return *locate(options, 0, 1), None, odd
    q, k, v = to_heads(q, k, v, heads, split)
    site, place = locate(options, q.shape[2], k.shape[2], begin_of(incoming.q, incoming.k, split))
    call = describe(
        q, k, v, to_mask(incoming.mask, q.dtype), scale=incoming.kw.get("scale"),
        low_precision=incoming.kw.get("low_precision_attention") is not False, precision=incoming.precision,
    )  # fmt: skip
    if k.shape[0] != q.shape[0] or k.shape[:3] != v.shape[:3] or not q.shape[-1] == k.shape[-1] == v.shape[-1]:
        return site, place, call, "q, k and v of different batch or head size"
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        return site, place, call, f"{q.shape[1]} heads over {k.shape[1]} key heads"
    return site, place, call, None


def _odd_layout(incoming: Incoming) -> str | None:
    """Why the tensors cannot be read as heads at all, or None."""
    q, k, v, heads, split = incoming.q, incoming.k, incoming.v, incoming.heads, incoming.split_in
    if not q.ndim == k.ndim == v.ndim == (4 if split else 3) or heads < 1 or (not split and q.shape[-1] % heads):
        return f"tensors of {q.ndim} axes and {heads} heads"
    head_dim = q.shape[-1] if split else q.shape[-1] // heads
    if not head_dim or (not split and (k.shape[-1] % head_dim or v.shape[-1] % head_dim)):
        return f"k and v of {k.shape[-1]} and {v.shape[-1]} channels, head size {head_dim}"
    if incoming.mask is not None and not 2 <= incoming.mask.ndim <= 4:
        return f"mask of {incoming.mask.ndim} axes"
    return None


def sentence(backend: str, site: Site, call: Call | None, reason: str, widget: str = "backend") -> str:
    """What on_unsupported 'error' says. widget: which of the node's inputs named it."""
    where = f"{site.role}-attention" + ("" if site.block is None else f" of block {site.block}")
    what = "" if call is None else f" ({call.shape_text})"
    return (
        f"{widget}: {backend!r} cannot run the {where}{what}: {reason}. "
        f"Choose another {widget} or set on_unsupported to 'fall back'."
    )
