"""Whose an attention function is: the folder of a pack, or ComfyUI's node, by what ComfyUI calls their modules."""

from __future__ import annotations

import functools

import pytest

from attention.core.function_owner import chained, owner_of, set_by_host
from attention.routing.router import Router
from attention.routing.rules import Rule


def make(module: str, previous=None):
    """An override as packs write them: a function in a function."""

    def attention_override(func, *args, **kwargs):
        return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)

    attention_override.__module__ = module
    return attention_override


class Callable:
    """An override that is an object."""

    def __init__(self, previous=None):
        self.previous = previous

    def __call__(self, func, *args, **kwargs):
        return func(*args, **kwargs)

    def method(self, func, *args, **kwargs):
        return func(*args, **kwargs)


MODULES = (
    ("/home/u/ComfyUI/custom_nodes/ComfyUI-KJNodes.nodes.model_optimization_nodes", "ComfyUI-KJNodes"),
    ("C:\\ComfyUI_windows\\custom_nodes\\ComfyUI-bleh.py.nodes.sageAttention", "ComfyUI-bleh"),
    ("/home/u/ComfyUI_x_2/custom_nodes/pack_x_v2.nodes", "pack.v2"),
    ("/custom_nodes/ComfyUI/custom_nodes/one_file", "one_file"),
    ("custom_nodes.comfyui-kjnodes.nodes", "comfyui-kjnodes"),
    ("/data/more/SolAttn_triton.patch", "SolAttn_triton"),
    ("/home/u/ComfyUI/comfy_extras/nodes_sparse_attention", "ComfyUI's Model Sparse Attention"),
    ("comfy_extras.nodes_sparse_attention", "ComfyUI's Model Sparse Attention"),
    ("comfy_extras.nodes_unheard_of", "ComfyUI's nodes_unheard_of"),
)


@pytest.mark.parametrize(("module", "name"), MODULES)
def test_a_module_tells_the_pack(module, name):
    assert owner_of(make(module)) == owner_of(functools.partial(make(module), 1)) == name
    assert owner_of(functools.partial(functools.partial(make(module)), previous=make("elsewhere"))) == name


def test_an_object_and_its_method_are_told_by_their_class(monkeypatch):
    monkeypatch.setattr(Callable, "__module__", MODULES[0][0])
    assert owner_of(Callable()) == "ComfyUI-KJNodes"


def test_functools_wraps_gives_the_module_of_what_it_wraps():
    """A pack's function dressed as the host's: only its file tells."""
    source = "def dressed(func, *a): return func(*a)"
    space: dict = {}
    exec(compile(source, "/u/custom_nodes/some-pack/attn.py", "exec"), space)
    dressed = functools.wraps(make("comfy.ldm.modules.attention"))(space["dressed"])
    assert owner_of(dressed) == "some-pack"


def host_sets(attention):
    """As ModelPatcher.set_model_optimized_attention of ComfyUI 0.32 does."""

    def optimized_attention_override(_, *args, **kwargs):
        return attention(*args, **kwargs)

    optimized_attention_override.__module__ = "comfy.model_patcher"
    optimized_attention_override.__qualname__ = (
        "ModelPatcher.set_model_optimized_attention.<locals>.optimized_attention_override"
    )
    return optimized_attention_override


def test_what_the_host_s_own_method_sets():
    """A pack that calls it brings its own function: then it is the pack's."""
    own = host_sets(make("comfy.ldm.modules.attention"))
    assert owner_of(own) == "ComfyUI's Model Attention Backend" and set_by_host(own)
    assert owner_of(host_sets(make("/u/custom_nodes/H3-loader.attn"))) == "H3-loader"
    assert not set_by_host(make("comfy.model_patcher"))


def test_without_a_pack_it_is_called_by_its_name():
    assert owner_of(make("somewhere")) == "other override (make.<locals>.attention_override)"
    assert owner_of(Callable()) == "other override (Callable)"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda router: make("x", router),
        lambda router: make("x", make("y", router)),
        lambda router: functools.partial(make("x"), router),
        lambda router: functools.partial(make("x"), previous=router),
        lambda router: Callable(router),
        lambda router: Callable(make("x", router)).method,
        lambda router: functools.partial(Callable(router).method, 1),
        lambda router: lambda *args, previous=router: previous(*args),
    ],
)
def test_who_holds_a_router_can_pass_on_to_it(wrap):
    router = Router((Rule("sdpa"),))
    assert chained(wrap(router), lambda held: held is router)
    assert not chained(wrap(make("another pack's")), lambda held: held is router)
