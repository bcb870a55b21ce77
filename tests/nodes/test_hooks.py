"""What is done to a module for one run, and how it is undone beside other packs."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def hooks(pack):
    return pack.nodes.host.hooks


class Net(torch.nn.Module):
    def table(self):
        return "its own"


def test_a_method_is_the_class_s_again(hooks):
    net = Net()
    handle = hooks.replace_method(net, "table", lambda: "ours")
    assert net.table() == "ours" and Net().table() == "its own"
    handle.remove()
    assert net.table() == "its own" and "table" not in vars(net)


def test_what_another_pack_had_put_there_comes_back(hooks):
    net, others = Net(), lambda: "another pack's"
    net.table = others
    handle = hooks.replace_method(net, "table", lambda: "ours")
    assert net.table() == "ours"
    handle.remove()
    assert net.table is others


def test_what_another_pack_puts_over_ours_stays(hooks):
    net, others = Net(), lambda: "another pack's"
    handle = hooks.replace_method(net, "table", lambda: "ours")
    net.table = others
    handle.remove()
    assert net.table is others


def test_undone_once(hooks):
    undone = []
    handle = hooks.Handle(lambda: undone.append(1))
    handle.remove()
    handle.remove()
    assert undone == [1]


@pytest.mark.parametrize(
    ("position", "args", "kwargs", "found"),
    [
        (1, ("x", {"a": 1}), {}, {"a": 1}),
        (1, ("x",), {"transformer_options": {"b": 2}}, {"b": 2}),
        (1, ("x",), {"transformer_options": None}, None),
        (1, ("x",), {}, None),
        (None, ("x", "y"), {}, None),
        (None, ("x",), {"transformer_options": {}}, {}),
    ],
    ids=["in their place", "by name", "by name, none", "left out", "unknown to the function", "by name, empty"],
)
def test_options_are_found_however_they_are_given(pack, position, args, kwargs, found):
    assert pack.nodes.host.site_tags.options_of(position, args, kwargs) == found
