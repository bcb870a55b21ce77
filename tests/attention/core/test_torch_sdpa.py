"""Another pack that exchanges torch's scaled_dot_product_attention for the whole process reaches nothing of ours.

The stand-in does what such a swap was read to do (one kernel without masks for every caller): it drops the mask, takes
no enable_gqa, and is off by far.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest
import torch
import truth
import video_calls
from source import name_of, shipped, sources, tree
from stand_in_host import ON_CPU

from attention.backends import registry
from attention.core import torch_sdpa
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.site import SELF, AttentionSite
from attention.core.tokens import BOTH, Span, VideoSpan
from attention.demo import transformer
from attention.guidance.perturb import Perturbation
from attention.patterns.blocks import mask as mask_of_blocks
from attention.patterns.spec import parts_of, relation_of
from attention.routing.router import Router
from attention.routing.rules import Rule
from attention.sparse import engine_registry

NAME = "scaled_dot_product_attention"
OWN = torch._C._nn.scaled_dot_product_attention


@pytest.fixture
def swapped(monkeypatch):
    def another(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
        return OWN(q * 0.5, k, v) * 1.2

    monkeypatch.setattr(torch.nn.functional, NAME, another)


def test_torch_s_own_whoever_came_first(swapped):
    assert torch_sdpa.sdpa is OWN and getattr(torch.nn.functional, NAME) is not OWN
    spec = importlib.util.spec_from_file_location("imported_later", torch_sdpa.__file__)
    later = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(later)
    assert later.sdpa is OWN


def test_nothing_calls_what_can_be_exchanged():
    """As an attribute of torch.nn.functional, or imported from there."""
    found = []
    for path in (*shipped(), *sources("benchmarks")):
        for node in ast.walk(tree(path)):
            named = isinstance(node, ast.Attribute) and node.attr == NAME and ast.unparse(node.value) != "torch._C._nn"
            there = isinstance(node, ast.ImportFrom) and (node.module or "").endswith("nn.functional")
            if named or (there and NAME in {alias.name for alias in node.names}):
                found.append(f"{name_of(path)}:{node.lineno}")
    assert not found
    assert name_of(Path(torch_sdpa.__file__).resolve()) in {name_of(path) for path in shipped()}


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("kind", ["none", "bool", "bias"])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_every_exact_backend_stays_exact(swapped, name, kind, kv_heads):
    torch.manual_seed(len(name) + kv_heads)
    q, k, v = (torch.randn(2, heads, 37, 24) for heads in (4, kv_heads, kv_heads))
    mask = {"none": None, "bool": torch.rand(2, 1, 37, 37) < 0.7, "bias": torch.randn(1, 4, 37, 37)}[kind]
    if kind == "bool":
        mask[..., 0] = True
    expected = truth.attention(q, k, v, mask)
    if registry.why_not(name, describe(q, k, v, mask)) is not None:
        assert name == "sdpa flash" and kv_heads == 1
        return
    assert truth.excess(registry.attend(q, k, v, mask, backend=name), expected) < 1

    def host(q, k, v, heads, **kw):
        raise AssertionError("nothing falls back")

    out = Router((Rule(backend=name),))(host, q, k, v, 4, mask, None, True, True)
    assert truth.excess(out, expected) < 1


# Each with one mask for all of a model's blocks.
PATTERNS = tuple(pattern for pattern in video_calls.PATTERNS if parts_of(pattern) == ((1.0, pattern),))


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
@pytest.mark.parametrize(("text", "kv_heads"), [(0, 2), (7, 2), (7, 4)])
def test_every_exact_engine_stays_exact(swapped, pattern, text, kv_heads):
    torch.manual_seed(text + kv_heads)
    grid, heads = (5, 9, 8), 4
    video_span = VideoSpan(grid, text, BOTH, (Span("text", text),) if text else ())
    q, k, v = (torch.randn(1, n, text + 360, 16) for n in (heads, kv_heads, kv_heads))
    seen = torch.ones(1, heads, text + 360, text + 360, dtype=torch.bool)
    relation, index = relation_of(pattern, grid), torch.arange(360)
    if relation is None:
        wide = k.repeat_interleave(heads // kv_heads, dim=1)
        seen[..., text:, text:] = mask_of_blocks(pattern, q[:, :, text:], wide[:, :, text:], grid)
    else:
        seen[..., text:, text:] = relation.mask_mod(0, 0, index[:, None], index[None, :])
    expected = truth.attention(q, k, v, seen)
    found = engine_registry.runners(pattern, video_span, describe(q, k, v))
    assert not isinstance(found, Reason) and found
    for runner in found:
        assert truth.excess(runner(q, k, v), expected) < 1, runner.label


def test_guidance_attends_beside_the_video_as_ever(swapped):
    q, k, v = (torch.randn(1, 2, 20, 8) for _ in range(3))
    mask = torch.rand(1, 1, 20, 20) < 0.6
    mask[..., 0] = True
    video_span = VideoSpan((2, 2, 4), 4, BOTH, (Span("text", 4),))
    out = Perturbation("test").kernel(AttentionSite("LTXV", SELF, 0), video_span, describe(q, k, v, mask))(
        q, k, v, mask
    )
    torch.testing.assert_close(out[:, :, :4], truth.attention(q, k, v, mask).out[:, :, :4].float())
    assert torch.equal(out[:, :, 4:], v[:, :, 4:])


def test_the_blocks_attend_as_ever(monkeypatch):
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 3, 12, 8) for _ in range(3))
    before = transformer.attend(q, k, v, (1, 3, 4))
    monkeypatch.setattr(torch.nn.functional, NAME, lambda *a, **k: 1 / 0)
    assert torch.equal(transformer.attend(q, k, v, (1, 3, 4)), before)
