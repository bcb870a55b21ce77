"""What ComfyUI's estimate of memory is told of our rules' attention.

The host is a stand-in after tests-unit/comfy_test/memory_required_test.py@7c8d7bfa in Comfy-Org/ComfyUI: model_options
may hold a flag, set_model_optimized_attention sets it, and without it the flag of the host's own attention counts.
"""

from __future__ import annotations

import pytest

from attention import patterns
from attention.backends.registry import TABLE
from attention.routing.memory import is_efficient
from attention.routing.rules import Rule, Shape

KEY = "optimized_attention_memory_efficient"
HOLDS = {"reference", "sdpa math"}
ALL = Rule("flex")
CASES = {
    "nothing": ((), None),
    "all calls": ((ALL,), True),
    "self-attention": ((Rule("flex", role="self"),), True),
    "cross-attention": ((Rule("flex", role="cross"),), None),
    "some blocks": ((Rule("flex", blocks=((0, 3),)),), None),
    "some steps": ((Rule("flex", start=0.2),), None),
    "spared steps": ((Rule("flex", spared=(1, 0)),), None),
    "auto": ((Rule("auto"),), None),
    "the host's": ((ALL, Rule("host default")), None),
    "torch's": ((Rule("sdpa"),), None),
    "another for some blocks": ((ALL, Rule("sage", blocks=((0, 3),))), True),
    "the host's for some steps": ((ALL, Rule("host default", start=0.5)), None),
    "a matrix in all calls": ((Rule("reference"),), False),
    "a matrix in chunks": ((Rule("reference", memory=512),), True),
    "torch's in chunks": ((Rule("sdpa", memory=512),), None),
    "the host's, or a matrix in chunks": ((Rule("auto"), Rule("sdpa math", memory=512, blocks=((0, 0),))), None),
    "a matrix in some blocks": ((ALL, Rule("sdpa math", blocks=((0, 0),))), False),
    "a matrix that no call makes": ((Rule("reference", end=0.5), ALL), True),
    "a matrix, then the host's in some": ((Rule("reference"), Rule("host default", start=0.5)), False),
    "a pattern alone": ((Rule(shape=Shape(patterns.Spatial())),), None),
    "a pattern over it": ((ALL, Rule(shape=Shape(patterns.Spatial()))), True),
}


@pytest.mark.parametrize("rules, told", CASES.values(), ids=CASES)
def test_what_rules_mean(rules, told):
    assert is_efficient(rules, lambda name: None) is told


@pytest.mark.parametrize("backend", [row.name for row in TABLE])
def test_every_backend(backend):
    told = is_efficient((Rule(backend),), lambda name: None)
    assert told is (None if backend == "sdpa" else backend not in HOLDS)
    assert is_efficient((Rule(backend),), lambda name: "needs cuda") is None


@pytest.fixture
def newer(monkeypatch, comfy_host):
    import comfy.ldm.modules.attention as host

    monkeypatch.setattr(host, KEY, False, raising=False)


def test_it_is_told_and_taken_back(lab, newer):
    made = lab.backend(backend="flex")
    assert made.model_options[KEY] is True and KEY not in lab.model.model_options
    # A second node may leave it to the host again, or know better.
    assert KEY not in lab.backend(made, "host default").model_options
    assert lab.backend(made, "reference", blocks="0").model_options[KEY] is False
    assert lab.clear(made).model_options == lab.model.model_options


def test_a_kernel_that_cannot_run_is_not_promised(lab, newer):
    assert KEY not in lab.backend(backend="sage").model_options


@pytest.mark.parametrize("before", [False, True])
def test_what_another_node_said_comes_back(lab, newer, before):
    model = lab.model.clone()
    model.model_options[KEY] = before
    assert lab.backend(model, role="cross").model_options[KEY] is before
    made = lab.backend(model, "flex")
    assert made.model_options[KEY] is True and lab.clear(made).model_options[KEY] is before


def test_a_host_without_it_hears_nothing(lab):
    assert lab.backend(backend="flex").model_options.keys() == lab.model.model_options.keys()
