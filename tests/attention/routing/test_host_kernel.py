"""What is said of the kernels that a model's file names."""

from __future__ import annotations

from types import SimpleNamespace

from attention.routing.host_kernel import name_of, sentence


def kernel(q, k, v, heads):
    pass


RUNS = SimpleNamespace(function=kernel)


def lost(name, listed):
    config = {"attention": name}
    return SimpleNamespace(function=None, config=[config] if listed else config)


def test_one_module_and_several():
    assert sentence([RUNS]) == (
        f"The model's file names a kernel: {name_of(kernel)} for 1 attention module. Calls without a rule run it."
    )
    assert f"{name_of(kernel)} for 2 attention modules." in sentence([RUNS] * 2)


def test_what_cannot_run_here():
    said = sentence([RUNS, lost("a", True), lost("a", False), lost("b", True)])
    assert f"{name_of(kernel)} for 1 attention module, a for 2 that cannot run here, b for 1 that cannot run" in said


def test_nothing_named():
    assert sentence([]) == sentence([SimpleNamespace(function=None)]) == ""
