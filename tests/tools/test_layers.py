"""Who may import whom, what shipped code may not contain, and the house limits of every source file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from source import ROOT, name_of, shipped, sources, tree

CHECKED = ("attention", "nodes", "scripts", "tests")
MAX_FILE, MAX_FUNCTION = 300, 40

# The rooms of attention/ and of nodes/, lowest floor first: a room imports only from floors below its own.
FLOORS = {
    "attention": (
        ("core",),
        ("backends", "patterns", "families", "guidance", "sampling", "forecast", "reuse", "parallel"),
        ("sparse", "blocks", "presets"),
        ("routing", "demo"),
        ("inspect",),
        ("plans", "measure"),
    ),
    "nodes": (("host",), ("runs",), ("widgets",), ("",)),
}
# It knows of no other room at all.
APART = ("sampling",)

HOST_MODULES = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "execution", "server"}
# The standard library and what the host installs; kernel packages only inside functions (see test_imports_of_kernels).
OUTSIDE = {"torch", "numpy", "PIL", "safetensors", "einops", *sys.stdlib_module_names}
# Store scanners reject these and a pack that needs none of them cannot be made to run something by a workflow.
FORBIDDEN = {
    "a subprocess": r"\bsubprocess\b|\bos\.(system|popen|exec\w*|spawn\w*)\b",
    "an environment variable": r"\bos\.environ\b|\bgetenv\b|\bputenv\b",
    "the network": r"\burllib\b|\brequests\b|\bsocket\b|\bhttp\.client\b",
    "evaluated text": r"\beval\(|\bexec\(",
    "a dynamic import": r"\bimport_module\b|\b__import__\b|\bsys\.modules\b",
}


def imports(path: Path, inside: bool = False):
    """(line, absolute dotted target) of every import; a relative one is resolved against the file's package.

    inside: only relative ones, which are those of the pack itself.
    """
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree(path)):
        if inside and not getattr(node, "level", 0):
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            above = node.level > len(package)
            target = ".".join((*start, *((node.module,) if node.module else ())))
            for alias in node.names:
                yield node.lineno, "<above the pack>" if above else f"{target}.{alias.name}".lstrip(".")


def test_the_files_are_found():
    # Every test below passes on an empty list.
    assert len(sources("attention")) > 10 and ROOT / "attention" / "routing" / "router.py" in shipped()
    assert not any(path.is_relative_to(ROOT / "tests") for path in shipped())


def test_attention_imports_no_host():
    wrong = [
        f"{name_of(path)}:{line} {target}"
        for path in sources("attention")
        for line, target in imports(path)
        if target.split(".")[0] in HOST_MODULES | {"<above the pack>"}
    ]
    assert not wrong, "\n".join(wrong)


def room_of(target: str) -> tuple[str, str] | None:
    """(folder, room) that a dotted name stands in, None outside of FLOORS; files beside the rooms are in room ""."""
    folder, *rest = target.split(".")
    if folder not in FLOORS or not rest:
        return None
    rooms = {room for floor in FLOORS[folder] for room in floor}
    return folder, rest[0] if rest[0] in rooms else ""


@pytest.mark.parametrize("folder", FLOORS)
def test_rooms_stand_on_floors_below(folder):
    height = {room: floor for floor, rooms in enumerate(FLOORS[folder]) for room in rooms}
    wrong, seen = [], 0
    for path in sources(folder):
        own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if own is None or path.parent == ROOT / folder and path.name == "__init__.py":
            continue
        for line, target in imports(path, inside=True):
            other = room_of(target)
            if other is None or other[0] != folder or other == own:
                continue
            seen += 1
            if height[other[1]] >= height[own[1]] or own[1] in APART and folder == "attention":
                wrong.append(f"{name_of(path)}:{line} {target}")
    assert seen > 30
    assert not wrong, "imports from a floor that is not below:\n" + "\n".join(wrong)


def test_every_folder_is_a_room():
    for folder, floors in FLOORS.items():
        rooms = {path.parent.name for path in (ROOT / folder).glob("*/*.py")}
        assert rooms == {room for floor in floors for room in floor if room}, folder
    assert [path.name for path in (ROOT / "attention").glob("*.py")] == ["__init__.py"]


def test_attention_reaches_itself_relatively():
    absolute = [
        f"{name_of(path)}:{node.lineno}"
        for path in sources("attention")
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "attention")
        or (isinstance(node, ast.Import) and any(a.name.split(".")[0] == "attention" for a in node.names))
    ]
    assert not absolute, "ComfyUI imports the pack under another name, so these fail there:\n" + "\n".join(absolute)


def test_imports_of_kernels():
    """At module level attention/ needs torch and what the host installs; kernel packages are loaded when asked for."""
    wrong = []
    for path in sources("attention"):
        for node in tree(path).body:
            if isinstance(node, ast.Import):
                roots = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots = {node.module.split(".")[0]}
            else:
                continue
            wrong += [f"{name_of(path)}:{node.lineno} {root}" for root in roots - OUTSIDE]
    assert not wrong, "\n".join(wrong)


def test_backends_do_not_import_each_other():
    folder = ROOT / "attention" / "backends"
    siblings = {path.stem for path in folder.glob("*.py")} - {"__init__", "spec", "registry", "autotune"}
    wrong = [
        f"{name_of(path)}:{line} {target}"
        for path in folder.glob("*.py")
        if path.stem != "__init__"
        for line, target in imports(path)
        if target.startswith("attention.backends.") and target.split(".")[2] in siblings
    ]
    assert len(siblings) > 3
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_shipped_code_does_without(what):
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{name_of(path)}:{number} {line.strip()}"
        for path in shipped()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"{what} in code that ships:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("what", "line", "hit"),
    [
        ("evaluated text", "model.eval()", True),  # torch's own method: scanners match the bare text
        ("evaluated text", "retrieval(x)", False),
        ("a subprocess", "import subprocess", True),
        ("an environment variable", "os.environ['A']", True),
        ("the network", "from urllib.request import urlopen", True),
        ("a dynamic import", "importlib.import_module(x)", True),
    ],
)
def test_forbidden_patterns_can_fail(what, line, hit):
    assert bool(re.search(FORBIDDEN[what], line)) is hit


def test_sources_are_ascii():
    wrong = [name_of(path) for path in {*shipped(), *sources(*CHECKED)} if not path.read_bytes().isascii()]
    assert not wrong, f"not ASCII: {', '.join(sorted(wrong))}"


def test_files_are_short():
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(*CHECKED)}
    wrong = [f"{name}: {length} lines" for name, length in lengths.items() if length > MAX_FILE]
    assert not wrong, "\n".join(wrong)


def test_functions_are_short():
    wrong = [
        f"{name_of(path)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in sources(*CHECKED)
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= MAX_FUNCTION
    ]
    assert not wrong, "\n".join(wrong)


def run_fresh(code: str) -> str:
    """stdout of `code` in a new interpreter with the pack's folder alone on its path."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_attention_stands_alone():
    """Every module of attention/ imports in a fresh interpreter and pulls in neither the host nor a kernel package."""
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sources("attention")
    )
    heavy = ("comfy", "triton", "sageattention", "comfy_kitchen", "flash_attn", "xformers", "nodes")
    code = f"import sys\nfor name in {modules!r}:\n    __import__(name)\n"
    code += f"print([name for name in {heavy!r} if name in sys.modules], 'attention.routing.router' in sys.modules)"
    assert run_fresh(code).strip() == "[] True"


def test_root_imports_bare():
    """Tools import __init__.py as a lone file, without a package and without ComfyUI: it must load no node then."""
    code = "import __init__ as pack, sys; print(pack.WEB_DIRECTORY, hasattr(pack, 'comfy_entrypoint'))"
    assert run_fresh(code).split()[-1] == "False"
