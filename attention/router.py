"""rules -> decision -> run -> count. The only thing that the host's attention override calls."""

from __future__ import annotations

from functools import partial

import torch

from . import opaque
from .attempt import Failure, InputsLost, again, failed, first, insist, is_shared, keep, refused
from .below import answer, answer_below, each
from .decide import Incoming, checked, decide, run_kernel
from .guidance import nag
from .identity import Itself
from .layout import begin_of, from_heads, to_heads, to_mask
from .moment import IDLE, MOMENT, locate
from .own import host_function, host_name, own_function
from .owner import owner
from .recording import paused
from .rules import ERROR, Rule
from .site import CALLER, SELF, site_of
from .tally import Record, Tally, end_span, start_span

_NOTHING: dict = {}


class Router(Itself):
    """Routes every attention call of one model to the backend that its rules name.

    rules: the last one that covers a call wins. previous: the override found in the slot, called for everything that
    no rule covers or no backend accepts; None for the host's own attention. host: the host's own attention function,
    for calls that come without it; None: such calls are not taken. Unchanging, so clones may share it: what is counted
    goes to the Tally of the Moment in transformer_options.
    """

    def __init__(self, rules: tuple[Rule, ...] = (), previous=None, host=None):
        self.rules, self.previous, self.host = tuple(rules), previous, host
        # A rule for some steps only stays out when nobody published the step.
        self.always = tuple(rule.always for rule in self.rules)
        self.timing = any(rule.timing for rule in self.rules)
        self.tally = Tally()
        opaque.prepare()
        self._route_eagerly = opaque.eagerly(self._route)
        if host is not None:
            # Hosts look for this name. They pass no `func` with containers: without `host` nothing could fall back.
            self.container_function = self._call_with_containers
            self._route_containers_eagerly = opaque.eagerly(self._route_containers)

    def with_rule(self, rule: Rule) -> Router:
        """A new router with one rule more."""
        return Router((*self.rules, rule), self.previous, self.host)

    def __call__(
        self, func, q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw
    ):
        """The override contract of comfy.ldm.modules.attention.wrap_attn."""
        args = (func, q, k, v, heads, mask, attn_precision, skip_reshape, skip_output_reshape, kw)
        if not torch.compiler.is_compiling():
            return self._route(*args)
        return opaque.route(*args) if opaque.is_opaque(self, func, q, k, v, kw) else self._route_eagerly(*args)

    def _call_with_containers(
        self, q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw
    ):
        """The same contract with q, k, v in the host's AttentionTensorContainer: `peek()` looks, `take()` empties it.

        Whoever takes a tensor is the only one to hold it, so a kernel that can frees it before it attends.
        """
        args = (q, k, v, heads, mask, attn_precision, skip_reshape, skip_output_reshape)
        if not torch.compiler.is_compiling():
            return self._route_containers(args, kw)
        if opaque.is_opaque(self, self.host, q.peek(), k.peek(), v.peek(), kw):
            return opaque.route(self.host, *each(args, "take"), kw)
        return self._route_containers_eagerly(args, kw)

    def _route(self, func, q, k, v, heads, mask, precision, split_in, split_out, kw):
        args = (q, k, v, heads, mask, precision, split_in, split_out)
        if (kw.get("transformer_options") or _NOTHING).get(MOMENT, IDLE).doubled is not None:
            out = self._part_prompts(func, args, kw)
            if out is not None:
                return out
        record = self._find(func, args, kw)
        if record is None:
            return self._next(func, args, kw)
        run = self._run if record.strength is None else self._strengthen
        return self._time(run, q.device, record, func, args, kw) if self.timing else run(record, func, args, kw)

    def _route_containers(self, args, kw):
        # No name here may hold a tensor: the kernel could not free it.
        if (kw.get("transformer_options") or _NOTHING).get(MOMENT, IDLE).doubled is not None:
            return self._route(self.host, *each(args, "take"), kw)
        record = self._find(self.host, each(args, "peek"), kw)
        if record is None:
            return self._pass_on(args, kw)
        run = self._run_containers
        if self.timing:
            return self._time(run, args[0].peek().device, record, self.host, args, kw)
        return run(record, self.host, args, kw)

    def _part_prompts(self, func, args, kw):
        """Attention to a prompt that has a negative one behind it, as two calls; None where this is no such call."""
        options = kw["transformer_options"]
        moment, (q, k, v, heads, mask, precision, split_in, split_out) = options[MOMENT], args
        doubled, axis = moment.doubled, 2 if split_in else 1
        site, _ = locate(options, q.shape[axis], k.shape[axis])
        if site.role not in nag.ROLES or k.shape[axis] != doubled.length:
            return None
        kw = {**kw, "transformer_options": {**options, MOMENT: moment.but(doubled=None)}}

        def attend(start, length, keep):
            keys = slice(start, start + length)
            tensors = (keep(t) for t in (q, *(t.narrow(axis, start, length) for t in (k, v))))
            seen = keep(nag.part(mask, keys, doubled.length))
            return self._route(func, *tensors, heads, seen, precision, split_in, split_out, kw)

        out = attend(0, doubled.first, lambda t: t)
        active = moment.active_of(self)
        covering = (r for r, on in zip(self.rules, active) if on and r.kind == "nag" and r.covers(site))
        rule = next(reversed(tuple(covering)), None)
        if rule is None or rule.nag.idle:
            return out
        batch, positive = q.shape[0], doubled.positive
        if not doubled.knows(batch):
            (moment.tally or self.tally).leave(nag.NAME, "attention call", nag.IN_PARTS)
            return out
        other = attend(doubled.first, doubled.second, lambda t: nag.rows(t, positive, batch))
        (moment.tally or self.tally).spend(nag.NAME, "attention call")
        return nag.replace_rows(out, rule.nag.guide(nag.rows(out, positive, batch), other), positive)

    def _find(self, func, args, kw) -> Record | None:
        """What was decided for this call, counted; None where no rule is in force."""
        options = kw.get("transformer_options") or _NOTHING
        moment, site, caller = options.get(MOMENT, IDLE), site_of(options), options.get(CALLER)
        if not self.rules or self in moment.off:
            return None
        q, k, v, heads, mask, precision, split_in, _ = args
        tally = moment.tally or self.tally
        chunk = None if site is None or heads >= site.heads else tally.chunks.of(site, heads, self)
        key = (
            self, site, moment, q.shape, k.shape, v.shape, heads, q.dtype, q.device,
            mask is not None and (mask.shape, mask.dtype), precision, split_in, kw.get("scale"),
            kw.get("low_precision_attention"),
            torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad),
            q.shape != k.shape and site is not None and site.role == SELF and begin_of(q, k, split_in),
            chunk,
        )  # fmt: skip
        record = tally.records.get(key)
        if record is None:
            host = host_function(func, self.previous, kw)
            incoming = Incoming(host, q, k, v, heads, mask, precision, split_in, kw, chunk)
            active = moment.active_of(self)
            with paused():
                record = decide(incoming, options, self.rules, active, self._next_name(func, kw), tally)
            tally.records[key] = record
        if chunk is not None:
            tally.join((self, site), chunk, record)
        record.calls += 1
        if caller is not None:
            caller.routed += 1
            if caller.above is not None:
                # The router above passed it on to another override, and that one to us: a call is counted once.
                caller.above.below += 1
                caller.above = None
        return record

    def _time(self, run, device, record: Record, func, args, kw):
        begin, below = start_span(device), record.below
        out = run(record, func, args, kw)
        if record.below == below:
            record.add_span(end_span(begin, device))
        return out

    def _run(self, record: Record, func, args, kw):
        if record.kernel is None:
            record.fell_back += record.reason is not None
            return self._next(func, args, kw, record)
        *inputs, split_out = args
        if record.guard:
            out = first(record, inputs, kw.get("scale"))
        else:
            try:
                return from_heads(run_kernel(record.kernel, *inputs, kw.get("scale")), split_out)
            except Exception as error:
                out = failed(record, error)
            # Not within the except block, which would keep the kernel's scratch until it is left.
            out = again(record, out, inputs, kw.get("scale"))
        return self._recover(record, out, func, args, kw) if isinstance(out, Failure) else from_heads(out, split_out)

    def _run_containers(self, record: Record, func, args, kw):
        if record.kernel is None and record.strength is None:
            record.fell_back += record.reason is not None
            return self._pass_on(args, kw, record)
        if record.strength is not None:
            return self._strengthen(record, func, each(args, "take"), kw)
        q, *_, precision, _, _ = args
        wide = precision is not None and precision != q.peek().dtype
        # The first call is looked at, and needs q, k, v to fall back; so does any whose evaluation nobody repeats.
        if record.known.lets_go and hasattr(record.kernel, "consume") and not record.guard and not wide:
            return self._consume(record, func, args, kw)
        return self._run(record, func, each(args, "take"), kw)

    def _consume(self, record: Record, func, args, kw):
        """The kernel on tensors that nobody else holds. An error once they are gone: InputsLost, and no kernel of this
        run lets go of its inputs again."""
        *containers, heads, mask, precision, split_in, split_out = args
        tensors = list(to_heads(*(each.take() for each in containers), heads, split_in))
        shape, dtype = tensors[0].shape, tensors[0].dtype
        try:
            out = record.kernel.consume(tensors, mask=to_mask(mask, dtype), scale=kw.get("scale"))
            return from_heads(checked(out, shape, dtype), split_out)
        except Exception as error:
            failure = failed(record, error)
        if len(tensors) < len(containers):
            record.known.lets_go = False
            self._give_up(record, failure, func, kw)
            raise InputsLost(failure.reason)
        inputs = (*(from_heads(t, split_in) for t in tensors), heads, mask, precision, split_in)
        out = again(record, failure, inputs, kw.get("scale"))
        args = (*inputs, split_out)
        return self._recover(record, out, func, args, kw) if isinstance(out, Failure) else from_heads(out, split_out)

    def _strengthen(self, record: Record, func, args, kw):
        """Whatever runs the call, with sharper or flatter attention and stronger ties between frames."""
        q, k, v, heads, mask, precision, split_in, split_out = args
        q = record.strength.sharpen(q)
        out = self._run(record, func, (q, k, v, heads, mask, precision, split_in, split_out), kw)
        return record.strength.amplify(out, q, k, heads, split_in, split_out, record.place, kw.get("scale"))

    def _recover(self, record: Record, failure: Failure, func, args, kw):
        """After a kernel failed: the render goes on without it, unless what runs instead is no better."""
        if failure.holes is None or record.rule.on_unsupported == ERROR:
            self._give_up(record, failure, func, kw)
        out = insist(partial(self._next, func, args, kw, record), failure, args[0].device)
        if failure.holes is not None:
            if is_shared(failure, out, args[3], args[-1]):
                keep(record)
                return out
            self._give_up(record, failure, func, kw)
        record.fell_back += 1
        return out

    def _give_up(self, record: Record, failure: Failure, func, kw) -> None:
        """Not this kernel again for this site and geometry; UnsupportedAttention where the rule wants errors."""
        if record.rule.on_unsupported == ERROR:
            raise refused(record, failure.reason)
        record.reason, record.kernel, record.used = failure.reason, None, self._next_name(func, kw)

    def _next(self, func, args, kw, record: Record | None = None):
        if self.previous is None:
            return answer(own_function(kw) or func, args, kw)
        return self._below(partial(self.previous, func), func, args, kw, record)

    def _below(self, attention, func, args, kw, record: Record | None):
        if record is None:
            return answer(attention, args, kw)
        own = own_function(kw)
        return answer_below(attention, args, kw, record, self.previous, own or func, host_name(func, own))

    def _pass_on(self, args, kw, record: Record | None = None):
        """`_next` for containers: they stay closed for an override or a host that takes them so."""
        if self.previous is None:
            # ComfyUI sets the name on each of its functions that opens containers; another pack's may not. What a
            # file names is always one of ComfyUI's.
            closed = own_function(kw) or (self.host if hasattr(self.host, "container_function") else None)
        else:
            closed = getattr(self.previous, "container_function", None)
        if closed is None:
            return self._next(self.host, each(args, "take"), kw, record)
        if self.previous is None:
            return answer(closed, args, kw)
        return self._below(closed, self.host, args, kw, record)

    def _next_name(self, func, kw) -> str:
        if self.previous is None:
            return host_name(func, own_function(kw))
        return owner(self.previous)
