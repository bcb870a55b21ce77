"""Triton's interpreter with every address checked: `run` a script with it, or `switch_on`.

Each tensor of a launch gets a range of addresses of its own, far from all others, so that an address says which tensor
it was made from. A lane that is not masked off must meet an element of that tensor, exactly: not a neighbour's, not the
gap between two rows, also where its value is thrown away later. What is only read must not be written, and no two
programs may write the same element. Integers of 32 bits must not overflow. A tensor on the device `meta` has no memory:
its addresses are checked, it reads as STATE.values has it, and some programs and steps stand for all.
"""

from __future__ import annotations

import inspect
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from triton.runtime import interpreter

# What each function writes; all else it may only read.
WRITES = {
    "attend": {"OUT"},
    "quantize": {"OUT", "SCALE", "POOL"},
    "reorder_rows": {"OUT", "POOL"},
    "transpose_v": {"OUT", "POOL"},
    "pool_kv": {"K_POOL", "V_POOL", "MASS"},
}
# Bits of one tensor's range of addresses: 16 TiB, with the tensor in the middle.
RANGE = 44
BUILDER = interpreter.InterpreterBuilder
PLAIN_LOAD, PLAIN_STORE, PLAIN_CORE = (
    BUILDER.create_masked_load,
    BUILDER.create_masked_store,
    interpreter._patch_lang_core,
)
# values: {argument: integers that a tensor without memory reads as, in turn}. seen: lines that reached memory.
STATE = SimpleNamespace(arguments=[], function="", program=0, phantom=False, patched=set(), values={}, seen=set())


class Argument:
    """A tensor of a launch as the interpreter sees it: an address and a dtype."""

    def __init__(self, name: str, tensor: torch.Tensor, number: int, written: bool):
        self.name, self.dtype, self.size, self.written = name, tensor.dtype, tensor.element_size(), written
        self.real = None if tensor.is_meta else tensor.data_ptr()
        self.base = (number << RANGE) + (1 << RANGE - 1)
        # (stride, length), the longest stride first; axes that lie in one piece are one.
        self.empty, self.axes, extent = tensor.numel() == 0, [], 1
        for stride, length in sorted(zip(tensor.stride(), tensor.shape)):
            if stride and length > 1:
                assert stride >= extent, f"{name} overlaps itself"
                if self.axes and stride == self.axes[0][0] * self.axes[0][1]:
                    self.axes[0] = (self.axes[0][0], self.axes[0][1] * length)
                else:
                    self.axes.insert(0, (stride, length))
                extent += stride * (length - 1)
        self.writer = np.zeros(extent, np.int32) if written and self.real else None

    def data_ptr(self) -> int:
        return self.base

    def holds(self, offset: np.ndarray) -> np.ndarray:
        """Which of the offsets, in bytes, are those of an element."""
        rest = offset // self.size
        held = (rest * self.size == offset) & (not self.empty)
        for stride, length in self.axes:
            at = rest // stride
            held &= (at >= 0) & (at < length)
            rest = rest - at * stride
        return held & (rest == 0)

    def moved(self, pointers):
        """Pointers to where the elements are in truth."""
        by = np.uint64((self.real - self.base) % (1 << 64))
        return interpreter.TensorHandle(pointers.data + by, pointers.dtype)


def line() -> str:
    """The line of the kernel that is being interpreted."""
    frame, own = sys._getframe(1), (__file__, interpreter.__file__)
    while frame.f_code.co_filename in own or "/triton/language/" in frame.f_code.co_filename:
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def resolved(pointers, mask, verb: str):
    """The argument that the unmasked lanes meet and where in it, in elements; AssertionError where they do not. None
    where there is no such lane."""
    address, at = pointers.data if mask.data.all() else pointers.data[mask.data], line()
    STATE.seen.add(at)
    if not address.size:
        return None, None
    number, who = int(address.flat[0]) >> RANGE, f"{STATE.function}, program {STATE.program}, {at} {verb}"
    assert 0 <= number < len(STATE.arguments), f"{who} address {address.flat[0]:#x} of no argument"
    one = STATE.arguments[number]
    offset = address.astype(np.int64) - one.base
    held = one.holds(offset)
    assert held.all(), f"{who} {one.name} at byte {offset[~held].flat[0]}, {(~held).sum()} of {held.size} lanes astray"
    assert verb == "reads" or one.written, f"{who} {one.name}, which is an input"
    return one, offset // one.size


def load(self, pointers, mask, other, cache, volatile):
    one, element = resolved(pointers, mask, "reads")
    if one is None or one.real:
        return PLAIN_LOAD(self, one.moved(pointers) if one else pointers, mask, other, cache, volatile)
    made = np.zeros(pointers.data.shape, interpreter._get_np_dtype(pointers.get_element_ty()))
    values = np.asarray(STATE.values.get(one.name, (0,)))
    made[np.broadcast_to(mask.data, made.shape)] = values[element.ravel() % len(values)]
    return interpreter.TensorHandle(made, pointers.get_element_ty())


def store(self, pointers, value, mask, cache) -> None:
    one, element = resolved(pointers, mask, "writes")
    if one and one.real:
        others = set(np.unique(one.writer[element]).tolist()) - {0, STATE.program + 1}
        assert not others, f"{STATE.function}, programs {STATE.program} and {min(others) - 1} write alike in {one.name}"
        one.writer[element] = STATE.program + 1
        PLAIN_STORE(self, one.moved(pointers), value, mask, cache)


def launch(self, *arguments, **options) -> None:
    """Runs every program of a grid of one axis; three of them where a tensor has no memory."""
    named = {name: value for name, value in options.items() if name in inspect.signature(self.fn).parameters}
    STATE.arguments, STATE.function, STATE.patched, values = [], self.fn.__name__, set(), {}
    for key, value in inspect.getcallargs(self.fn, *arguments, **named).items():
        if isinstance(value, torch.Tensor):
            value = Argument(key, value, len(STATE.arguments), key in WRITES[STATE.function])
            STATE.arguments.append(value)
        values[key] = value if key in self.constexprs else interpreter._implicit_cvt(value)
    STATE.phantom, (number,) = any(one.real is None for one in STATE.arguments), self.grid
    scope = interpreter._patch_lang(self.fn)
    interpreter.interpreter_builder.set_grid_dim(number, 1, 1)
    try:
        for program in sorted({0, number // 2, number - 1}) if STATE.phantom else range(number):
            STATE.program = program
            interpreter.interpreter_builder.set_grid_idx(program, 0, 0)
            self.fn(**values)
    finally:
        scope.restore()


def call(self, *arguments, **options):
    """A function that another calls. The interpreter's own patches the language each time, and buries errors."""
    if id(self.fn.__globals__) not in STATE.patched:
        interpreter._patch_lang(self.fn)
        STATE.patched.add(id(self.fn.__globals__))
    return self.rewrite()(*arguments, **options)


def steps(*bounds, **options):
    """The first two and the last two steps of a long loop stand for all where a tensor has no memory."""
    every = range(*bounds)
    return [*every[:2], *every[-2:]] if STATE.phantom and len(every) > 4 else every


def patched_core(language, scope) -> None:
    PLAIN_CORE(language, scope)
    scope.set_attr(language, "range", steps)


def no_overflow(self, condition, message) -> None:
    assert condition.data.all(), f"{STATE.function}, program {STATE.program}, {line()}: {message}"


def no_atomics(*arguments):
    raise AssertionError("atomics are not checked")


def switch_on() -> None:
    """For the rest of the process."""
    BUILDER.create_masked_load, BUILDER.create_masked_store, BUILDER.create_assert = load, store, no_overflow
    BUILDER.create_atomic_cas = BUILDER.create_atomic_rmw = no_atomics
    interpreter.GridExecutor.__call__, interpreter.InterpretedFunction.__call__ = launch, call
    interpreter._patch_lang_core = patched_core
    # Here `debug` adds the compiler's own checks of 32-bit sums, differences and products.
    interpreter.interpreter_builder.options = interpreter.InterpreterOptions(debug=True)


def run(script: str) -> None:
    switch_on()
    runpy.run_path(script, run_name="__main__")
