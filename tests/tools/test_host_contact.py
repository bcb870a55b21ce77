"""What is added to a MODEL of ComfyUI is added in nodes/host/ alone: wrappers, callbacks, hooks, methods, options."""

from __future__ import annotations

import ast
import re

import pytest
from source import ROOT, name_of, sources, tree

HOST = ROOT / "nodes" / "host"
# Functions that change a MODEL or hook one of its modules.
CHANGES = re.compile(
    r"add_(wrapper|callback|object_patch|patches|hook|weight_wrapper)\w*|remove_(wrappers|callbacks)\w*"
    r"|register_\w*hook\w*|set_(model|injections|attachments|additional_models)\w*|create_\w+_wrapper|inject_model"
)
OPTIONS = {"model_options", "transformer_options"}


def contacts(code: ast.AST):
    """(line, what) of each place that changes a MODEL, its options or a module's methods."""
    for node in ast.walk(code):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            methods = {"setdefault", "update", "pop", "clear"}
            if CHANGES.fullmatch(name):
                yield node.lineno, name
            elif name in methods and isinstance(node.func, ast.Attribute) and _in_options(node.func.value):
                yield node.lineno, f"options.{name}"
            elif name == "setattr" and ast.unparse(node.args[1]) == "'forward'":
                yield node.lineno, "setattr forward"
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
            targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
            for target in targets:
                if isinstance(target, ast.Subscript) and _in_options(target.value):
                    yield node.lineno, ast.unparse(target)
                if isinstance(target, ast.Attribute) and target.attr in {"forward", "model_options"}:
                    yield node.lineno, ast.unparse(target)
        elif isinstance(node, ast.ImportFrom) and node.module in {"comfy.patcher_extension", "comfy.hooks"}:
            yield node.lineno, f"import of {node.module}"


def _in_options(node: ast.AST) -> bool:
    """Whether what is written into is a MODEL's options: `model.model_options["transformer_options"]`."""
    names = {getattr(each, "attr", getattr(each, "id", getattr(each, "value", None))) for each in ast.walk(node)}
    return bool({name for name in names if isinstance(name, str)} & OPTIONS)


def test_models_are_changed_in_one_room():
    inside = sum(1 for path in sources("nodes/host") for _ in contacts(tree(path)))
    wrong = [
        f"{name_of(path)}:{line} {what}"
        for path in sources("attention", "nodes")
        if not path.is_relative_to(HOST)
        for line, what in contacts(tree(path))
    ]
    assert inside > 20
    assert not wrong, "nodes/host/ has functions for this:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "hit"),
    [
        ("model.add_wrapper_with_key(kind, KEY, step)", True),
        ("module.register_forward_pre_hook(look, with_kwargs=True)", True),
        ("patched.set_model_attn2_patch(patch)", True),
        ("add_callback(kind, show, handler.callbacks)", True),
        ("patched.model_options['transformer_options'][SLOT] = ours", True),
        ("patched.model_options.setdefault('transformer_options', {})", True),
        ("del model.model_options['context_handler']", True),
        ("module.forward = ours", True),
        ("setattr(module, 'forward', ours)", True),
        ("from comfy.patcher_extension import WrappersMP", True),
        ("found = model.model_options.get('transformer_options', {})", False),
        ("hooks.wrap(patched, KEY, wrappers)", False),
        ("options = {**options, CONTEXT: context}", False),
    ],
)
def test_contact_is_seen(line, hit):
    assert bool(list(contacts(ast.parse(line)))) is hit
