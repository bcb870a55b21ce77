"""rules -> decision -> run -> count. The only thing that the host's attention override calls."""

from __future__ import annotations

import torch

from . import registry
from .call import Call, describe
from .layout import from_heads, to_heads, to_mask
from .rules import ERROR, GUARD_EVERY, GUARD_OFF, Rule
from .site import Site, Step, guess
from .tally import Record, Tally, end_span, start_span

# Keys in the host's transformer_options. Dots keep them apart from names that models take as keyword arguments.
SITE, STEP, TALLY, OFF = "vattn.site", "vattn.step", "vattn.tally", "vattn.off"

_NOTHING: dict = {}


class UnsupportedAttention(RuntimeError):
    """The user asked for an error instead of a fallback. Names backend, site and reason."""


class Router:
    """Routes every attention call of one model to the backend that its rules name.

    rules: the last one that covers a call wins. previous: the override found in the slot, called for everything that
    no rule covers or no backend accepts; None for the host's own attention. Unchanging, so clones may share it: what
    is counted goes to the Tally found in transformer_options.
    """

    def __init__(self, rules: tuple[Rule, ...] = (), previous=None):
        self.rules, self.previous = tuple(rules), previous
        self.timing = any(rule.timing for rule in self.rules)
        self.tally = Tally()
        self._route_eagerly = torch.compiler.disable(self._route)

    def __deepcopy__(self, memo):
        return self

    def with_rule(self, rule: Rule) -> Router:
        """A new router with one rule more."""
        return Router((*self.rules, rule), self.previous)

    def __call__(
        self, func, q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw
    ):
        """The override contract of comfy.ldm.modules.attention.wrap_attn."""
        return self._route_eagerly(func, q, k, v, heads, mask, attn_precision, skip_reshape, skip_output_reshape, kw)

    def _route(self, func, q, k, v, heads, mask, precision, split_in, split_out, kw):
        args = (q, k, v, heads, mask, precision, split_in, split_out)
        options = kw.get("transformer_options") or _NOTHING
        if not self.rules or (OFF in options and self in options[OFF]):
            return self._next(func, args, kw)
        tally = options.get(TALLY) or self.tally
        step = options.get(STEP)
        key = (
            self,
            options.get(SITE),
            step and step.active.get(self),
            q.shape,
            k.shape,
            v.shape,
            heads,
            q.dtype,
            q.device,
            mask is not None and (mask.shape, mask.dtype),
            precision,
            split_in,
            kw.get("scale"),
            kw.get("low_precision_attention"),
        )
        record = tally.records.get(key)
        if record is None:
            record = self._decide(func, q, k, v, heads, mask, precision, split_in, kw, step)
            tally.records[key] = record
        record.calls += 1
        if self.timing:
            begin = start_span(q.device)
            out = self._run(record, func, args, kw)
            record.spans.append(end_span(begin, q.device))
            return out
        return self._run(record, func, args, kw)

    def _run(self, record: Record, func, args, kw):
        if record.kernel is None:
            record.fell_back += record.reason is not None
            return self._next(func, args, kw)
        q, k, v, heads, mask, precision, split_in, split_out = args
        try:
            out = _attend(record.kernel, q, k, v, heads, mask, precision, split_in, kw.get("scale"))
            if record.guard:
                _check_finite(out)
                record.guard = record.rule.guard == GUARD_EVERY
        except Exception as error:
            return self._recover(record, error, func, args, kw)
        return from_heads(out, split_out)

    def _recover(self, record: Record, error: Exception, func, args, kw):
        """After a kernel failed: not this kernel again for this site and geometry, and the render goes on."""
        reason = (
            f"{type(error).__name__}: {error}".strip().splitlines()[0]
            if not isinstance(error, NotFinite)
            else str(error)
        )
        if record.rule.on_unsupported == ERROR:
            raise UnsupportedAttention(_sentence(record.used, record.site, record.call, reason)) from error
        record.reason, record.kernel, record.used = reason, None, self._next_name(func)
        record.fell_back += 1
        return self._next(func, args, kw)

    def _next(self, func, args, kw):
        q, k, v, heads, mask, precision, split_in, split_out = args
        following = (q, k, v, heads)
        named = dict(mask=mask, attn_precision=precision, skip_reshape=split_in, skip_output_reshape=split_out, **kw)
        return func(*following, **named) if self.previous is None else self.previous(func, *following, **named)

    def _next_name(self, func) -> str:
        following = func if self.previous is None else self.previous
        name = getattr(following, "__qualname__", type(following).__qualname__)
        return (
            f"{registry.HOST} ({name.removeprefix('attention_')})"
            if self.previous is None
            else f"other override ({name})"
        )

    def _decide(self, func, q, k, v, heads, mask, precision, split_in, kw, step: Step | None) -> Record:
        site, call, odd = _inspect(q, k, v, heads, mask, precision, split_in, kw)
        rule = self._winner(site, step)
        host = self._next_name(func)
        if rule is None or rule.backend == registry.HOST:
            return Record(site, call, rule, None if rule is None else registry.HOST, host)
        passed_over: dict[str, str] = {}
        name, reason = rule.backend, odd
        if reason is None and name == registry.AUTO:
            name, passed_over = registry.pick(call)
            reason = "no backend accepts this call" if name is None else None
        elif reason is None:
            reason = registry.why_not(name, call)
        if reason is not None and rule.on_unsupported == ERROR:
            raise UnsupportedAttention(_sentence(rule.backend, site, call, reason))
        record = Record(site, call, rule, rule.backend, name if reason is None else host)
        record.reason, record.passed_over = reason, passed_over
        record.kernel = registry.load(name) if reason is None else None
        record.guard = reason is None and rule.guard != GUARD_OFF
        return record

    def _winner(self, site: Site, step: Step | None) -> Rule | None:
        # A rule for some steps only stays out when nobody published the step.
        active = step.active[self] if step is not None and self in step.active else tuple(r.always for r in self.rules)
        covering = (rule for rule, on in zip(self.rules[::-1], active[::-1]) if on and rule.covers(site))
        return next(covering, None)


class NotFinite(ArithmeticError):
    """A kernel gave NaN or Inf."""


def _check_finite(out: torch.Tensor) -> None:
    if not torch.isfinite(out).all():
        raise NotFinite("NaN or Inf in the output")


def _attend(kernel, q, k, v, heads, mask, precision, split_in, scale):
    """(B, H, Lq, D) in q's dtype, computed in float32 where the model asks for it."""
    dtype = q.dtype
    q, k, v = to_heads(q, k, v, heads, split_in)
    if precision is not None and precision != dtype:
        q, k, v = q.to(precision), k.to(precision), v.to(precision)
    out = kernel(q, k, v, mask=to_mask(mask, q.dtype), scale=scale)
    if out.shape != q.shape:
        raise ValueError(f"output shape {tuple(out.shape)} instead of {tuple(q.shape)}")
    return out.to(dtype)


def _inspect(q, k, v, heads, mask, precision, split_in, kw) -> tuple[Site, Call | None, str | None]:
    """Site and geometry of a call and, when it is none we can describe, why."""
    site = (kw.get("transformer_options") or _NOTHING).get(SITE)
    ndim = 4 if split_in else 3
    if not q.ndim == k.ndim == v.ndim == ndim or heads < 1 or (not split_in and q.shape[-1] % heads):
        return site or guess(0, 1), None, f"tensors of {q.ndim} axes and {heads} heads"
    q, k, v = to_heads(q, k, v, heads, split_in)
    site = site or guess(q.shape[2], k.shape[2])
    call = describe(
        q,
        k,
        v,
        to_mask(mask, q.dtype),
        scale=kw.get("scale"),
        low_precision=kw.get("low_precision_attention") is not False,
        precision=precision,
    )
    if k.shape[0] != q.shape[0] or k.shape[:3] != v.shape[:3] or not q.shape[-1] == k.shape[-1] == v.shape[-1]:
        return site, call, "q, k and v of different batch or head size"
    if q.shape[1] % k.shape[1]:
        return site, call, f"{q.shape[1]} heads over {k.shape[1]} key heads"
    return site, call, None


def _sentence(backend: str, site: Site, call: Call | None, reason: str) -> str:
    where = f"{site.role}-attention" + ("" if site.block is None else f" of block {site.block}")
    what = "" if call is None else f" ({call.shape_text})"
    return (
        f"backend: {backend!r} cannot run the {where}{what}: {reason}. "
        "Choose another backend or set on_unsupported to 'fall back'."
    )
