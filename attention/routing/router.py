"""Look up, run, count, fall back: what the host's attention override calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ..core.allocation_record import record_paused
from ..core.kernel import checked
from ..core.site import CALLER, SELF, site_of
from ..core.tensor_layout import first_query_of, from_heads, to_mask
from . import compiled_op, reused_calls
from .attention_call import AttentionCall, ContainerCall, Override
from .decide import decide
from .errors import InputsLost
from .guarded_run import (
    Failure,
    is_shared_by_host,
    keep_kernel,
    retry,
    run_checked,
    run_host,
    run_instead,
    strengthened,
    to_failure,
    unsupported,
)
from .host_kernel import host_function
from .prompt_pair import answer_pair
from .rules import ERROR, Rule
from .run_stats import Decision, RunStats
from .shared_call import answer_shared
from .step_context import CONTEXT, IDLE, StepContext
from .timed_run import timed


class Router(Override):
    """Routes every attention call of one model to the backend that its rules name.

    rules: the last one that covers a call wins.
    previous: the override found in the slot, which is asked for everything that no rule covers or no backend accepts.
    host: as of an Override.
    counts: whether calls are counted where there is no rule.
    Unchanging, so clones may share it: what is counted goes to the RunStats of the StepContext in transformer_options.
    """

    def __init__(self, rules: tuple[Rule, ...] = (), previous=None, host: Callable | None = None, counts=False):
        super().__init__(previous, host)
        self.rules, self.counts = tuple(rules), counts or bool(rules)
        # A rule for some steps only stays out when nobody published the step.
        self.always = tuple(rule.always for rule in self.rules)
        self.timing = any(rule.timing for rule in self.rules)
        self.stats = RunStats()
        compiled_op.prepare()

    def with_rule(self, rule: Rule) -> Router:
        """Make a new router with one rule more."""
        return Router((*self.rules, rule), self.previous, self.host)

    def trace(self, call: AttentionCall) -> torch.Tensor:
        """Answer while torch.compile traces: as one operator of the graph where that can be."""
        if compiled_op.can_trace(self, call.peek()):
            return compiled_op.route(call.open())
        return self._answer_eagerly(call)

    def answer(self, call: AttentionCall) -> torch.Tensor:
        """Run a call by what was decided about it."""
        # Of a closed call no name here may hold a tensor: the kernel could not free it.
        context = call.options.get(CONTEXT, IDLE)
        if context.prompt_pair is not None:
            call = call.open()
            out = answer_pair(self, call, context)
            if out is not None:
                return out
        if context.share is not None:
            return answer_shared(self, call.open(), context)
        decision = self._find(call, context)
        return self.next(call) if decision is None else decision.run(call)

    def _find(self, call: AttentionCall, context: StepContext) -> Decision | None:
        """Look up what was decided about a call, and count it; None where nothing is in force."""
        if not self.counts or self in context.off:
            return None
        call, options, stats = call.peek(), call.options, context.stats or self.stats
        q, k, v, mask, site = call.q, call.k, call.v, call.mask, site_of(options)
        first_head = call.first_head
        if first_head is None and site is not None and call.heads < site.heads:
            first_head = stats.chunks.of(site, call.heads, self)
        key = (
            self, site, context, q.shape, k.shape, v.shape, call.heads, q.dtype, q.device,
            mask is not None and (mask.shape, mask.dtype), call.precision, call.split_in, call.kw.get("scale"),
            call.kw.get("low_precision_attention"),
            torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad),
            q.shape != k.shape and site is not None and site.role == SELF and first_query_of(q, k, call.split_in),
            first_head,
        )  # fmt: skip
        decision = stats.decisions.get(key)
        if decision is None:
            decision = stats.decisions[key] = self._decide(call, key, stats, first_head)
        if decision.reuse is not None:
            decision = decision.reuse.choose(decision, call)
        if first_head is not None:
            stats.join((self, site), first_head, decision)
        decision.calls += 1
        caller = options.get(CALLER)
        if caller is not None:
            caller.routed += 1
            if caller.above is not None:
                # The router above passed it on to another override, and that one to us: a call is counted once.
                caller.above.below += 1
                caller.above = None
        return decision

    def _decide(self, call: AttentionCall, key: tuple, stats: RunStats, first_head) -> Decision:
        """Decide about an open call, and what is done to each such call from now on."""
        context: StepContext = key[2]
        host = host_function(call.func, self.previous, call.options)
        with record_paused():
            decision = decide(
                call.but(func=host, first_head=first_head),
                self.rules,
                context.active_of(self),
                self.next_name(call),
                stats,
            )
        decision.history = stats.history
        run = partial(self._run, decision)
        if decision.strength is not None:
            run = partial(strengthened, decision.strength, run, decision)
        decision.run = reused_calls.prepare(self, decision, run, key, call, stats)
        if self.timing:
            for one in (decision, *(() if decision.reuse is None else (decision.reuse.twin,))):
                one.run = partial(timed, one.run, one)
        return decision

    def _run(self, decision: Decision, call: AttentionCall) -> torch.Tensor:
        kernel = decision.kernel
        if kernel is None:
            decision.fell_back += decision.reason is not None
            return self._below(decision, call)
        if call.closed:
            if _may_consume(decision, call):
                return self._consume(decision, call)
            call = call.open()
        if decision.guard:
            out = run_checked(decision, call)
        else:
            try:
                return call.reply(call.run(kernel))
            except Exception as error:
                out = to_failure(decision, error)
            # Not within the except block, which would keep the kernel's scratch until it is left.
            out = retry(decision, out, call)
        return self._reply(decision, out, call)

    def _below(self, decision: Decision, call: AttentionCall) -> torch.Tensor:
        """Answer a call without a kernel of ours: the override below us does, or the host."""
        return run_host(self.next, call, decision) if self.previous is None else self.next(call, decision)

    def _reply(self, decision: Decision, out: torch.Tensor | Failure, call: AttentionCall) -> torch.Tensor:
        """Give what the host asked for, of what a kernel gave, or without it."""
        # Laying it out takes a copy; what comes in chunks is laid out already: as it was, once more, in chunks.
        for _ in range(3):
            if isinstance(out, Failure):
                break
            try:
                return call.reply(out)
            except Exception as error:
                out = to_failure(decision, error)
            out = retry(decision, out, call)
        return self._recover(decision, out, call) if isinstance(out, Failure) else call.reply(out)

    def _consume(self, decision: Decision, call: ContainerCall) -> torch.Tensor:
        """Run the kernel on tensors that nobody else holds. An error once they are gone: InputsLost, and no kernel of
        this run lets go of its inputs again."""
        tensors = call.take_heads()
        shape, dtype = tensors[0].shape, tensors[0].dtype
        try:
            out = decision.kernel.consume(tensors, mask=to_mask(call.mask, dtype), scale=call.kw.get("scale"))
            return call.reply(checked(out, shape, dtype))
        except Exception as error:
            failure = to_failure(decision, error)
        if len(tensors) < 3:
            decision.history.may_consume = False
            self._give_up(decision, failure, call)
            raise InputsLost(failure.reason)
        call = call.with_tensors(*(from_heads(t, call.split_in) for t in tensors))
        return self._reply(decision, retry(decision, failure, call), call)

    def _recover(self, decision: Decision, failure: Failure, call: AttentionCall) -> torch.Tensor:
        """Go on without the kernel that failed, unless what runs instead is no better."""
        if failure.holes is None or decision.rule.on_unsupported == ERROR:
            self._give_up(decision, failure, call)
        out = run_instead(partial(self._below, decision, call), failure, call.q.device)
        if failure.holes is not None:
            if is_shared_by_host(failure, out, call):
                keep_kernel(decision)
                return out
            self._give_up(decision, failure, call)
        decision.fell_back += 1
        return out

    def _give_up(self, decision: Decision, failure: Failure, call: AttentionCall) -> None:
        """Do not try this kernel again for this site and geometry; UnsupportedAttention where the rule wants errors."""
        if decision.rule.on_unsupported == ERROR:
            raise unsupported(decision, failure.reason)
        decision.reason, decision.kernel, decision.used = failure.reason, None, self.next_name(call)
        decision.chunks = decision.cut = None


def _may_consume(decision: Decision, call: ContainerCall) -> bool:
    """Tell whether the kernel may free q, k and v before it attends. The first call is looked at, and needs them to
    fall back; so does any whose evaluation nobody repeats."""
    if not decision.history.may_consume or decision.guard or not hasattr(decision.kernel, "consume"):
        return False
    return call.precision is None or call.precision == call.q.peek().dtype
