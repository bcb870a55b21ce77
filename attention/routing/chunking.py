"""Calls in chunks: where a rule says how much memory one may take, and where memory was missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ..backends import registry
from ..core.allocation_record import record_paused
from ..core.chunks import Chunks, fitting, in_chunks, mask_of_chunk, smaller, spans
from ..core.error_handling import free_cached_memory, free_frames, is_out_of_memory
from ..core.geometry import Geometry
from ..core.kernel import Kernel
from ..core.peak_memory import MIB, in_mib
from ..sparse.runner import Runner

if TYPE_CHECKING:
    from .attention_call import AttentionCall
    from .rules import Rule
    from .run_stats import Decision


def within_memory(rule: Rule, what, geometry: Geometry) -> Chunks | None:
    """Choose the chunks with which a call stays within its rule's memory, as far as is known; None: it is whole.

    what: the Backend or the Runner, which know about how much they take.
    """
    if not rule.memory:
        return None
    return fitting(geometry, rule.memory * MIB, what.takes, getattr(what, "by_queries", False))


def backend_kernel(rule: Rule, name: str, geometry: Geometry) -> Kernel:
    """Load a backend's kernel, in chunks where its rule's memory asks for them."""
    return in_chunks(registry.load(name), within_memory(rule, registry.get(name), geometry))


def budgeted(rule: Rule, runner: Runner, geometry: Geometry) -> Runner:
    """Make a Runner that keeps to its rule's memory."""
    return in_chunks(runner, within_memory(rule, runner, geometry))


def begin(decision: Decision, kernel: Kernel) -> None:
    """Give a decision its kernel, and say of one in chunks why: the rule's memory, or that it was missing before.

    kernel: as budgeted or backend_kernel made it.
    """
    decision.kernel, history = kernel, decision.history
    known = history.chunks.get((decision.used, decision.geometry))
    chunks = getattr(kernel, "chunks", None)
    if chunks is not None:
        note(decision, chunks, f"memory: at most {in_mib(decision.rule.memory * MIB)} MiB a call")
    elif known is not None:
        decision.kernel = in_chunks(kernel, known[0])
        note(decision, *known)


def note(decision: Decision, chunks: Chunks, why: str) -> None:
    """Note that the decision's calls are in chunks from the one that is being answered on."""
    if decision.chunks is None:
        # The call itself is counted already, unless the decision is being made in it.
        decision.whole = max(0, decision.calls - 1)
    decision.chunks, decision.cut = chunks, why


def whole_of(kernel: Kernel) -> Kernel:
    """Find the kernel that works in chunks, or that may."""
    return getattr(kernel, "kernel", kernel) if not isinstance(kernel, Runner) else kernel


def sizes(geometry: Geometry, chunks: Chunks | None, by_queries: bool):
    """Yield smaller and smaller chunks, behind those that were too large."""
    while (chunks := smaller(geometry, chunks, by_queries)) is not None:
        yield chunks


def attempt_in_chunks(decision: Decision, run: Callable, reason: str, device: torch.device):
    """Run a call in smaller and smaller chunks until one finds memory; gives the output, or the last failure.

    Other calls of the kind begin with what was found, in this run.

    run: runs the decision's kernel: an output, or a Failure.
    reason: why the call was cut.
    """
    name, kernel = (decision.used, decision.geometry), whole_of(decision.kernel)
    known, out = decision.history.chunks.get(name), None
    if known is not None and known[0] != decision.chunks:
        tries = [known[0], *sizes(decision.geometry, known[0], holds_scores(decision))]
    else:
        tries = sizes(decision.geometry, decision.chunks, holds_scores(decision))
    for chunks in tries:
        free_cached_memory(device)
        decision.kernel = in_chunks(kernel, chunks)
        with record_paused():
            out = run()
        if isinstance(out, torch.Tensor):
            note(decision, chunks, reason)
            decision.history.chunks[name] = chunks, reason
            return out
        if not out.memory:
            return out
    return out


def holds_scores(decision: Decision) -> bool:
    """Tell whether a decision's kernel takes less memory for fewer queries at a time."""
    return decision.used in registry.names() and registry.get(decision.used).by_queries


def host_in_chunks(
    run: Callable[[AttentionCall], torch.Tensor], call: AttentionCall, decision: Decision, reason: str
) -> torch.Tensor:
    """Answer a call by the host's own attention in smaller and smaller chunks; what it raises where none helps.

    run: answers one call, as it asks for it.
    call: open.
    reason: why the call is cut.
    """
    geometry, chunks = decision.geometry, decision.chunks if decision.kernel is None else None
    tries, failure = list(sizes(geometry, None, True)), None
    begin = next((i for i, one in enumerate(tries) if one == chunks), 0)
    for chunks in tries[begin:]:
        try:
            out = _in_parts(run, call, chunks)
        except Exception as error:
            failure = error
        else:
            note(decision, chunks, reason)
            return out
        if not is_out_of_memory(failure):
            break
        free_frames(failure)
        free_cached_memory(call.q.device)
    raise failure


def _in_parts(run: Callable, call: AttentionCall, chunks: Chunks) -> torch.Tensor:
    """Answer a call part by part, each laid out as the call itself."""
    q, k, _ = call.to_heads()
    (batch, number, length, _), group, mask, out = q.shape, q.shape[1] // k.shape[1], call.to_mask(), None
    for heads in spans(number, chunks.heads):
        shared = slice(heads.start // group, heads.stop // group)
        for queries in spans(length, chunks.queries or length):
            part = call.but(
                q=_some_heads(call.q, heads, number, call.split_in)[..., queries, :],
                **{name: _some_heads(getattr(call, name), shared, number // group, call.split_in) for name in "kv"},
                heads=heads.stop - heads.start, split_out=True, mask=mask_of_chunk(mask, heads, queries),
            )  # fmt: skip
            one = run(part)
            if out is None:
                out = one.new_empty(batch, length, number, one.shape[-1]).transpose(1, 2)
            out[:, heads, queries] = one
    return call.reply(out)


def _some_heads(t: torch.Tensor, heads: slice, number: int, split: bool) -> torch.Tensor:
    """Take some of the heads of (B, H, L, D) where split, else of (B, L, H * D), as a view."""
    if split:
        return t[:, heads]
    size = t.shape[-1] // number
    return t[..., heads.start * size : heads.stop * size]
