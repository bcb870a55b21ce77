"""Which kernel or engine a call gets where several could take it, found by measuring them on the call itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from ..backends import registry
from ..backends.autotune import EXACT, HOST_RUN, NOISE, AutotuneResult, fastest_backend
from ..core.error_handling import error_message, error_text
from ..core.reason import Reason
from ..core.spot_check import SpotCheck
from ..sparse.autotune import fastest_engine, key_of
from ..sparse.engine_registry import AUTO
from ..sparse.runner import Runner
from .attention_call import AttentionCall
from .chunking import backend_kernel
from .host_kernel import name_of
from .rules import MEASURE
from .run_stats import Decision, RunStats


def choose_auto(call: AttentionCall, decision: Decision, stats: RunStats, timed: bool = False) -> str:
    """Choose the backend that `auto` gives this call, HOST_RUN for the host's own; the decision learns why.

    timed: measures one that goes by table order beside the host's own, for the report.
    """
    accepted, reasons = registry.candidates(decision.geometry)
    decision.passed_over = reasons
    if not accepted:
        decision.reason = "no backend accepts this call"
        return HOST_RUN
    if decision.rule.choice != MEASURE or decision.geometry.grad:
        name, decision.passed_over = registry.pick(decision.geometry)
        if timed:
            compare(call, decision, name, stats)
        return name
    try:
        decision.choice, fresh = _measure(call, decision, accepted, decision.rule.max_error)
    except Exception as error:  # out of memory in the sample, say: a choice must not cost a render
        stats.notes.append(f"auto could not measure ({error_text(error)}) and went by table order.")
        exact = (name for name in accepted if registry.get(name).limits.exact)
        return next(exact, HOST_RUN) if decision.rule.max_error <= EXACT else accepted[0]
    if fresh:
        stats.choosing += decision.choice.spent
    return decision.choice.winner


def compare(call: AttentionCall, decision: Decision, name: str, stats: RunStats) -> None:
    """Measure one backend beside the host's own attention: what a report says of a kernel that the user chose.

    The decision learns it; a failure says nothing, since the call itself will.

    name: of the backend, which accepts the call.
    """
    if decision.geometry.grad:
        return
    try:
        choice, fresh = _measure(call, decision, [name], math.inf)
    except Exception:
        return
    decision.choice = replace(choice, winner=name)
    if fresh:
        stats.choosing += choice.spent


def _measure(
    call: AttentionCall, decision: Decision, accepted: list[str], max_error: float
) -> tuple[AutotuneResult, bool]:
    def make_spot_check() -> SpotCheck:
        return SpotCheck(*call.to_heads(), call.to_mask(), decision.geometry.scale)

    kernels = {name: backend_kernel(decision.rule, name, decision.geometry) for name in accepted}
    runs: dict[str, Callable] = {name: lambda kernel=kernel: call.run(kernel) for name, kernel in kernels.items()}
    key = (str(call.q.device), decision.geometry, decision.rule.memory, *_asked_how(call))
    return fastest_backend(key, runs, call.run_host, make_spot_check, max_error)


def choose_engine(
    call: AttentionCall, decision: Decision, able: tuple[Runner, ...], stats: RunStats, timed: bool = False
) -> Runner:
    """Choose the fastest of the engines that accept a call; the decision learns what was measured.

    timed: measures one that nothing competes with beside the host's own attention, for the report.
    """
    rule = decision.rule
    free = rule.shape.engine == AUTO and rule.choice == MEASURE
    able = able if free else able[:1]
    if len(able) == 1 and not (timed or rule.shape.if_faster):
        return able[0]

    def tensors():
        return *call.to_heads(), call.to_mask()

    key = key_of(decision.geometry, call.q.device, *_asked_how(call))
    # What the user named runs whatever its error is. Whether a pattern gains is another question for each percentage.
    max_error, ramp = rule.max_error if free else math.inf, None if rule.shape.if_faster else rule.shape.of
    if able[0].turns:
        ramp = rule.shape.pattern  # the turns of all blocks cost the same
    try:
        runner, decision.choice, fresh = fastest_engine(
            key, able, call.run, call.run_host, tensors, max_error, decision.geometry.scale, ramp
        )
    except Exception as error:  # a choice must not cost a render
        if len(able) > 1:
            stats.notes.append(f"auto could not measure the engines ({error_message(error)}) and went by table order.")
        return able[0]
    if fresh:
        stats.choosing += decision.choice.spent
    return runner


def why_dense(shaped: Decision, dense: Decision) -> Reason | None:
    """Say why a call that a pattern could shape had better stay dense: that is as fast, or nothing was measured.

    shaped: what the pattern's engine took beside the host's own attention.
    dense: the same of the kernel that would run without the pattern, the host's own where nothing was measured of it.
    """
    if shaped.choice is None:
        return Reason("its engine could not be measured")
    pattern, without = shaped.choice.times, 1.0 if dense.choice is None else dense.choice.times
    if pattern < without * (1 - NOISE):
        return None
    return Reason(
        f"dense attention is as fast here: the pattern takes {pattern:.2f} times what ComfyUI's own does, "
        f"{dense.used} {without:.2f} times"
    )


def _asked_how(call: AttentionCall) -> tuple:
    """Return what a timing depends on beside device and geometry: host's function, layout, dtype of the mask."""
    return name_of(call.func), call.split_in, None if call.mask is None else call.mask.dtype
