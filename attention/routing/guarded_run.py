"""Runs a kernel that may fail: its output, or a Failure with nothing of the kernel left in memory.

The first call of each site and geometry is looked at more closely, see `run_checked`; the others cost nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from ..core.allocation_record import record_paused
from ..core.error_handling import error_text, free_cached_memory, free_frames, is_out_of_memory
from ..core.input_copies import WRITES, InputCopies
from ..core.reason import Reason
from ..core.site import PEERS
from .attention_call import AttentionCall
from .chunking import attempt_in_chunks, host_in_chunks
from .decide import sentence
from .errors import InputsLost, UnsupportedAttention
from .fallback import is_whole
from .rules import ERROR, GUARD_EVERY, GUARD_OFF
from .run_stats import Decision, RunStats

NOT_FINITE = "NaN or Inf in the output"


def evaluate(stats: RunStats, run: Callable):
    """Evaluate the model once by `run`, and let kernels let go of q, k and v before they answer.

    Where one fails after that, the evaluation is made once more, and nothing is let go in this run again: the render
    costs that evaluation and more memory from there on, but goes on.
    """
    history = stats.history
    if history.may_consume is not None:
        return run()
    history.may_consume = True
    try:
        return run()
    except InputsLost as lost:
        history.notes.append(f"An evaluation of the model was made again: {error_text(lost)}.")
        free_frames(lost)
    finally:
        history.may_consume = None if history.may_consume else False
    return run()


@dataclass(frozen=True)
class Failure:
    """Says why a kernel gave no output that could be used.

    reason: as the report says it.
    memory: whether memory was missing.
    holes: (B, H, Lq), bool: rows of the kernel's output that are not finite, where nothing else is wrong, for the
    host's own may be no better.
    """

    reason: str
    memory: bool = False
    holes: torch.Tensor | None = None


def to_failure(decision: Decision, error: Exception) -> Failure:
    """Make a Failure of an exception and free its frames; UnsupportedAttention where the rule wants errors, unless
    memory was missing: the kernel may still run in chunks."""
    reason, memory = error_text(error), is_out_of_memory(error)
    if decision.rule.on_unsupported == ERROR and not memory:
        raise unsupported(decision, reason) from error
    free_frames(error)
    return Failure(reason, memory)


def unsupported(decision: Decision, reason: str) -> UnsupportedAttention:
    """Make the error that a rule asks for in the place of a fallback."""
    widget = "pattern" if decision.rule.shape else "backend"
    return UnsupportedAttention(
        sentence(decision.asker, decision.used, decision.site, decision.geometry, reason, widget)
    )


def attempt(decision: Decision, call: AttentionCall) -> torch.Tensor | Failure:
    """Run the decision's kernel: (B, H, Lq, D)."""
    try:
        return call.run(decision.kernel)
    except Exception as error:
        return to_failure(decision, error)


def retry(
    decision: Decision, failure: Failure, call: AttentionCall, kept: InputCopies | None = None
) -> torch.Tensor | Failure:
    """Attempt a call again where memory was missing: with the first one's scratch gone, our copies away and what
    torch's allocator holds back given to kernels that allocate by themselves. As it was, once for a kernel and geometry
    in a run, then in smaller and smaller chunks."""
    name, device = (decision.used, decision.geometry), call.q.device
    if not failure.memory:
        return failure
    if kept is not None:
        kept.offload()
    if name not in decision.history.out_of_memory:
        decision.history.out_of_memory.add(name)
        free_cached_memory(device)
        out = _again(decision, call, kept)
        if isinstance(out, torch.Tensor) or not out.memory:
            return out
    elif name in decision.history.hopeless:
        return failure
    out = attempt_in_chunks(decision, partial(_again, decision, call, kept), failure.reason, device)
    if isinstance(out, torch.Tensor):
        return out
    decision.history.hopeless.add(name)
    return failure if out is None else out


def _again(decision: Decision, call: AttentionCall, kept: InputCopies | None) -> torch.Tensor | Failure:
    """Attempt a call on what it was given, also where an attempt before wrote into that."""
    if _undone(kept):
        return Failure(WRITES)
    return attempt(decision, call)


def run_checked(decision: Decision, call: AttentionCall) -> torch.Tensor | Failure:
    """Run a call that is looked at: the first of a site and geometry, and every one under that guard.

    Once for each kernel and geometry in a run: whether it changes q, k, v or the mask (they are put back), and whether
    its output is a tensor of its own. Then, unless the guard is off: NaN and Inf.
    """
    name, given = (decision.used, decision.geometry), (call.q, call.k, call.v, call.mask)
    proven = name in decision.history.proven
    with record_paused():
        kept = None if proven else InputCopies(*given)
    out = attempt(decision, call)
    wrote = _undone(kept)
    if isinstance(out, Failure) and not wrote:
        out = retry(decision, out, call, kept)
        wrote = _undone(kept)
    if wrote:
        return Failure(f"{out.reason}; {WRITES}" if isinstance(out, Failure) else WRITES)
    if isinstance(out, Failure):
        return out
    malformed = None if proven else _malformed(out, given)
    if malformed is not None:
        return Failure(malformed)
    decision.history.proven.add(name)
    decision.guard = decision.rule.guard == GUARD_EVERY
    return out if decision.rule.guard == GUARD_OFF else _finite(decision, out, call)


@record_paused()
def _undone(kept: InputCopies | None) -> bool:
    """Tell whether the kernel wrote into its inputs; they are as they were afterwards."""
    return kept is not None and kept.restore()


def _malformed(out: torch.Tensor, given: tuple) -> Reason | None:
    """Say why an output cannot be handed on as the caller's own.

    given: (q, k, v, mask).
    """
    device = given[0].device
    if out.device != device:
        return Reason(f"output on {out.device}, the inputs are on {device}")
    if out.layout != torch.strided or any(n > 1 and not step for n, step in zip(out.shape, out.stride())):
        return Reason("its output is no tensor with memory for each number")
    taken = out.untyped_storage().data_ptr()
    if any(t is not None and t.untyped_storage().data_ptr() == taken for t in given):
        return Reason("its output shares memory with its inputs")
    return None


@record_paused()
def _finite(decision: Decision, out: torch.Tensor, call: AttentionCall) -> torch.Tensor | Failure:
    """Give `out` back where it is finite, or is not for no fault of the kernel's."""
    finite = _is_finite(out)
    if finite is None:
        decision.guard = True
    if finite is not False:
        return out
    if not comes_from_inputs(out, call):
        return Failure(NOT_FINITE, holes=_holes(out))
    keep_kernel(decision)
    return out


def _is_finite(out: torch.Tensor) -> bool | None:
    """Tell whether all of out: (B, H, Lq, D) is finite; one head at a time where memory is missing, None where that is
    not enough either."""
    for parts in ((out,), out.unbind(1)):
        try:
            return all(bool(torch.isfinite(part).all()) for part in parts)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            free_frames(error)
        free_cached_memory(out.device)
    return None


def comes_from_inputs(out: torch.Tensor, call: AttentionCall) -> bool:
    """Tell whether all that is not finite in out: (B, H, Lq, D) comes from q, k, v or a mask that is not."""
    (q, k, v), mask = call.to_heads(), call.to_mask()
    keys = ~(torch.isfinite(k).all(-1) & torch.isfinite(v).all(-1)).all(-1)
    given = ~torch.isfinite(q).all(-1) | keys.repeat_interleave(q.shape[1] // k.shape[1], dim=1)[..., None]
    if mask is not None and mask.dtype != torch.bool:
        given = given | (mask.isnan() | (mask == torch.inf)).any(-1)
    return not (_holes(out) & ~given).any()


def keep_kernel(decision: Decision) -> None:
    """Note that NaN or Inf was there without the kernel, which stays, and is looked at again in the next call."""
    decision.guard = True
    note = (
        f"NaN or Inf in {decision.site.role}-attention that {decision.used} is not to blame for: it was in q, k, v or "
        "the mask, or ComfyUI's own attention gives it too."
    )
    if note not in decision.history.notes:
        decision.history.notes.append(note)


def is_shared_by_host(failure: Failure, own: torch.Tensor, call: AttentionCall) -> bool:
    """Tell whether the host's own output, as the host gives it, is no more finite than the kernel's was."""
    own = own if call.split_out else own.unflatten(-1, (call.heads, -1)).transpose(1, 2)
    return not (failure.holes & ~_holes(own)).any()


def _holes(out: torch.Tensor) -> torch.Tensor:
    """Find the rows of out: (B, H, Lq, D) that are not finite: (B, H, Lq), bool."""
    return ~torch.isfinite(out).all(-1)


def run_instead(run: Callable, failure: Failure, device: torch.device) -> torch.Tensor:
    """Run what goes on where a kernel failed, and run it once more where both lacked memory."""
    try:
        return run()
    except Exception as error:
        if not (failure.memory and is_out_of_memory(error)):
            raise
        free_frames(error)
    free_cached_memory(device)
    return run()


def strengthened(strength, run: Callable, decision: Decision, call: AttentionCall) -> torch.Tensor:
    """Answer a call with a strength, once more where memory was missing around what has a way of its own to go on, and
    without the strength where it is missing still.

    run: answers the call without.
    """
    for _ in range(2):
        try:
            return strength.attend(run, decision.video_span, call)
        except Exception as error:
            # Several GPUs must all do the same.
            if PEERS in call.options or not (is_out_of_memory(error) and is_whole(call)):
                raise
            reason = type(error).__name__
            free_frames(error)
        free_cached_memory(call.peek().q.device)
    note = f"Strength was left out of {decision.site.role}-attention: memory was missing ({reason})."
    if note not in decision.history.notes:
        decision.history.notes.append(note)
    return run(call)


def run_host(run: Callable, call: AttentionCall, decision: Decision) -> torch.Tensor:
    """Run ComfyUI's own attention, in chunks where memory is missing: whether a kernel fell back to it or none ran.

    run: answers one call as it asks for it; no override stands between.
    call: not closed, or in containers that may be emptied.
    """
    reason = decision.cut
    if decision.chunks is None or decision.kernel is not None:
        try:
            return run(call)
        except Exception as error:
            if decision.geometry is None or not (is_out_of_memory(error) and is_whole(call)):
                raise
            reason = error_text(error)
            free_frames(error)
        free_cached_memory(call.peek().q.device)
    return host_in_chunks(run, call.open(), decision, reason)
