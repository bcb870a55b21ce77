"""Every sentence of the source that a node may show: of the server's, as its code writes them, and of the page's."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from itertools import product
from pathlib import Path

from source import ROOT, name_of, sources, tree

# What no view shows: pictures, tooltips (locales/ has them), tables of the docs, einops' words, the demo's own classes,
# names of files.
UNSHOWN_FILES = re.compile(
    r"attention/(demo|blocks|backends/triton)/|attention/presets/(sources|levels)|attention/plans/(bench_file|plan_file)"
    r"|/draw_(?!info|plan|pattern)|nodes/(demo|load)\.py|nodes/widgets/(search_words|sampler_inputs|guidance_inputs)"
    r"|nodes/widgets/pattern_(inputs|reach)|attention/core/canvas|compiled_op|plans/head_groups|web/workflows"
)
# Tables whose rows' summaries stand in tooltips and docs, and what ends in a log.
UNSHOWN_CALLS = {
    "Backend",
    "Engine",
    "warning",
    "info",
    "register_buffer",
    "search_words",
    "ContextVar",
    "Family",
    "of",
}
UNSHOWN_FUNCTIONS = re.compile(r"define_schema|draw_|_?inputs|_advanced|_switch|_between|on_unsupported|check\b")
# An error is shown by the host, in a window of its own; these become reasons.
REASONS = {"Unavailable", "TypeError"}
VALUE = "7"
MOST = 64


def server_sentences() -> dict[str, list[str]]:
    """Sentence, with VALUE where it has values -> the places that make it."""
    found: dict[str, list[str]] = {}
    for path in sources("attention", "nodes"):
        if UNSHOWN_FILES.search(name_of(path)):
            continue
        reader = _Reader(_constants(tree(path)))
        reader.visit(tree(path))
        for line, text in reader.found:
            if is_sentence(text) and text not in in_schemas():
                found.setdefault(text, []).append(f"{name_of(path)}:{line}")
    return found


def is_sentence(text: str) -> bool:
    return " " in text.strip() and bool(re.search(r"[a-z]{2,}", text))


@cache
def in_schemas() -> frozenset[str]:
    """Names, tooltips and search words: locales/ has them."""
    read = [json.loads((ROOT / "scripts" / name).read_text(encoding="utf-8")) for name in ("zh.json", "unchanged.json")]
    return frozenset({*read[0], *read[1]})


def _constants(module: ast.Module) -> dict[str, str]:
    """Names that are one text in this file."""
    found = {}
    for line in module.body:
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str):
            found |= {target.id: line.value.value for target in line.targets if isinstance(target, ast.Name)}
    return found


class _Reader(ast.NodeVisitor):
    """Collects (line, text) of the strings in a file that a node may show."""

    def __init__(self, constants: dict[str, str]):
        self.constants, self.found = constants, []

    def visit_FunctionDef(self, node):
        if not UNSHOWN_FUNCTIONS.match(node.name):
            self.generic_visit(node)

    def visit_Expr(self, node):
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Assign(self, node):
        # The name of a workflow's file.
        if [getattr(target, "id", "") for target in node.targets] != ["EXAMPLE"]:
            self.generic_visit(node)

    def visit_Raise(self, node):
        name = getattr(getattr(node.exc, "func", None), "id", "")
        if name in REASONS:
            self.generic_visit(node)

    def visit_Call(self, node):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        for child in ast.iter_child_nodes(node):
            if name not in UNSHOWN_CALLS or not isinstance(child, ast.Constant | ast.JoinedStr):
                self.visit(child)

    def visit_JoinedStr(self, node):
        self.found += [(node.lineno, text) for text in self._texts(node)]
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.visit(part.value)

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.found.append((node.lineno, node.value))

    def _texts(self, node) -> list[str]:
        """Every text that such an expression may be, VALUE for what is not told by the source."""
        if isinstance(node, ast.Constant):
            return [str(node.value)]
        if isinstance(node, ast.Name) and node.id in self.constants:
            return [self.constants[node.id]]
        if isinstance(node, ast.IfExp):
            return [*self._texts(node.body), *self._texts(node.orelse)]
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Mult)
            and isinstance(node.left, ast.Constant)
            and isinstance(node.left.value, str)
        ):
            return ["", str(node.left.value)]
        if isinstance(node, ast.JoinedStr):
            parts = [self._part(part) for part in node.values]
            return [_joined(texts) for texts, _ in zip(product(*parts), range(MOST))]
        return [VALUE]

    def _part(self, part) -> list[str]:
        if not isinstance(part, ast.FormattedValue):
            return self._texts(part)
        return ["7%"] if part.format_spec and ast.unparse(part.format_spec).endswith("%'") else self._texts(part.value)


def _joined(texts: tuple[str, ...]) -> str:
    """Puts a text together. A value that touches a word is one that may be empty."""
    said = ""
    for text in texts:
        if said == VALUE and text[:1].isupper():
            said = ""
        said += "" if text == VALUE and re.search(r"[A-Za-z]{2}$|[A-Za-z]'$", said) else text
    return said


def page_sentences() -> dict[str, list[str]]:
    """As server_sentences, of web/*.js."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "web").glob("*.js")):
        if UNSHOWN_FILES.search(name_of(path)):
            continue
        for text in literals(path):
            found.setdefault(text, []).append(name_of(path))
    return {text: places for text, places in found.items() if is_sentence(text)}


def literals(path: Path) -> list[str]:
    """All texts in a file of JavaScript, VALUE for the values of a template."""
    code = re.sub(r"^\s*//.*$|(?<=[;{},]) //.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: list[str] = []
    _read(code, 0, found, "")
    return found


def _read(code: str, at: int, found: list[str], end: str) -> int:
    """Reads code from `at` on to the brace that ends it; collects its texts. Returns where it ended."""
    depth = 0
    while at < len(code):
        mark = code[at]
        if mark == end and not depth:
            return at
        depth += (mark == "{") - (mark == "}")
        if mark in "\"'":
            stop = re.compile(rf"(?:\\.|[^{mark}\\\n])*").match(code, at + 1).end()
            found.append(code[at + 1 : stop].replace(f"\\{mark}", mark))
            at = stop
        elif mark == "`":
            at = _template(code, at + 1, found)
        at += 1
    return at


def _template(code: str, at: int, found: list[str]) -> int:
    """Reads a template from behind its first mark on; returns where its last one is."""
    said = ""
    while code[at] != "`":
        if code.startswith("${", at):
            at = _read(code, at + 2, found, "}")
            said += "" if said[-1:].isalpha() else VALUE
        else:
            said += code[at]
        at += 1
    found.append(said)
    return at
