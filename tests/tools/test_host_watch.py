"""The list of what the pack uses of ComfyUI: made-up packs and hosts, and this pack beside the pinned host."""

from __future__ import annotations

import ast
from pathlib import Path

import host_watch
import pytest
from host_folder import find_host
from host_watch import Source, rows, state

PACK = """
import comfy.samplers
from comfy.patcher_extension import WrappersMP as Wrappers
from comfy.ldm.modules import attention as host
from comfy.late import thing
from . import ours

def patch(patcher, options):
    patcher.add_wrapper_with_key(Wrappers.OUTER_SAMPLE, "ours", None)
    options.get("sample_sigmas"), options["vattn.ours"], options["gone_key"], ours.anything
    return comfy.samplers.KSampler.SCHEDULERS, host.optimized_attention, comfy.samplers.calc, patcher.patches
"""
BEFORE = {
    "comfy/samplers.py": "class KSampler:\n    SCHEDULERS = []\ndef calc(model, conds): ...\nclass CFGGuider: ...\n",
    "comfy/patcher_extension.py": 'class WrappersMP:\n    OUTER_SAMPLE = "outer"\n',
    "comfy/ldm/modules/attention.py": "if True:\n    def optimized_attention(q, k, *, mask=None): ...\n",
    "comfy/late.py": "try:\n    from torch import thing\nexcept ImportError:\n    thing = None\n",
    "comfy/model_patcher.py": (
        "class Base:\n    def add_wrapper_with_key(self, kind, key, wrapper): ...\n"
        "class ModelPatcher(Base):\n    def __init__(self):\n        self.patches = {}\n    def unused(self): ...\n"
    ),
    "comfy/options.py": 'KEYS = ["sample_sigmas", "gone_key"]\n',
}


def tree(root, files) -> Source:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Source(root)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """(files of a later host, None: away) -> name -> (state, what it is there)."""
    monkeypatch.setattr(host_watch, "family_rows", lambda old, new: ())
    pack = tmp_path / "pack"
    tree(pack, {"nodes/patch.py": PACK, "__init__.py": ""})

    def look(changes):
        after = {name: text for name, text in (BEFORE | changes).items() if text is not None}
        before, now = tree(tmp_path / "before", BEFORE), tree(tmp_path / "now", after)
        found = {name: (state(was, is_), is_) for _, name, was, is_, _ in rows(pack, now, before)}
        assert all("ours" not in name for name in found)
        return found

    return look


def test_a_host_that_did_not_change_has_everything(watched):
    found = watched({})
    assert {what for what, _ in found.values()} == {"same"}
    assert found["comfy.samplers.calc"][1] == "(model, conds)"
    assert found["comfy.ldm.modules.attention.optimized_attention"][1] == "(q, k, *, mask=None)"
    assert {"comfy.patcher_extension.WrappersMP.OUTER_SAMPLE", "comfy.samplers.KSampler.SCHEDULERS", "comfy.late.thing",
            "comfy.model_patcher.ModelPatcher.patches", "sample_sigmas", "gone_key"} <= found.keys()  # fmt: skip
    assert "comfy.model_patcher.ModelPatcher.unused" not in found


@pytest.mark.parametrize(
    "file, old, new, name, expected",
    [
        ("comfy/samplers.py", "calc(model, conds)", "calc(model, conds, x)", "comfy.samplers.calc", "changed"),
        ("comfy/samplers.py", "def calc", "def calculate", "comfy.samplers.calc", "GONE"),
        ("comfy/samplers.py", "SCHEDULERS = []", "pass", "comfy.samplers.KSampler.SCHEDULERS", "GONE"),
        ("comfy/patcher_extension.py", "OUTER_SAMPLE", "OUTER", "comfy.patcher_extension.WrappersMP.OUTER_SAMPLE",
         "GONE"),
        ("comfy/ldm/modules/attention.py", "mask=None", "mask", "comfy.ldm.modules.attention.optimized_attention",
         "changed"),
        ("comfy/model_patcher.py", "self.patches", "self.weights", "comfy.model_patcher.ModelPatcher.patches", "GONE"),
        ("comfy/options.py", "gone_key", "other_key", "gone_key", "GONE"),
    ],
)  # fmt: skip
def test_what_a_later_host_changed_is_told(watched, file, old, new, name, expected):
    assert old in BEFORE[file]
    found = watched({file: BEFORE[file].replace(old, new)})
    assert found[name][0] == expected
    assert {other for other, (what, _) in found.items() if what != "same"} == {name}


def test_a_file_that_is_away_takes_its_names_along(watched):
    assert watched({"comfy/late.py": None})["comfy.late.thing"] == ("GONE", None)


def guarded(files: list[Path]) -> set[str]:
    """Dotted names that are imported under `try`: hosts without them are provided for."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Try):
                found |= {".".join(whole) for whole in host_watch.imported(ast.Module(node.body, [])).values()}
    return found


def test_the_pinned_host_has_what_this_pack_uses():
    found = {name: now for _, name, _, now, _ in rows(host_watch.host.ROOT, Source(find_host()), None)}
    known = {
        "comfy.ldm.modules.attention.optimized_attention", "comfy.patcher_extension.WrappersMP.OUTER_SAMPLE",
        "comfy.model_patcher.ModelPatcher.add_wrapper_with_key", "class WanModel", "class LTXAVModel", "sample_sigmas",
    }  # fmt: skip
    assert known <= found.keys() and all(found[name] for name in known)
    missing = {name for name, now in found.items() if now is None and "." in name}
    assert missing <= guarded(sorted((host_watch.host.ROOT / "nodes").rglob("*.py")))
