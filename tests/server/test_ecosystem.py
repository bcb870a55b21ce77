"""The pack among others: what its archive holds, how managers install it, beside which packs it loads."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from functools import cache
from pathlib import Path

import host
import pytest
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = host.ROOT
# What the registry's scanner was seen to match, in code, comments and pages alike. It does not parse.
SCANNED = {
    "a subprocess": r"\bsubprocess\b|\bos\.(system|popen|exec\w*|spawn\w*)\b",
    "the environment": r"\bos\.environ\b|\b(get|put)env\b",
    "the network": r"\burllib\b|\brequests\.|\baiohttp\b|\bsocket\b|\.connect\(|\.bind\(",
    "bytecode": r"\b__import__\b|\bsys\.modules\b|\bimport_module\b|\bmarshal\b",
    "evaluated text": r"\beval\(|\bexec\(|\bcompile\([^)]*['\"]exec",
    "a command": r"\bff(mpeg|probe)\b|\bcurl\b|\bwget\b",
    "a blocked address": r"raw\.githubusercontent\.com",
    "encoded text": r"\bb64decode\b|\bfromhex\b|\bpickle\.loads?\b",
}
PAGES = {"README.md", "CHANGELOG.md"}
TEXT = {".py", ".js", ".json", ".md", ".toml", ".txt"}


@cache
def shipped() -> tuple[Path, ...]:
    """What the registry's archive holds: files for version control less those of .comfyignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")

    def listed(*options: str) -> set[str]:
        command = ["git", "-c", "core.quotePath=off", "ls-files", *options]
        return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines())

    kept = listed("--cached", "--others", "--exclude-standard")
    kept -= listed("--cached", "--others", "--ignored", "--exclude-from=.comfyignore")
    return tuple(ROOT / name for name in sorted(kept) if (ROOT / name).exists())


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


# --- the archive -----------------------------------------------------------------------------------------------------


def test_the_archive_holds_what_a_user_needs():
    names = {file.relative_to(ROOT).as_posix() for file in shipped()}
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md", "CHANGELOG.md"} <= names
    tops = {name.split("/")[0] for name in names}
    assert {"attention", "nodes", "models", "workflows", "web", "locales"} <= tops
    assert not tops & {"tests", "scripts", "benchmarks", "art", ".github", ".ci"}
    assert sum(file.stat().st_size for file in shipped()) < 38e6


@pytest.mark.parametrize("what", SCANNED)
def test_the_scanner_finds_nothing(what):
    found = [
        f"{file.relative_to(ROOT)}:{number} {line.strip()[:100]}"
        for file in shipped()
        if file.suffix in TEXT
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(SCANNED[what], line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a subprocess", "# no subprocess here"),
        ("the environment", "os.environ"),
        ("the network", "node.widget.connect(0, other, 0)"),
        ("bytecode", "importlib.import_module(x)"),
        ("evaluated text", "model.eval()"),
        ("a command", "install ffmpeg first"),
        ("a blocked address", "https://raw.githubusercontent.com/a/b"),
        ("encoded text", "pickle.load(f)"),
    ],
)
def test_the_scan_can_fail(what, line):
    assert re.search(SCANNED[what], line)


# --- pyproject -------------------------------------------------------------------------------------------------------


def test_the_registry_can_read_pyproject():
    """What `comfy node validate` and the registry ask for, but for what only the publisher knows."""
    meta, comfy = project()["project"], project()["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,99}", meta["name"]) and "comfyui" not in meta["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", meta["version"])
    assert (ROOT / meta["license"]["file"]).exists() and (ROOT / meta["readme"]).exists()
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])
    assert all(c.startswith(("Operating System ::", "Environment :: GPU ::")) for c in meta["classifiers"])
    assert meta["dynamic"] == ["dependencies"], "requirements.txt is the one list"


def test_the_page_s_extensions_carry_the_pack_s_name():
    """Two packs with one name: the second throws. comfy-test asks for the DisplayName, small and without spaces."""
    prefix = project()["tool"]["comfy"]["DisplayName"].replace(" ", "").lower() + "."
    texts = {f.name: f.read_text() for f in ROOT.glob("web/*.js")}
    names = {name: re.search(r'registerExtension\(\{\s*name: "([^"]*)"', text) for name, text in texts.items()}
    registered = [found[1] for found in names.values() if found]
    assert registered and all(name.startswith(prefix) for name in registered), names
    assert len(set(registered)) == len(registered), names
    # What registers nothing is there for the others. A file that others import is loaded once all the same.
    shared = {name for name in texts if any(f'from "./{name}"' in text for text in texts.values())}
    assert {name for name, found in names.items() if not found} <= shared


def test_the_changelog_knows_the_version():
    assert f"## [{project()['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_managers_can_install_the_requirements_one_by_one():
    """ComfyUI-Manager calls pip for each line, never for torch, and refuses to move some packages down."""
    lines = [line.strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    for line in filter(lambda text: text and not text.startswith("#"), lines):
        name = re.match(r"[A-Za-z0-9._-]+", line)
        # No cap, no address, no option; a marker is fine. SageAttention 1 on Linux is pure Python.
        assert name and re.fullmatch(r"[A-Za-z0-9._-]+(>=[\d.]+)?( *; *sys_platform == .linux.)?", line), line
        assert not re.match("torch|transformers|kornia|flash|triton|natten|opencv", name[0]), line
        # Without an index: what is installed already must do. The whole line, marker and all, as one argument.
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--quiet", line]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert not (ROOT / "install.py").exists()


def test_the_requirements_are_what_is_imported():
    """No more: each line costs every user an install. No less: but for what ComfyUI itself requires."""
    lines = (line.strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    asked = {re.match(r"[A-Za-z0-9._-]+", line)[0] for line in lines if line and not line.startswith("#")}
    trees = [ast.parse(path.read_text()) for path in shipped() if path.suffix == ".py"]
    anywhere = {root for one in trees for node in ast.walk(one) for root in roots(node)}
    always = {root for one in trees for node in one.body for root in roots(node)}
    assert asked <= anywhere, "asked for and never imported"
    hosts = {"torch", "numpy", "PIL", "folder_paths", "nodes", "server", "comfy", "comfy_api", "comfy_execution"}
    hosts |= {"comfy_extras", "comfyui_version", "latent_preview"}
    assert always - set(sys.stdlib_module_names) - hosts <= asked, "imported and never asked for"


def roots(node: ast.AST) -> set[str]:
    """The packages that an import statement names; none for those of the pack itself."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    return {node.module.split(".")[0]} if isinstance(node, ast.ImportFrom) and not node.level else set()


def test_the_art_fits_the_registry():
    with Image.open(ROOT / "art" / "icon.png") as icon, Image.open(ROOT / "art" / "banner.png") as banner:
        assert icon.width == icon.height <= 400
        assert banner.width * 9 == banner.height * 21


def test_publishing_names_its_secret_and_holds_none():
    text = (ROOT / ".github" / "workflows" / "publish.yml").read_text()
    # By commit: whoever could move a tag could read the secret.
    assert all(re.search(r"@[0-9a-f]{40} # v\d+$", used) for used in re.findall(r"uses: (.*)", text))
    assert "Comfy-Org/publish-node-action@" in text
    assert re.findall(r"personal_access_token: (.*)", text) == ["${{ secrets.REGISTRY_ACCESS_TOKEN }}"]


# --- in a ComfyUI ----------------------------------------------------------------------------------------------------

LOADER = """
import asyncio, json, sys
sys.argv = ["main.py", "--cpu", "--base-directory", sys.argv[1]]
import comfy.options
comfy.options.enable_args_parsing()
import nodes
loaded = asyncio.run(nodes.load_custom_node(sys.argv[-1] + "/custom_nodes/" + FOLDER, set(nodes.NODE_CLASS_MAPPINGS)))
ours = [name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("VideoAttention")]
import folder_paths
models = [name for name in folder_paths.get_filename_list("diffusion_models")]
print(json.dumps([loaded, ours, list(nodes.EXTENSION_WEB_DIRS.values()), models]))
"""


def test_it_loads_from_a_plain_folder_of_another_name(comfy_host, tmp_path):
    """As an archive is unpacked: the files that ship and no git, under a name that is no identifier."""
    folder = "my.pack v1.2-x"
    place = tmp_path / "custom_nodes" / folder
    for file in shipped():
        target = place / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    before = f"import sys; sys.path[:0] = [{str(ROOT / 'scripts')!r}]\nimport launch; launch.stand_in()\n"
    code = f"{before}FOLDER = {folder!r}{LOADER}"
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=comfy_host, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    loaded, ours, web, models = json.loads(done.stdout.strip().splitlines()[-1])
    assert loaded and len(ours) >= 20, done.stderr[-2000:]
    assert web == [str(place / "web")] and "video-attention-demo.safetensors" in models


def test_node_ids_meet_no_other(server, comfy_host):
    """ComfyUI lets the last of two packs with one id win in silence: ours carry a name that the host does not use."""
    with urllib.request.urlopen(f"{server[0]}/object_info", timeout=60) as answer:
        info = json.load(answer)
    ours = {name for name, node in info.items() if node["python_module"] == "custom_nodes.ComfyUI-VideoAttention"}
    assert len(ours) >= 20 and all(name.startswith("VideoAttention") for name in ours)
    sources = [comfy_host / "nodes.py", *(comfy_host / "comfy_extras").glob("*.py")]
    assert len(sources) > 50
    assert not [f.name for f in sources if re.search(r"[\"']VideoAttention\w*[\"']", f.read_text(encoding="utf-8"))]


def test_a_second_pack_loads_beside_it(server):
    """One in the old style, with its mappings: its nodes are there, ours too, and nothing failed to import."""
    with urllib.request.urlopen(f"{server[0]}/object_info/StandInText", timeout=60) as answer:
        assert json.load(answer)["StandInText"]["python_module"] == "custom_nodes.stand_in_pack"
    log = (server[1] / "server.log").read_text(errors="replace")
    failed = re.findall(r"\(IMPORT FAILED\): (.*)", log)
    assert not failed, failed
