"""rules -> decision -> run -> count. The only thing that the host's attention override calls."""

from __future__ import annotations

from functools import partial

import torch

from ..core.allocation_record import record_paused
from ..core.function_owner import owner_of
from ..core.identity import KeepsIdentity
from ..core.site import CALLER, SELF, site_of
from ..core.tensor_layout import first_query_of, from_heads, to_heads, to_mask
from ..core.timing import end_span, start_span
from ..guidance import nag
from . import compiled_op
from .decide import Incoming, checked, decide, run_kernel
from .fallback import answer, answer_below, each
from .guarded_run import Failure, InputsLost, again, failed, first, insist, is_shared, keep, refused
from .host_kernel import host_function, host_name, own_function
from .rules import ERROR, Rule
from .run_stats import Decision, RunStats
from .step_context import CONTEXT, IDLE, locate

_NOTHING: dict = {}


class Router(KeepsIdentity):
    """Routes every attention call of one model to the backend that its rules name.

    rules: the last one that covers a call wins. previous: the override found in the slot, called for everything that
    no rule covers or no backend accepts; None for the host's own attention. host: the host's own attention function,
    for calls that come without it; None: such calls are not taken. Unchanging, so clones may share it: what is counted
    goes to the RunStats of the StepContext in transformer_options.
    """

    def __init__(self, rules: tuple[Rule, ...] = (), previous=None, host=None):
        self.rules, self.previous, self.host = tuple(rules), previous, host
        # A rule for some steps only stays out when nobody published the step.
        self.always = tuple(rule.always for rule in self.rules)
        self.timing = any(rule.timing for rule in self.rules)
        self.stats = RunStats()
        compiled_op.prepare()
        self._route_eagerly = compiled_op.eagerly(self._route)
        if host is not None:
            # Hosts look for this name. They pass no `func` with containers: without `host` nothing could fall back.
            self.container_function = self._call_with_containers
            self._route_containers_eagerly = compiled_op.eagerly(self._route_containers)

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
        return (
            compiled_op.route(*args) if compiled_op.is_opaque(self, func, q, k, v, kw) else self._route_eagerly(*args)
        )

    def _call_with_containers(
        self, q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw
    ):
        """The same contract with q, k, v in the host's AttentionTensorContainer: `peek()` looks, `take()` empties it.

        Whoever takes a tensor is the only one to hold it, so a kernel that can frees it before it attends.
        """
        args = (q, k, v, heads, mask, attn_precision, skip_reshape, skip_output_reshape)
        if not torch.compiler.is_compiling():
            return self._route_containers(args, kw)
        if compiled_op.is_opaque(self, self.host, q.peek(), k.peek(), v.peek(), kw):
            return compiled_op.route(self.host, *each(args, "take"), kw)
        return self._route_containers_eagerly(args, kw)

    def _route(self, func, q, k, v, heads, mask, precision, split_in, split_out, kw):
        args = (q, k, v, heads, mask, precision, split_in, split_out)
        if (kw.get("transformer_options") or _NOTHING).get(CONTEXT, IDLE).doubled is not None:
            out = self._part_prompts(func, args, kw)
            if out is not None:
                return out
        decision = self._find(func, args, kw)
        if decision is None:
            return self._next(func, args, kw)
        run = self._run if decision.strength is None else self._strengthen
        return self._time(run, q.device, decision, func, args, kw) if self.timing else run(decision, func, args, kw)

    def _route_containers(self, args, kw):
        # No name here may hold a tensor: the kernel could not free it.
        if (kw.get("transformer_options") or _NOTHING).get(CONTEXT, IDLE).doubled is not None:
            return self._route(self.host, *each(args, "take"), kw)
        decision = self._find(self.host, each(args, "peek"), kw)
        if decision is None:
            return self._pass_on(args, kw)
        run = self._run_containers
        if self.timing:
            return self._time(run, args[0].peek().device, decision, self.host, args, kw)
        return run(decision, self.host, args, kw)

    def _part_prompts(self, func, args, kw):
        """Attention to a prompt that has a negative one behind it, as two calls; None where this is no such call."""
        options = kw["transformer_options"]
        context, (q, k, v, heads, mask, precision, split_in, split_out) = options[CONTEXT], args
        doubled, axis = context.doubled, 2 if split_in else 1
        site, _ = locate(options, q.shape[axis], k.shape[axis])
        if site.role not in nag.ROLES or k.shape[axis] != doubled.length:
            return None
        kw = {**kw, "transformer_options": {**options, CONTEXT: context.but(doubled=None)}}

        def attend(start, length, keep):
            keys = slice(start, start + length)
            tensors = (keep(t) for t in (q, *(t.narrow(axis, start, length) for t in (k, v))))
            seen = keep(nag.part(mask, keys, doubled.length))
            return self._route(func, *tensors, heads, seen, precision, split_in, split_out, kw)

        out = attend(0, doubled.first, lambda t: t)
        active = context.active_of(self)
        covering = (r for r, on in zip(self.rules, active) if on and r.kind == "nag" and r.covers(site))
        rule = next(reversed(tuple(covering)), None)
        if rule is None or rule.nag.idle:
            return out
        batch, positive = q.shape[0], doubled.positive
        if not doubled.knows(batch):
            (context.stats or self.stats).leave(nag.NAME, "attention call", nag.IN_PARTS)
            return out
        other = attend(doubled.first, doubled.second, lambda t: nag.rows(t, positive, batch))
        (context.stats or self.stats).spend(nag.NAME, "attention call")
        return nag.replace_rows(out, rule.nag.guide(nag.rows(out, positive, batch), other), positive)

    def _find(self, func, args, kw) -> Decision | None:
        """What was decided for this call, counted; None where no rule is in force."""
        options = kw.get("transformer_options") or _NOTHING
        context, site, caller = options.get(CONTEXT, IDLE), site_of(options), options.get(CALLER)
        if not self.rules or self in context.off:
            return None
        q, k, v, heads, mask, precision, split_in, _ = args
        stats = context.stats or self.stats
        chunk = None if site is None or heads >= site.heads else stats.chunks.of(site, heads, self)
        key = (
            self, site, context, q.shape, k.shape, v.shape, heads, q.dtype, q.device,
            mask is not None and (mask.shape, mask.dtype), precision, split_in, kw.get("scale"),
            kw.get("low_precision_attention"),
            torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad),
            q.shape != k.shape and site is not None and site.role == SELF and first_query_of(q, k, split_in),
            chunk,
        )  # fmt: skip
        decision = stats.decisions.get(key)
        if decision is None:
            host = host_function(func, self.previous, kw)
            incoming = Incoming(host, q, k, v, heads, mask, precision, split_in, kw, chunk)
            active = context.active_of(self)
            with record_paused():
                decision = decide(incoming, options, self.rules, active, self._next_name(func, kw), stats)
            stats.decisions[key] = decision
        if chunk is not None:
            stats.join((self, site), chunk, decision)
        decision.calls += 1
        if caller is not None:
            caller.routed += 1
            if caller.above is not None:
                # The router above passed it on to another override, and that one to us: a call is counted once.
                caller.above.below += 1
                caller.above = None
        return decision

    def _time(self, run, device, decision: Decision, func, args, kw):
        begin, below = start_span(device), decision.below
        out = run(decision, func, args, kw)
        if decision.below == below:
            decision.add_span(end_span(begin, device))
        return out

    def _run(self, decision: Decision, func, args, kw):
        if decision.kernel is None:
            decision.fell_back += decision.reason is not None
            return self._next(func, args, kw, decision)
        *inputs, split_out = args
        if decision.guard:
            out = first(decision, inputs, kw.get("scale"))
        else:
            try:
                return from_heads(run_kernel(decision.kernel, *inputs, kw.get("scale")), split_out)
            except Exception as error:
                out = failed(decision, error)
            # Not within the except block, which would keep the kernel's scratch until it is left.
            out = again(decision, out, inputs, kw.get("scale"))
        return self._recover(decision, out, func, args, kw) if isinstance(out, Failure) else from_heads(out, split_out)

    def _run_containers(self, decision: Decision, func, args, kw):
        if decision.kernel is None and decision.strength is None:
            decision.fell_back += decision.reason is not None
            return self._pass_on(args, kw, decision)
        if decision.strength is not None:
            return self._strengthen(decision, func, each(args, "take"), kw)
        q, *_, precision, _, _ = args
        wide = precision is not None and precision != q.peek().dtype
        # The first call is looked at, and needs q, k, v to fall back; so does any whose evaluation nobody repeats.
        if decision.known.lets_go and hasattr(decision.kernel, "consume") and not decision.guard and not wide:
            return self._consume(decision, func, args, kw)
        return self._run(decision, func, each(args, "take"), kw)

    def _consume(self, decision: Decision, func, args, kw):
        """The kernel on tensors that nobody else holds. An error once they are gone: InputsLost, and no kernel of this
        run lets go of its inputs again."""
        *containers, heads, mask, precision, split_in, split_out = args
        tensors = list(to_heads(*(each.take() for each in containers), heads, split_in))
        shape, dtype = tensors[0].shape, tensors[0].dtype
        try:
            out = decision.kernel.consume(tensors, mask=to_mask(mask, dtype), scale=kw.get("scale"))
            return from_heads(checked(out, shape, dtype), split_out)
        except Exception as error:
            failure = failed(decision, error)
        if len(tensors) < len(containers):
            decision.known.lets_go = False
            self._give_up(decision, failure, func, kw)
            raise InputsLost(failure.reason)
        inputs = (*(from_heads(t, split_in) for t in tensors), heads, mask, precision, split_in)
        out = again(decision, failure, inputs, kw.get("scale"))
        args = (*inputs, split_out)
        return self._recover(decision, out, func, args, kw) if isinstance(out, Failure) else from_heads(out, split_out)

    def _strengthen(self, decision: Decision, func, args, kw):
        """Whatever runs the call, with sharper or flatter attention and stronger ties between frames."""
        q, k, v, heads, mask, precision, split_in, split_out = args
        q = decision.strength.sharpen(q)
        out = self._run(decision, func, (q, k, v, heads, mask, precision, split_in, split_out), kw)
        return decision.strength.amplify(out, q, k, heads, split_in, split_out, decision.video_span, kw.get("scale"))

    def _recover(self, decision: Decision, failure: Failure, func, args, kw):
        """After a kernel failed: the render goes on without it, unless what runs instead is no better."""
        if failure.holes is None or decision.rule.on_unsupported == ERROR:
            self._give_up(decision, failure, func, kw)
        out = insist(partial(self._next, func, args, kw, decision), failure, args[0].device)
        if failure.holes is not None:
            if is_shared(failure, out, args[3], args[-1]):
                keep(decision)
                return out
            self._give_up(decision, failure, func, kw)
        decision.fell_back += 1
        return out

    def _give_up(self, decision: Decision, failure: Failure, func, kw) -> None:
        """Not this kernel again for this site and geometry; UnsupportedAttention where the rule wants errors."""
        if decision.rule.on_unsupported == ERROR:
            raise refused(decision, failure.reason)
        decision.reason, decision.kernel, decision.used = failure.reason, None, self._next_name(func, kw)

    def _next(self, func, args, kw, decision: Decision | None = None):
        if self.previous is None:
            return answer(own_function(kw) or func, args, kw)
        return self._below(partial(self.previous, func), func, args, kw, decision)

    def _below(self, attention, func, args, kw, decision: Decision | None):
        if decision is None:
            return answer(attention, args, kw)
        own = own_function(kw)
        return answer_below(attention, args, kw, decision, self.previous, own or func, host_name(func, own))

    def _pass_on(self, args, kw, decision: Decision | None = None):
        """`_next` for containers: they stay closed for an override or a host that takes them so."""
        if self.previous is None:
            # ComfyUI sets the name on each of its functions that opens containers; another pack's may not. What a
            # file names is always one of ComfyUI's.
            closed = own_function(kw) or (self.host if hasattr(self.host, "container_function") else None)
        else:
            closed = getattr(self.previous, "container_function", None)
        if closed is None:
            return self._next(self.host, each(args, "take"), kw, decision)
        if self.previous is None:
            return answer(closed, args, kw)
        return self._below(closed, self.host, args, kw, decision)

    def _next_name(self, func, kw) -> str:
        if self.previous is None:
            return host_name(func, own_function(kw))
        return owner_of(self.previous)
