"""A ComfyUI that is too old gets one sentence instead of a traceback about a missing name."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
import types

import host
import pytest

VERSIONS = (
    ("0.20.1", True),
    ("0.20.2", True),
    ("0.30.0", True),
    ("1.0", True),
    ("0.20.0", False),
    ("0.3.64", False),
    ("0.3", False),
    ("", True),  # unknown: not for us to refuse
    ("v0.19.5-nightly", False),
)


@pytest.fixture(scope="module")
def bare():
    """The pack's own __init__.py, imported without a package around it."""
    return types.SimpleNamespace(**runpy.run_path(str(host.ROOT / "__init__.py")))


@pytest.mark.parametrize(("version", "fine"), VERSIONS)
def test_versions(bare, version, fine):
    said = bare.too_old(version)
    assert (said is None) is fine
    assert fine or said == f"ComfyUI-VideoAttention needs ComfyUI 0.20.1 or later, this is {version}. Update ComfyUI."


def test_the_store_is_told_the_same(bare):
    text = (host.ROOT / "pyproject.toml").read_text()
    assert re.search(r'requires-comfyui = ">=(.*)"', text)[1] == ".".join(map(str, bare.FLOOR))


def test_the_pack_does_not_load_on_an_old_comfyui(monkeypatch):
    old = types.ModuleType("comfyui_version")
    old.__version__ = "0.3.64"
    monkeypatch.setitem(sys.modules, "comfyui_version", old)
    folders = [str(host.ROOT)]
    spec = importlib.util.spec_from_file_location(
        "pack_on_an_old_host", host.ROOT / "__init__.py", submodule_search_locations=folders
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pack_on_an_old_host", module)
    with pytest.raises(ImportError, match="^ComfyUI-VideoAttention needs ComfyUI .* this is 0.3.64. Update ComfyUI.$"):
        spec.loader.exec_module(module)
