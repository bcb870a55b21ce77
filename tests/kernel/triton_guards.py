"""Whether checked_memory.py sees that something is wrong: `TRITON_INTERPRET=1 python triton_guards.py`.

Runs our Triton kernel without each guard of an address, and with each one element too far, at the sizes of
triton_memory.py, and a small function that is off by one. Writes what the checks said to stdout as JSON.
"""

from __future__ import annotations

import ast
import copy
import inspect
import json
import sys
from contextlib import contextmanager

import torch
import triton
import triton.language as tl
from checked_memory import WRITES
from triton.runtime import interpreter
from triton_memory import calls, failure, large_calls, start

from attention.backends.triton import device, transforms

WIDE = "tl.cast(program % blocks, tl.int64)"


def guards(node):
    """(name, new expression) of what the node guards an address with: missing, and one element too far."""
    source = ast.unparse(node)
    if not isinstance(node, ast.Call):
        if isinstance(node, ast.If) and source.startswith("if stop > start:"):
            yield "for any length", source.replace("stop > start", "True", 1)
        if isinstance(node, ast.Assign) and source.startswith("inside = ") and " < " in source:
            yield "one too far", source.replace(" < ", " <= ")
        return
    named, words = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
    given = [ast.unparse(argument) for argument in node.args]
    if named in ("tl.load", "tl.store") and "mask" in words:
        plain = f"{named}({', '.join(given)}"
        yield "no mask", f"{plain})"
        for side in words["mask"].split(" & ") if " & " in words["mask"] else ():
            yield f"only {side}", f"{plain}, mask={side})"
        if " < " in words["mask"]:
            yield "one too far", f"{plain}, mask={words['mask'].replace(' < ', ' <= ')})"
    if named == "tl.minimum" and given[0] == "row":
        yield "no end", "row"
        yield "one too far", f"tl.minimum(row, {given[1]} + 1)"
    if named == "tl.maximum" and given[1] == "start":
        yield "no start", given[0]
    if named == "load_rows" and given[-1] in ("True", "not FULL", "RAGGED"):
        yield "not ragged", f"load_rows({', '.join(given[:-1])}, False)"
    if source == WIDE:
        yield "32 bits", given[0]


def mutants():
    """(name of a function, what is changed, its new source)."""
    for module in (device, transforms):
        for function in ast.parse(inspect.getsource(module)).body:
            if getattr(function, "name", None) not in device.compiled():
                continue
            for at, node in enumerate(ast.walk(function)):
                for what, expression in guards(node):
                    changed = copy.deepcopy(function)
                    new = ast.parse(expression).body[0]
                    put(changed, at, new if isinstance(node, ast.stmt) else new.value)
                    yield function.name, f"{function.name}, line {node.lineno}, {what}", ast.unparse(changed)


def put(tree, number: int, new) -> None:
    """Puts `new` in place of a node, numbered as ast.walk goes."""
    old = list(ast.walk(tree))[number]

    class Put(ast.NodeTransformer):
        def visit(self, node):
            return new if node is old else self.generic_visit(node)

    Put().visit(tree)


@contextmanager
def changed(name: str, source: str):
    """One of the kernel's functions has another source."""
    plain, original = interpreter.FunctionRewriter._prepare_source, device.compiled()[name].fn
    interpreter.FunctionRewriter._prepare_source = lambda self, lines: (
        source if self.fn is original else plain(self, lines)
    )
    interpreter.InterpretedFunction.rewritten_fn.clear()
    yield
    interpreter.FunctionRewriter._prepare_source = plain
    interpreter.InterpretedFunction.rewritten_fn.clear()


def without() -> dict:
    """{what is changed: what the checks say}. What found the last fault is tried first."""
    found, small, large = {}, sorted(calls(), key=lambda call: call[2].args[0]), [*large_calls()][::-1]
    for name, what, source in mutants():
        tries = large if what.endswith("32 bits") else small
        with changed(name, source):
            for at, (_, since, call) in enumerate(tries):
                found[what] = failure(since, call)
                if found[what]:
                    tries.insert(0, tries.pop(at))
                    break
    return found


def shifted(X, OUT, FROM: tl.constexpr, TO: tl.constexpr, INTO_X: tl.constexpr, STEP: tl.constexpr):
    """Copies 64 elements, each program its own."""
    at = tl.program_id(0) * STEP + tl.arange(0, 64)
    x = tl.load(X + at + FROM)
    tl.store((X if INTO_X else OUT) + at + TO, x)


def by_one() -> dict:
    """What the checks say of `shifted`, right and wrong."""
    WRITES["shifted"], function, found = {"OUT"}, triton.jit(shifted), {}
    for name, how in {
        "right": (0, 0, 0, 64), "reads behind": (1, 0, 0, 64), "reads in front": (-1, 0, 0, 64),
        "writes behind": (0, 1, 0, 64), "writes in front": (0, -1, 0, 64), "writes an input": (0, 0, 1, 64),
        "writes twice": (0, 0, 0, 63), "overflows": (0, 0, 0, (1 << 31) - 1),
    }.items():  # fmt: skip
        # There is memory on both sides of x.
        x, out = torch.zeros(130)[1:-1], torch.zeros(128)
        found[name] = failure((8, 0), lambda: function[(2,)](x, out, *how))  # noqa: B023
    return found


if __name__ == "__main__":
    start()
    json.dump({"without": without(), "by one": by_one()}, sys.stdout)
