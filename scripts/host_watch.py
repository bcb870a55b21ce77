"""Lists what this pack uses of ComfyUI beyond its public API, and whether a given ComfyUI still has it.

python scripts/host_watch.py PATH [--before PATH]     PATH: a folder that holds ComfyUI's main.py

Read from the source of both, nothing is imported or run: names that nodes/ imports from ComfyUI's modules or reads from
them, classes of diffusion models and their methods in the families' table, methods of its patcher, guider and models
that nodes/ calls, and keys of the dictionaries that it hands over. --before: the ComfyUI to compare signatures with, by
default the pinned one where scripts/host.py has put it. Ends with 1 where something is gone.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import host

sys.path.insert(0, str(host.ROOT))

HOSTS = ("comfy", "comfy_extras", "comfy_execution", "nodes", "folder_paths", "latent_preview", "server")
# Whose methods and attributes nodes/ uses through objects that ComfyUI hands it.
OWNERS = {
    "comfy.model_patcher": "ModelPatcher", "comfy.samplers": "CFGGuider", "comfy.model_base": "BaseModel",
    "comfy.latent_formats": "LatentFormat",
}  # fmt: skip
# Names of variables that hold dictionaries of ComfyUI's.
DICTIONARIES = {"options", "model_options", "kwargs", "inputs", "cond", "conds", "ready", "each", "args"}


class Source:
    """Python files below one folder, each parsed once."""

    def __init__(self, root: Path):
        self.root, self._trees = root, {}

    def tree(self, module: str) -> ast.Module | None:
        """The syntax tree of a module by its dotted name; None where there is no such file."""
        base = self.root.joinpath(*module.split("."))
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.exists():
                if file not in self._trees:
                    self._trees[file] = ast.parse(file.read_text(encoding="utf-8"))
                return self._trees[file]
        return None

    def find(self, module: str, path: tuple[str, ...]) -> str | None:
        """What stands under a name in a module, as text: a signature, "class", "value"; None where nothing does."""
        node, text = self.tree(module), "module"
        if node is None:
            return None
        for name in path:
            if not isinstance(node, (ast.Module, ast.ClassDef)):
                return text  # of something made at run time
            node = members(node).get(name) or self._inherited(module, node, name)
            if node is None:
                return None
            text = describe(node)
        return text

    def _inherited(self, module: str, node, name: str):
        bases = [b.id for b in getattr(node, "bases", ()) if isinstance(b, ast.Name)]
        tops = members(self.tree(module))
        found = (members(tops[b]).get(name) for b in bases if isinstance(tops.get(b), ast.ClassDef))
        return next(filter(None, found), None)

    def text(self) -> str:
        """Everything below comfy/, to look a key up in."""
        files = sorted(self.root.glob("comfy/**/*.py")) + sorted(self.root.glob("comfy_extras/*.py"))
        return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def members(node) -> dict[str, ast.AST]:
    """Name -> what defines it, of a module or a class; of a class also what its methods set on `self`."""
    found: dict[str, ast.AST] = {}
    for each in ast.walk(node) if isinstance(node, ast.ClassDef) else _top(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and _is_self(each):
            found.setdefault(each.attr, each)
        for name in _defined(each) if not isinstance(node, ast.ClassDef) or each in node.body else ():
            found[name] = each
    return found


def _top(node) -> Iterator[ast.AST]:
    """Statements of a module, also those under `if` and `try`."""
    for each in getattr(node, "body", ()):
        yield each
        if isinstance(each, (ast.If, ast.Try)):
            handlers = list(getattr(each, "handlers", ()))
            for part in (each, *handlers, ast.Module(each.orelse, [])):
                yield from _top(part)


def _is_self(attribute: ast.Attribute) -> bool:
    return isinstance(attribute.value, ast.Name) and attribute.value.id == "self"


def _defined(node) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from ((a.asname or a.name).split(".")[0] for a in node.names)
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    for target in targets if isinstance(node, (ast.Assign, ast.AnnAssign)) else ():
        yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


def describe(node) -> str:
    """A signature as it is written, or what kind of thing this is."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return f"({ast.unparse(node.args)})"
    return "class" if isinstance(node, ast.ClassDef) else "value"


def chain(node) -> list[str]:
    """`a.b.c` as its names; empty for anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    rest = chain(node.value) if isinstance(node, ast.Attribute) else []
    return [*rest, node.attr] if rest else []


def imported(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """Name in a file -> the dotted name in ComfyUI that it stands for."""
    found: dict[str, tuple[str, ...]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in (a for a in node.names if a.name.split(".")[0] in HOSTS):
                whole = tuple(alias.name.split("."))
                found |= {alias.asname: whole} if alias.asname else {whole[0]: whole[:1]}
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in HOSTS:
            found |= {a.asname or a.name: (*node.module.split("."), a.name) for a in node.names}
    return found


def used_names(files: list[Path]) -> dict[tuple[str, ...], set[str]]:
    """Dotted name in ComfyUI -> the files that use it; of `a.b` and `a.b.c` the longer alone."""
    found = defaultdict(set)
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = imported(tree)
        for whole in names.values():
            found[whole].add(file.name)
        for node in ast.walk(tree):
            parts = chain(node)
            if len(parts) > 1 and parts[0] in names and not parts[-1].startswith("__"):
                found[(*names[parts[0]], *parts[1:])].add(file.name)
    longer = {whole[:n] for whole in found for n in range(1, len(whole))}
    return {whole: users for whole, users in found.items() if whole not in longer}


def used_attributes(files: list[Path]) -> dict[str, set[str]]:
    """Name of an attribute of anything -> the files that read it."""
    found = defaultdict(set)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found[node.attr].add(file.name)
    return found


def used_keys(files: list[Path]) -> dict[str, set[str]]:
    """Key of a dictionary of ComfyUI's -> the files that look it up."""
    found = defaultdict(set)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            owner = key = None
            if isinstance(node, ast.Subscript):
                owner, key = node.value, node.slice
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
                owner, key = node.func.value, node.args[0] if node.args else None
            known = (chain(owner) or [""])[-1]
            if known in DICTIONARIES and isinstance(key, ast.Constant) and isinstance(key.value, str):
                found[key.value].add(file.name)
    return {key: users for key, users in found.items() if not key.startswith(("vattn", "video_attention"))}


def split(source: Source, whole: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """(module, names in it): the longest beginning of a dotted name that is a module there."""
    for end in range(len(whole), 0, -1):
        if source.tree(".".join(whole[:end])) is not None:
            return ".".join(whole[:end]), whole[end:]
    return ".".join(whole[:-1]), whole[-1:]


def rows(pack: Path, now: Source, before: Source | None) -> Iterator[tuple[str, str, str | None, str | None, str]]:
    """(kind, name, what it was, what it is, who uses it); None: it is not there."""
    files = [*sorted((pack / "nodes").rglob("*.py")), pack / "__init__.py"]
    for whole, users in sorted(used_names(files).items()):
        was = None if before is None else before.find(*split(before, whole))
        yield "name", ".".join(whole), was, now.find(*split(now, whole)), ", ".join(sorted(users))
    attributes = used_attributes(files)
    for module, owner in OWNERS.items():
        tree = (before or now).tree(module)
        known = members(members(tree)[owner]) if tree is not None and owner in members(tree) else {}
        for name in sorted(known.keys() & attributes.keys()):
            was = None if before is None else before.find(module, (owner, name))
            users = ", ".join(sorted(attributes[name])[:4])
            yield "attribute", f"{module}.{owner}.{name}", was, now.find(module, (owner, name)), users
    old, new = "" if before is None else before.text(), now.text()
    families = [*sorted((pack / "attention" / "families").glob("*.py"))]
    for key, users in sorted(used_keys([*files, *families]).items()):
        held = ["key" if f'"{key}"' in text or f"'{key}'" in text or f"{key}=" in text else None for text in (old, new)]
        yield "key", key, held[0], held[1], ", ".join(sorted(users))
    yield from family_rows(old, new)


def family_rows(old: str, new: str) -> Iterator[tuple]:
    """Classes that the families' table knows, and methods of theirs that it names."""
    from attention.families import TABLE

    for family in TABLE:
        for kind, names in (("class ", family.models), ("def ", family.forward_methods)):
            for name in names:
                held = ["found" if f"{kind}{name}(" in text else None for text in (old, new)]
                yield "family", f"{kind}{name}", held[0], held[1], family.name


def state(was: str | None, now: str | None) -> str:
    if now is None:
        return "GONE" if was is not None else "not there"
    return "new" if was is None else "same" if was == now else "changed"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("path", type=Path)
    pinned = host.HOME / f"ComfyUI-{host.COMFYUI}"
    arguments.add_argument("--before", type=Path, default=pinned if (pinned / "main.py").exists() else None)
    options = arguments.parse_args()
    for folder in filter(None, (options.path, options.before)):
        if not (folder / "main.py").exists():
            raise host.SetUpError(f"{folder}: there is no main.py in it; give the folder of a ComfyUI.")
    before = None if options.before is None else Source(options.before)
    gone = 0
    for kind, name, was, now, users in rows(host.ROOT, Source(options.path), before):
        what = state(was, now)
        gone += what == "GONE"
        told = f"{was} -> {now}" if what == "changed" else now or was or ""
        host.say(f"{what:9}  {kind:9}  {name}  {told}  [{users}]")
    host.say(f"\n{gone} gone." if gone else "\nNothing is gone.")
    return int(bool(gone))


if __name__ == "__main__":
    host.main(main)
