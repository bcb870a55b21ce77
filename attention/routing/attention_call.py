"""One attention call of the host's, and what stands in the host's slot to answer it.

A call travels as one object, from the override to the kernel and back, and q, k and v keep their names on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ..core.function_owner import owner_of
from ..core.identity import KeepsIdentity
from ..core.kernel import Kernel, checked
from ..core.tensor_layout import from_heads, to_heads, to_mask
from .compiled_op import OPTIONS, eagerly
from .fallback import answer_below
from .host_kernel import host_name, own_function

_NOTHING: dict = {}


class AttentionCall:
    """One attention call, with the arguments of comfy.ldm.modules.attention.wrap_attn.

    func: the host's own attention function, which the model called.
    q: (B, Lq, H*D), or (B, H, Lq, D) where split_in.
    k: (B, Lk, Hkv*D), or (B, Hkv, Lk, D) where split_in.
    v: (B, Lk, Hkv*D), or (B, Hkv, Lk, D) where split_in.
    heads: H.
    mask: any that tensor_layout.to_mask reads, or None.
    precision: dtype in which the model asks to compute, None for that of q.
    split_in: whether the heads are an axis of their own in q, k and v.
    split_out: whether they are in what the host wants back.
    kw: the other keyword arguments.
    options: the host's transformer_options among them, empty without.
    first_head: number of the call's first head where its module's heads are spread over several calls, else None.
    """

    __slots__ = (
        "first_head", "func", "heads", "k", "kw", "mask", "options", "precision", "q", "split_in", "split_out", "v",
    )  # fmt: skip
    # Whether q, k and v are in containers of the host's.
    closed = False

    def __init__(
        self, func, q, k, v, heads, mask=None, precision=None, split_in=False, split_out=False, kw=_NOTHING,
        first_head=None,
    ):  # fmt: skip
        self.func, self.q, self.k, self.v, self.heads, self.mask = func, q, k, v, heads, mask
        self.precision, self.split_in, self.split_out, self.kw = precision, split_in, split_out, kw
        # Not by its truth: a graph of torch.compile would be tied to how many keys there are.
        options = kw.get(OPTIONS)
        self.options, self.first_head = _NOTHING if options is None else options, first_head

    def but(self, **changes) -> AttentionCall:
        """Make this call with other values of some arguments, its tensors open."""
        given = {name: getattr(self, name) for name in AttentionCall.__slots__ if name != "options"}
        return AttentionCall(**{**given, **changes})

    def with_tensors(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> AttentionCall:
        """Make this call with other tensors: what `but` does, without its detours, for the hot path."""
        return AttentionCall(
            self.func, q, k, v, self.heads, self.mask, self.precision, self.split_in, self.split_out, self.kw,
            self.first_head,
        )  # fmt: skip

    def peek(self) -> AttentionCall:
        """Look at the tensors; whoever holds them keeps them."""
        return self

    def open(self) -> AttentionCall:
        """Take the tensors out of their containers, which are empty afterwards."""
        return self

    def to_heads(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """View q as (B, H, Lq, D) and k, v as (B, Hkv, Lk, D)."""
        return to_heads(self.q, self.k, self.v, self.heads, self.split_in)

    def to_mask(self) -> torch.Tensor | None:
        """Read the mask as (1|B, 1|H, 1|Lq, Lk), None without one."""
        return to_mask(self.mask, self.q.dtype)

    def run(self, kernel: Kernel) -> torch.Tensor:
        """Run a backend's kernel: (B, H, Lq, D) in q's dtype, computed in `precision` where the model asks for it."""
        dtype, precision = self.q.dtype, self.precision
        q, k, v = to_heads(self.q, self.k, self.v, self.heads, self.split_in)
        if precision is not None and precision != dtype:
            q, k, v = q.to(precision), k.to(precision), v.to(precision)
        out = kernel(q, k, v, mask=to_mask(self.mask, q.dtype), scale=self.kw.get("scale"))
        return checked(out, q.shape, dtype)

    def reply(self, out: torch.Tensor) -> torch.Tensor:
        """Lay out (B, H, Lq, D) as the host asked for it."""
        return from_heads(out, self.split_out)

    def pass_to(self, attention: Callable, split_out: bool | None = None) -> torch.Tensor:
        """Ask a function that takes the host's arguments.

        split_out: instead of the call's own.
        """
        split_out = self.split_out if split_out is None else split_out
        out = attention(
            self.q, self.k, self.v, self.heads, mask=self.mask, attn_precision=self.precision,
            skip_reshape=self.split_in, skip_output_reshape=split_out, **self.kw,
        )  # fmt: skip
        return in_heads(out, self.heads) if split_out else out

    def run_host(self) -> torch.Tensor:
        """Run the host's own attention: (B, H, Lq, D). No override is asked: a second call must not disturb one."""
        return self.pass_to(self.func, split_out=True)


class ContainerCall(AttentionCall):
    """A call with q, k and v in the host's AttentionTensorContainer: `peek()` looks, `take()` empties it.

    Whoever takes a tensor is the only one to hold it, so a kernel that can frees it before it attends.
    """

    __slots__ = ()
    closed = True

    def peek(self) -> AttentionCall:
        """Make a call of the same tensors, which stay in the containers."""
        return self.with_tensors(self.q.peek(), self.k.peek(), self.v.peek())

    def open(self) -> AttentionCall:
        """Make a call of the tensors, taken out of the containers."""
        return self.with_tensors(self.q.take(), self.k.take(), self.v.take())

    def take_heads(self) -> list[torch.Tensor]:
        """Take [q, k, v] out as views, (B, H, Lq, D) and twice (B, Hkv, Lk, D). Nobody else holds them then."""
        return list(to_heads(self.q.take(), self.k.take(), self.v.take(), self.heads, self.split_in))


class Override(KeepsIdentity):
    """Stands in the host's slot and answers every attention call. Subclasses say how, in `answer`.

    previous: the override found in the slot, asked for all that is not answered here; None for the host's own
    attention.
    host: the host's own attention function, for calls in containers, which come without it; None: such calls are not
    taken.
    """

    def __init__(self, previous=None, host: Callable | None = None):
        self.previous, self.host = previous, host
        self._answer_eagerly = eagerly(self.answer)
        if host is not None:
            # Hosts look for this name. Without `host` nothing could fall back.
            self.container_function = self._answer_containers

    def __call__(
        self, func, q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw
    ):
        """Answer a call, by the override contract of comfy.ldm.modules.attention.wrap_attn."""
        call = AttentionCall(func, q, k, v, heads, mask, attn_precision, skip_reshape, skip_output_reshape, kw)
        return self.trace(call) if torch.compiler.is_compiling() else self.answer(call)

    def _answer_containers(
        self, q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw
    ):
        """Answer a call by the same contract, with q, k and v in containers."""
        call = ContainerCall(self.host, q, k, v, heads, mask, attn_precision, skip_reshape, skip_output_reshape, kw)
        return self.trace(call) if torch.compiler.is_compiling() else self.answer(call)

    def answer(self, call: AttentionCall) -> torch.Tensor:
        """Give what the model gets, as `call` asks for it."""
        raise NotImplementedError

    def trace(self, call: AttentionCall) -> torch.Tensor:
        """Answer while torch.compile traces: where the graph breaks, since `answer` cannot be traced."""
        return self._answer_eagerly(call)

    def next(self, call: AttentionCall, decision=None) -> torch.Tensor:
        """Run a call as it would be without us. It stays closed for an override or a host that takes it so.

        decision: the Decision about it, which learns of an override that raised; None where no rule is in force, and
        then everything is as without us.
        """
        if self.previous is None:
            own = own_function(call.options)
            # ComfyUI sets the name on each of its functions that opens containers; another pack's may not. What a
            # file names is always one of ComfyUI's.
            if call.closed and own is None and not hasattr(call.func, "container_function"):
                call = call.open()
            return call.pass_to(own or call.func)
        attention = getattr(self.previous, "container_function", None) if call.closed else None
        if attention is None:
            call, attention = call.open(), partial(self.previous, call.func)
        return call.pass_to(attention) if decision is None else answer_below(attention, call, decision, self.previous)

    def next_name(self, call: AttentionCall) -> str:
        """Name what `next` runs, as the report calls it."""
        if self.previous is None:
            return host_name(call.func, own_function(call.options))
        return owner_of(self.previous)


def in_heads(out: torch.Tensor, heads: int) -> torch.Tensor:
    """Give (B, H, L, D) of what ComfyUI gives when asked: its attention_pytorch forgets above a batch of 32768."""
    return to_heads(out, out, out, heads, False)[0] if out.ndim == 3 else out
