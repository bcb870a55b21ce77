"""Small changes to a source text, as a slip of the hand would make them: what mutate.py lets the tests look for."""

from __future__ import annotations

import ast
import dataclasses

COMPARED = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
CALCULATED = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any", "amin": "amax", "amax": "amin"}
ASKED = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.NamedExpr)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """`old`, which begins at character `start` on line `line`, becomes `new`; `around` is that line's text."""

    file: str
    line: int
    start: int
    kind: str
    old: str
    new: str
    around: str

    def apply(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.start + len(self.old) :]

    def readable(self, text: str) -> bool:
        try:
            ast.parse(self.apply(text))
        except SyntaxError:
            return False
        return True


def mutants(file: str, text: str) -> list[Mutant]:
    """All mutants of one file in the order of the text, few of which Python may not read; annotations stay."""
    finder = _Finder(file, text)
    finder.visit(ast.parse(text))
    return sorted(dict.fromkeys(finder.found), key=lambda m: (m.start, m.new))


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, text: str):
        self.file, self.text, self.found = file, text, []
        self.lines = text.split("\n")
        self.begins = [0]
        for line in self.lines:
            self.begins.append(self.begins[-1] + len(line) + 1)

    def place(self, line: int, column: int) -> int:
        """`column` counts bytes, as ast does."""
        return self.begins[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def span(self, node) -> tuple[int, int]:
        return self.place(node.lineno, node.col_offset), self.place(node.end_lineno, node.end_col_offset)

    def add(self, node, kind: str, start: int, stop: int, new: str) -> None:
        around = self.lines[self.text.count("\n", 0, start)].strip()
        self.found.append(Mutant(self.file, node.lineno, start, kind, self.text[start:stop], new, around))

    def replace(self, node, kind: str, form: str) -> None:
        start, stop = self.span(node)
        self.add(node, kind, start, stop, form.format(self.text[start:stop]))

    def between(self, left, right, kind: str, old: str, new: str) -> None:
        """Exchanges the operator between two operands."""
        start, stop = self.span(left)[1], self.span(right)[0]
        at = self.text[start:stop].find(old)
        if at >= 0 and "#" not in self.text[start:stop]:
            self.add(right, kind, start + at, start + at + len(old), new)

    # --- what is left as it is ---

    def visit_FunctionDef(self, node) -> None:
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
            self.visit(part)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node) -> None:
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), node.body):
            self.visit(part)

    def visit_AnnAssign(self, node) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_ClassDef(self, node) -> None:
        for part in node.body:
            self.visit(part)

    def visit_Assert(self, node) -> None:
        pass

    def visit_JoinedStr(self, node) -> None:
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and not isinstance(part.value, ast.Constant):
                self.visit(part.value)

    def visit_If(self, node) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self._ask(node)

    # --- what changes ---

    def _ask(self, node) -> None:
        if isinstance(node.test, ASKED):
            self.replace(node.test, "if", "(not ({}))")
        self.generic_visit(node)

    visit_IfExp = visit_While = _ask

    def visit_comprehension(self, node) -> None:
        for test in node.ifs:
            if isinstance(test, ASKED):
                self.replace(test, "if", "(not ({}))")
        self.generic_visit(node)

    def visit_Compare(self, node) -> None:
        for left, operator, right in zip((node.left, *node.comparators), node.ops, node.comparators):
            self.between(left, right, "compare", *COMPARED[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node) -> None:
        # The text that % fills in and text that + joins are no arithmetic.
        text = any(isinstance(n, ast.JoinedStr) or _is(n, str) for n in (node.left, node.right))
        if type(node.op) in CALCULATED and not text:
            self.between(node.left, node.right, "arithmetic", *CALCULATED[type(node.op)])
        self.generic_visit(node)

    def visit_AugAssign(self, node) -> None:
        if type(node.op) in CALCULATED:
            self.between(node.target, node.value, "arithmetic", *CALCULATED[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        first, last = self.span(node.values[0])[0], self.span(node.values[-1])[1]
        for left, right in zip(node.values, node.values[1:]):
            end, begin = self.span(left)[1], self.span(right)[0]
            if len(node.values) == 2:
                self.between(left, right, "and/or", old, new)
            else:
                # Brackets keep the rest: `and` binds closer than `or`.
                form = f"({self.text[first:end]}) {new} ({self.text[begin:last]})"
                self.add(left, "and/or", first, last, form)
        self.generic_visit(node)

    def visit_UnaryOp(self, node) -> None:
        start, stop = self.span(node)
        operand = self.text[slice(*self.span(node.operand))]
        if isinstance(node.op, ast.Not):
            self.add(node, "not", start, stop, f"bool({operand})")
        elif isinstance(node.op, ast.USub):
            self.add(node, "minus", start, stop, operand)
        self.generic_visit(node)

    def visit_Constant(self, node) -> None:
        if _is(node, bool):
            self.replace(node, "bool", str(not node.value))
        elif _is(node, int) or _is(node, float):
            self.replace(node, "number", f"({node.value + 1!r})")

    def visit_Return(self, node) -> None:
        if node.value is not None and not _is(node.value, type(None)):
            self.replace(node.value, "return None", "None")
        self.generic_visit(node)

    def visit_Call(self, node) -> None:
        name = getattr(node.func, "id", getattr(node.func, "attr", None))
        if name in SWAPPED:
            stop = self.span(node.func)[1]
            self.add(node.func, "min/max", stop - len(name), stop, SWAPPED[name])
        for keyword in node.keywords:
            if keyword.arg is not None:
                self._drop(keyword)
        self.generic_visit(node)

    def _drop(self, keyword) -> None:
        """Leaves a named argument out, with the comma behind it or, of the last one, before it."""
        start, stop = self.span(keyword)
        behind = self.text[stop:].lstrip()
        before = self.text[:start].rstrip()
        if behind.startswith(","):
            stop = len(self.text) - len(behind) + 1
        elif before.endswith(","):
            start = len(before) - 1
        # The lines below keep their numbers.
        self.add(keyword, "keyword", start, stop, "\n" * self.text[start:stop].count("\n"))


def _is(node, kind: type) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is kind
