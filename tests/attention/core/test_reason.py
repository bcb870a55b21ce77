"""A Reason is text that says why not, and is told from text that is an answer by its type alone."""

from __future__ import annotations

import ast
import copy
import json
import pickle

from source import name_of, sources, tree

from attention.core.reason import Reason

# Its text is one fixed word, for what the host does itself.
NO_REFUSAL = {"cut_of", "gpu_of"}


def test_it_is_text_in_every_way():
    reason = Reason("head size 96, takes 64, 128")
    assert reason == "head size 96, takes 64, 128" and {reason: 1}[str(reason)] == 1 and not Reason()
    assert json.loads(json.dumps({reason: reason})) == {reason: reason} and f"{reason}." == reason + "."
    for same in (copy.copy(reason), copy.deepcopy(reason), pickle.loads(pickle.dumps(reason))):
        assert same == reason and isinstance(same, Reason)


def test_no_function_answers_with_a_thing_or_a_bare_text():
    """`X | str` cannot be told apart by who reads it, nor by code where X is text itself; None | str is one or none."""
    wrong, seen = [], 0
    for path in sources("attention", "nodes"):
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
                kinds = set(alternatives(node.returns)) - {"None"}
                seen += "Reason" in kinds
                wrong += [f"{name_of(path)}:{node.lineno} {node.name}"] * (
                    "str" in kinds and len(kinds) > 1 and node.name not in NO_REFUSAL
                )
    assert seen > 20 and not wrong, "\n".join(wrong)


def alternatives(annotation: ast.expr) -> list[str]:
    """The members of a union written with |."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*alternatives(annotation.left), *alternatives(annotation.right)]
    return [ast.unparse(annotation)]
