"""Optional packages that raise whatever they like, wherever they are first touched: a refusal with the reason.

A package of another CUDA, driver or torch raises OSError (a DLL), RuntimeError (CUDA asked at its import),
AttributeError and more; each is played by an import that raises, by a module whose attributes raise, by questions about
the GPU that raise, and by a first call that does.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import types
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from open_limits import open_limits
from source import ROOT, name_of, shipped, tree
from stand_in_host import host

from attention import patterns, sparse
from attention.backends import flash, flex, kitchen, own_triton, registry, sage, sage3, spec, xformers
from attention.backends.triton import launch
from attention.core.error_handling import error_message, error_text
from attention.core.geometry import Geometry
from attention.core.site import SELF, SITE, AttentionSite
from attention.core.tokens import Tokens
from attention.inspect.report import summarise
from attention.inspect.report_text import to_text
from attention.routing import compiled_op
from attention.routing.errors import UnsupportedAttention
from attention.routing.router import Router
from attention.routing.rules import ERROR, Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT
from attention.sparse import engine_registry
from attention.sparse import flex as flex_engine
from attention.sparse import kitchen as kitchen_engines
from attention.sparse.engine import Task


class Speechless(Exception):
    def __str__(self):
        raise ValueError("no text")


class Wordless(RuntimeError):
    def __str__(self):
        return 3


KINDS = (ImportError, OSError, RuntimeError, AttributeError, AssertionError, SystemError, Speechless, Wordless)
PACKAGES = {
    "comfy_kitchen": [kitchen.load_int8],
    "sageattention": [sage.load],
    "sageattn3": [sage3.load],
    "flash_attn": [flash.load_2, flash.load_4],
    "flash_attn_interface": [flash.load_3],
    "xformers": [xformers.load],
    "triton": [own_triton.load],
    "torch.nn.attention.flex_attention": [flex.load],
}
# Where the functions are that a package is asked for.
INSIDE = {"flash_attn": ["flash_attn.cute"], "xformers": ["xformers.ops"]}
CALL = Geometry(1, 2, 2, 256, 256, 16, torch.float16, "cuda", capability=(9, 0))


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    """Nothing is remembered of the packages that are installed here, or afterwards of those that are not."""
    monkeypatch.setattr(registry, "_LOADED", {})
    monkeypatch.setattr(sage, "major_version", lambda: 1)
    caches = (kitchen_engines.load, flex_engine.compiled, launch.triton_version)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def raises_at_import(monkeypatch, package: str, error: Exception):
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == package:
                raise error

    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])


def raises_at_attributes(monkeypatch, package: str, error: Exception):
    class Module(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__") and name != "__version__":
                raise AttributeError(name)
            raise error

    for name in (package, *INSIDE.get(package, ())):
        module = Module(name)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)


WHERE = {"import": raises_at_import, "attribute": raises_at_attributes}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_that_raises_is_refused(monkeypatch, package, where, kind):
    WHERE[where](monkeypatch, package, kind("broken build"))
    word = error_message(kind("broken build"))
    loads = PACKAGES[package]
    rows = [row for row in registry.TABLE if getattr(row.load, "func", row.load) in loads]
    assert rows, "else this shows nothing"
    for row in rows:
        reason = registry.why_not(row.name, CALL)
        missing = where == "attribute" and kind is AttributeError  # what an older version says, too
        assert reason and (missing or word in reason), (row.name, reason)
    registry.load_all()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("where", [*WHERE, "asked whether it is available"])
def test_an_engine_s_package_that_raises_is_refused(monkeypatch, where, kind):
    error = kind("broken build")
    if where in WHERE:
        WHERE[where](monkeypatch, "comfy_kitchen", error)
    else:

        def asked():
            raise error

        names = ("na3d", "sol_attn", "int8_attention")
        found = dict.fromkeys(names, print) | {f"{name}_is_available": asked for name in names}
        monkeypatch.setitem(sys.modules, "comfy_kitchen", types.SimpleNamespace(**found))
    missing = where == "attribute" and kind is AttributeError
    assert missing or error_message(error) in registry.why_not("comfy-kitchen int8", CALL)
    raises_at_import(monkeypatch, "torch.nn.attention.flex_attention", error)
    x, stats = torch.randn(1, 256, 32), RunStats()
    for pattern in (patterns.Neighbourhood(1, 50.0, 50.0), patterns.TopBlocks(20.0)):
        task = Task(pattern, Tokens((4, 8, 8)).video_span(SELF, 256, 256))
        for row in sparse.TABLE[:2]:
            refusal = row.refuses(task, replace(CALL, head_dim=64))
            assert "alone" in refusal or missing or error_message(error) in refusal
        context = stats.context.but(tokens=Tokens((4, 8, 8)))
        rule = Rule("", SELF, shape=Shape(pattern), max_error=1.0)
        Router((rule,))(host, x, x, x, 2, transformer_options={CONTEXT: context, SITE: AttentionSite("LTXV", SELF, 0)})
    assert not summarise(stats).fallbacks, "the other engines run it"
    refusal = flex_engine.refuses(Task(patterns.Spatial(), Tokens((4, 8, 8)).video_span(SELF, 256, 256)), CALL)
    assert error_message(error) in refusal


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("where", ["a backend's refusal", "an engine's refusal", "the decision", "the version"])
@pytest.mark.parametrize("choice", ["measure", "table order"])
def test_whoever_is_asked_may_raise(monkeypatch, where, kind, choice):
    error = kind("broken library")

    def refuses(*asked, **how):
        raise error

    x, stats = torch.randn(1, 256, 32), RunStats()
    rule, wanted = Rule("test", choice=choice), "test"
    row = spec.Backend("test", "A test's.", open_limits(), lambda: 1 / 0, refuses)
    monkeypatch.setitem(registry._BY_NAME, "test", row)
    monkeypatch.setitem(registry._LOADED, "test", lambda q, k, v, mask=None, scale=None: q)
    if where == "an engine's refusal":
        monkeypatch.setattr(engine_registry, "TABLE", tuple(replace(row, refuses=refuses) for row in sparse.TABLE))
        rule, wanted = Rule("", SELF, shape=Shape(patterns.Spatial()), choice=choice), "spatial"
    if where == "the decision":
        monkeypatch.setattr("attention.routing.decide.describe", refuses)
    if where == "the version":
        monkeypatch.undo()
        monkeypatch.setattr(registry, "_LOADED", {})
        monkeypatch.setattr(metadata, "version", refuses)
        monkeypatch.setattr(sage, "version", refuses)
        sage.major_version.cache_clear()
        rule, wanted = Rule("sage", choice=choice), "sage"
    options = {CONTEXT: stats.context.but(tokens=Tokens((4, 8, 8))), SITE: AttentionSite("LTXV", SELF, 0)}
    out = Router((rule,))(host, x, x, x, 2, transformer_options=options)
    assert torch.equal(out, host(x, x, x, 2))
    report = summarise(stats)
    ((_, name, reason),) = report.fallbacks
    assert name == wanted and error_message(error) in reason and reason in to_text(report)
    with pytest.raises(UnsupportedAttention):
        Router((replace(rule, on_unsupported=ERROR),))(host, x, x, x, 2, transformer_options=options)


def test_auto_goes_on_without_who_cannot_be_asked(monkeypatch):
    def refuses(call):
        raise OSError("a DLL is missing")

    rows = tuple(replace(row, other_reasons=refuses) if row.name == "sage" else row for row in registry.TABLE)
    monkeypatch.setattr(registry, "TABLE", rows)
    monkeypatch.setattr(registry, "_BY_NAME", {row.name: row for row in rows})
    for row in rows:
        monkeypatch.setitem(registry._LOADED, row.name, lambda q, k, v, mask=None, scale=None: q)
    accepted, reasons = registry.candidates(replace(CALL, q_len=4096, kv_len=4096))
    assert "sage" not in accepted and "sdpa" in accepted
    assert reasons["sage"] == "it cannot be asked (a DLL is missing)"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_who_wants_to_stop_is_let_through(monkeypatch, error):
    raises_at_import(monkeypatch, "comfy_kitchen", error())
    with pytest.raises(error):
        registry.why_not("comfy-kitchen int8")


WITHOUT_COMPILER = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "triton":
            raise OSError("[WinError 126] The specified module could not be found.")
sys.meta_path.insert(0, Finder())
import torch
from attention.plans import bench
from attention.inspect import maps
from attention.plans import probe
from attention.backends import registry
from attention.routing.step_context import CONTEXT
from attention.core.reference import scaled_dot_product_attention as exact
from attention.routing.router import Router
from attention.routing.rules import Rule
from attention.routing.run_stats import RunStats
registry.load_all()
def host(q, k, v, heads, mask=None, skip_output_reshape=False, **kw):
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    out = exact(q, k, v)
    return out if skip_output_reshape else out.transpose(1, 2).flatten(2)
x = torch.randn(1, 20, 32)
for override in (Router((Rule("sdpa"),), None, host), Router().with_rule(Rule()), bench.Bench(), probe.Probe({}, {})):
    assert torch.allclose(override(host, x, x, x, 2), host(x, x, x, 2), atol=1e-5)
maps.Watcher(None)
for name in registry.names():
    print(registry.why_not(name))
print("no render ended")
"""


def test_a_triton_that_raises_costs_the_compiler_and_no_more():
    """In a process of its own: torch's compiler imports Triton, and a process imports it once."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_COMPILER], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("no render ended\n"), done.stderr[-2000:]
    assert done.stdout.count("WinError 126") >= 4


def test_only_opaque_asks_torch_for_its_compiler():
    """A decorator of torch.compiler would end the import of the whole pack where Triton raises."""
    allowed = name_of(Path(compiled_op.__file__).resolve())
    found = []
    for path in (path for path in shipped() if name_of(path) != allowed):
        for node in ast.walk(tree(path)):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if text.startswith("torch.compiler.") and text != "torch.compiler.is_compiling":
                found.append(f"{name_of(path)}:{node.lineno} {text}")
    assert not found


def test_words_for_what_has_none():
    assert error_text(Speechless()) == error_message(Speechless()) == "Speechless"
    assert error_text(ValueError("\n two \n lines")) == "ValueError: two" and error_text(KeyError()) == "KeyError"
    assert len(error_text(ValueError("x" * 10**6))) < 400
