"""Which tests reach a place of the source."""

from __future__ import annotations

import ast
import collections
from pathlib import Path

from mutants import Mutant

# Test files that run first: to collect many takes longer than to run one.
FIRST = 3


class Reach:
    """Answers from mutate.py's map."""

    def __init__(self, root: Path, measured: list[dict]):
        self.root, self.seconds = root, {}
        self.by_function, self.by_file = collections.defaultdict(set), collections.defaultdict(set)
        for row in measured:
            self.seconds.update(row["seconds"])
            for test in row["reached"].keys() - set(row["red"]):
                for function in row["reached"][test]:
                    self.by_function[function].add(test)
                    self.by_file[function.rsplit(":", 1)[0]].add(test)
        self.importers = importers(root)

    def tests(self, mutant: Mutant, limit: float) -> list[list[str]]:
        """The tests that reach it, as many as take `limit` seconds, in groups in the order in which they should run."""
        word, files, total = Path(mutant.file).stem, collections.defaultdict(list), 0.0
        for test in sorted(self.near(mutant), key=lambda t: (word not in t.split("::")[0], self.seconds[t], t)):
            if not total or total + self.seconds[test] <= limit:
                total += self.seconds[test]
                files[test.split("::")[0]].append(test)
        groups = list(files.values())
        return [g for g in (sum(groups[:FIRST], []), sum(groups[FIRST:], [])) if g]

    def near(self, mutant: Mutant) -> set[str]:
        function = function_at((self.root / mutant.file).read_text(), mutant.line)
        if function is not None:
            return self.by_function[f"{mutant.file}:{function}"]
        # A table or a constant: whatever runs in this file, or in one that imports it.
        found, asked = set(self.by_file[mutant.file]), set()
        open_ = [mutant.file]
        while open_:
            file = open_.pop()
            for user in self.importers[file] - asked:
                asked.add(user)
                found |= self.by_file[user]
                # A room's table hands on what it lists.
                if user.endswith("__init__.py"):
                    open_.append(user)
        return found


def function_at(text: str, line: int) -> int | None:
    """The line on which the innermost function there begins."""
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return max((n.lineno for n in nodes if n.lineno <= line <= n.end_lineno), default=None)


def importers(root: Path) -> dict[str, set[str]]:
    """File -> the files of the pack that import it, or a name of it."""
    found = collections.defaultdict(set)
    for file in (*root.glob("attention/**/*.py"), *root.glob("nodes/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                package = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                for target in (package, *(package / alias.name for alias in node.names)):
                    for path in (target.with_suffix(".py"), target / "__init__.py"):
                        if path.exists() and path != file:
                            found[str(path.relative_to(root))].add(str(file.relative_to(root)))
    return found
