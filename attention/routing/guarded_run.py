"""Runs a kernel that may fail: its output, or a Failure with nothing of the kernel left in memory.

The first call of each site and geometry is looked at more closely, see `run_checked`; the others cost nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..core.allocation_record import record_paused
from ..core.error_handling import error_text, free_cached_memory, free_frames, is_out_of_memory
from ..core.input_copies import WRITES, InputCopies
from ..core.reason import Reason
from .attention_call import AttentionCall
from .decide import sentence
from .errors import InputsLost, UnsupportedAttention
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
    """Make a Failure of an exception and free its frames; UnsupportedAttention where the rule wants errors."""
    reason = error_text(error)
    if decision.rule.on_unsupported == ERROR:
        raise unsupported(decision, reason) from error
    memory = is_out_of_memory(error)
    free_frames(error)
    return Failure(reason, memory)


def unsupported(decision: Decision, reason: str) -> UnsupportedAttention:
    """Make the error that a rule asks for in the place of a fallback."""
    widget = "pattern" if decision.rule.shape else "backend"
    return UnsupportedAttention(
        sentence(decision.rule, decision.used, decision.site, decision.geometry, reason, widget)
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
    """Attempt a call a second time where memory was missing, once for a kernel and geometry in a run: with the first
    one's scratch gone, our copies away and what torch's allocator holds back given to kernels that allocate by
    themselves."""
    name = decision.used, decision.geometry
    if not failure.memory or name in decision.history.out_of_memory:
        return failure
    decision.history.out_of_memory.add(name)
    if kept is not None:
        kept.offload()
    free_cached_memory(call.q.device)
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
    if torch.isfinite(out).all():
        return out
    if not comes_from_inputs(out, call):
        return Failure(NOT_FINITE, holes=_holes(out))
    keep_kernel(decision)
    return out


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
