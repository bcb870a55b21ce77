"""rules -> decision -> run -> count. The only thing that the host's attention override calls."""

from __future__ import annotations

import torch

from . import registry
from .decide import Incoming, UnsupportedAttention, decide, run_kernel, sentence
from .layout import from_heads, to_heads
from .moment import IDLE, MOMENT
from .rules import ERROR, GUARD_EVERY, Rule
from .site import SITE
from .tally import Record, Tally, end_span, start_span

_NOTHING: dict = {}


class Router:
    """Routes every attention call of one model to the backend that its rules name.

    rules: the last one that covers a call wins. previous: the override found in the slot, called for everything that
    no rule covers or no backend accepts; None for the host's own attention. Unchanging, so clones may share it: what
    is counted goes to the Tally of the Moment in transformer_options.
    """

    def __init__(self, rules: tuple[Rule, ...] = (), previous=None):
        self.rules, self.previous = tuple(rules), previous
        # A rule for some steps only stays out when nobody published the step.
        self.always = tuple(rule.always for rule in self.rules)
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
        moment, site = options.get(MOMENT, IDLE), options.get(SITE)
        if not self.rules or self in moment.off:
            return self._next(func, args, kw)
        tally = moment.tally or self.tally
        key = (
            self, site, moment, q.shape, k.shape, v.shape, heads, q.dtype, q.device,
            mask is not None and (mask.shape, mask.dtype), precision, split_in, kw.get("scale"),
            kw.get("low_precision_attention"),
            torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad),
        )  # fmt: skip
        record = tally.records.get(key)
        if record is None:
            incoming = Incoming(func, q, k, v, heads, mask, precision, split_in, kw)
            active = moment.active_of(self)
            record = decide(incoming, options, self.rules, active, self._next_name(func), tally)
            tally.records[key] = record
        record.calls += 1
        run = self._run if record.strength is None else self._strengthen
        if not self.timing:
            return run(record, func, args, kw)
        begin = start_span(q.device)
        out = run(record, func, args, kw)
        record.spans.append(end_span(begin, q.device))
        return out

    def _run(self, record: Record, func, args, kw):
        if record.kernel is None:
            record.fell_back += record.reason is not None
            return self._next(func, args, kw)
        *inputs, split_out = args
        try:
            out = run_kernel(record.kernel, *inputs, kw.get("scale"))
            if record.guard:
                if not torch.isfinite(out).all():
                    raise NotFinite("NaN or Inf in the output")
                record.guard = record.rule.guard == GUARD_EVERY
        except Exception as error:
            return self._recover(record, error, func, args, kw)
        return from_heads(out, split_out)

    def _strengthen(self, record: Record, func, args, kw):
        """Whatever runs the call, with sharper or flatter attention and stronger ties between frames."""
        q, k, v, heads, mask, precision, split_in, split_out = args
        q = record.strength.sharpen(q)
        out = self._run(record, func, (q, k, v, heads, mask, precision, split_in, split_out), kw)
        return record.strength.amplify(out, q, k, heads, split_in, split_out, record.place, kw.get("scale"))

    def _recover(self, record: Record, error: Exception, func, args, kw):
        """After a kernel failed: not this kernel again for this site and geometry, and the render goes on."""
        name = "" if isinstance(error, NotFinite) else f"{type(error).__name__}: "
        reason = f"{name}{error}".strip().splitlines()[0]
        if record.rule.on_unsupported == ERROR:
            raise UnsupportedAttention(sentence(record.used, record.site, record.call, reason)) from error
        record.reason, record.kernel, record.used = reason, None, self._next_name(func)
        record.fell_back += 1
        return self._next(func, args, kw)

    def _next(self, func, args, kw):
        q, k, v, heads, mask, precision, split_in, split_out = args
        named = dict(mask=mask, attn_precision=precision, skip_reshape=split_in, skip_output_reshape=split_out, **kw)
        if self.previous is not None:
            return self.previous(func, q, k, v, heads, **named)
        out = func(q, k, v, heads, **named)
        # ComfyUI's attention_pytorch forgets skip_output_reshape above a batch of 32768.
        return to_heads(out, out, out, heads, False)[0] if split_out and out.ndim == 3 else out

    def _next_name(self, func) -> str:
        if self.previous is None:
            return f"{registry.HOST} ({getattr(func, '__qualname__', 'unknown').removeprefix('attention_')})"
        name = getattr(self.previous, "__qualname__", type(self.previous).__qualname__)
        return f"other override ({name})"


class NotFinite(ArithmeticError):
    """A kernel gave NaN or Inf."""
