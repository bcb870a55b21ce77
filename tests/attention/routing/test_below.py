"""An override below ours that raises: the render goes on with the host's own attention, counted with the reason."""

from __future__ import annotations

import pytest
import torch
from newer_host import HEADS, Container, attention_exact, newer

from attention.inspect.report import summarise
from attention.inspect.report_text import to_text
from attention.routing import fallback
from attention.routing.errors import UnsupportedAttention
from attention.routing.router import Router
from attention.routing.rules import Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

torch.set_num_threads(1)
HOST = newer(attention_exact)


class Raising:
    """Another pack's override that fails from its `after`-th call on, as a kernel without masks does."""

    __module__ = "/ComfyUI/custom_nodes/ComfyUI-KJNodes.nodes.model_optimization_nodes"

    def __init__(self, error, after=1):
        self.error, self.after, self.asked = error, after, 0

    def __call__(self, func, q, k, v, heads, **kw):
        self.asked += 1
        if self.asked >= self.after:
            raise self.error
        return func(q, k, v, heads, **kw)


def draw(*shape):
    return tuple(torch.randn(*(shape or (2, 7, HEADS * 8))) for _ in range(3))


def run(router, tensors, stats):
    return router(HOST, *tensors, HEADS, transformer_options={CONTEXT: stats.context})


def counted(stats):
    report = summarise(stats)
    return {(row.used, row.calls) for row in report.rows}, dict(report.fallbacks), to_text(report)


@pytest.mark.parametrize("error", [ValueError("no masks here"), torch.OutOfMemoryError("out of memory"), KeyError()])
@pytest.mark.parametrize("rule", [Rule("sdpa", role="cross"), Rule("sage", role="self")], ids=["uncovered", "fallback"])
def test_the_host_s_own_takes_over(error, rule):
    previous, stats = Raising(error), RunStats()
    router, tensors = Router((rule,), previous, HOST), draw()
    for _ in range(3):
        assert torch.equal(run(router, tensors, stats), HOST(*tensors, HEADS))
    rows, fallbacks, text = counted(stats)
    assert previous.asked == 1, "not again for this geometry in this run"
    assert rows == {("host default (exact)", 3)}
    ((role, who, reason),) = (key for key in fallbacks if key[1] == "ComfyUI-KJNodes")
    assert (role, fallbacks[role, who, reason]) == ("self", 3) and type(error).__name__ in reason
    assert f"3 calls, self-attention, ComfyUI-KJNodes: {type(error).__name__}" in text


def test_what_it_did_before_is_told():
    stats = RunStats()
    router, tensors = Router((Rule("sdpa", role="cross"),), Raising(ValueError("now"), after=3), HOST), draw()
    for _ in range(4):
        assert torch.equal(run(router, tensors, stats), HOST(*tensors, HEADS))
    rows, fallbacks, _ = counted(stats)
    assert rows == {("ComfyUI-KJNodes, then host default (exact)", 4)}
    assert fallbacks == {("self", "ComfyUI-KJNodes", "ValueError: now"): 2}


def test_each_run_asks_anew():
    previous, tensors = Raising(ValueError("no")), draw()
    router = Router((Rule("sdpa", role="cross"),), previous, HOST)
    for _ in range(2):
        run(router, tensors, RunStats())
    assert previous.asked == 2


@pytest.mark.parametrize("split_out", [False, True])
def test_with_containers(split_out):
    """Where they are whole still, the host's own takes them; nobody can repeat what was taken out and lost."""
    previous, stats, tensors = Raising(ValueError("no")), RunStats(), draw()
    router = Router((Rule("sdpa", role="cross"),), previous, HOST)
    previous.container_function = lambda q, *args, **kw: previous(None, q, *args, **kw)
    options = {"transformer_options": {CONTEXT: stats.context}, "skip_output_reshape": split_out}
    out = router.container_function(*map(Container, tensors), HEADS, **options)
    assert torch.equal(out, HOST(*tensors, HEADS, skip_output_reshape=split_out))

    def loses(q, *args, **kw):
        q.take()
        raise ValueError("lost")

    previous.container_function = loses
    with pytest.raises(ValueError, match="lost"):
        options["transformer_options"] = {CONTEXT: RunStats().context}
        router.container_function(*map(Container, tensors), HEADS, **options)


class Stopped(Exception):
    """As ComfyUI's InterruptProcessingException."""


@pytest.mark.parametrize("error", [Stopped(), UnsupportedAttention("asked for"), KeyboardInterrupt()])
def test_what_is_meant_to_end_a_render_does(error, monkeypatch):
    monkeypatch.setattr(fallback, "_PASSING", [*fallback._PASSING])
    fallback.let_through(Stopped)
    router = Router((Rule("sdpa", role="cross"),), Raising(error), HOST)
    with pytest.raises(type(error)):
        run(router, draw(), RunStats())


def test_without_a_rule_all_is_as_without_us():
    with pytest.raises(ValueError, match="no"):
        run(Router((), Raising(ValueError("no")), HOST), draw(), RunStats())
