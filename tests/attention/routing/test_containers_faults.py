"""A kernel that fails on q, k and v from the host's containers, before it has let go of them and after."""

from __future__ import annotations

import pytest
import torch
from container_calls import call, counted, decision_of, draw, make
from newer_host import HEADS, Recording, attention_exact

from attention.routing.errors import UnsupportedAttention
from attention.routing.guarded_run import evaluate
from attention.routing.rules import ERROR
from attention.routing.run_stats import RunStats

torch.set_num_threads(1)


class InterruptedRun(BaseException):
    """A stand-in for the host's InterruptProcessingException."""


@pytest.mark.parametrize("split", [False, True])
def test_an_error_while_all_is_there_falls_back(install, split):
    library, router, stats = install("first"), make(), counted()
    for turn in range(5):
        tensors = draw(split)
        out, _ = call(router, tensors, stats, skip_reshape=split)
        assert torch.equal(out, attention_exact(*tensors, HEADS, skip_reshape=split))
        decision = decision_of(stats)
        assert (decision.calls, decision.fell_back, decision.used) == (turn + 1, 0, "test")
        assert decision.chunked == max(0, turn - 1)
    assert decision.cut == "OutOfMemoryError: no memory for the quantised copies"
    # Once more, in one stage, where memory was missing; the second time one head at a time, as from then on.
    assert library.stages == ["whole", "first", "whole", "first", *["whole"] * 3 * HEADS]


def test_the_override_before_gets_what_failed(install):
    library = install("whole")
    other, tensors = Recording("container_function"), draw()
    assert torch.equal(call(make(other), tensors)[0], tensors[0])
    assert [(func is not None, closed) for func, closed, _ in other.seen] == [(True, False)]
    assert library.stages == ["whole", "whole", "whole"], "as it was, again, and one head"


@pytest.mark.parametrize("fails", ["second", "shape"])
def test_an_evaluation_is_made_again_when_its_inputs_are_lost(install, fails):
    """Two calls of an evaluation; from the second call on the kernel lets go, and fails."""
    library, router, stats = install(fails), make(), RunStats()
    made, given = [], [draw() for _ in range(8)]

    def model(x):
        made.append(len(library.stages))
        for tensors in given[2 * x : 2 * x + 2]:
            torch.testing.assert_close(call(router, tensors, stats)[0], attention_exact(*tensors, HEADS))
        return x

    assert [evaluate(stats, lambda x=x: model(x)) for x in range(4)] == [0, 1, 2, 3]
    assert library.stages == ["whole", "first", "second"], "given up"
    assert len(made) == 5 and stats.history.may_consume is False
    error = {"second": "OutOfMemoryError: no memory for the output", "shape": "ValueError: output shape"}[fails]
    assert decision_of(stats).reason.startswith(error)
    (note,) = stats.notes
    assert note.startswith("An evaluation of the model was made again: InputsLost: ") and error in note


def test_nothing_is_let_go_of_where_nobody_makes_an_evaluation_again(install):
    library, router, stats = install("second"), make(), RunStats()
    for _ in range(4):
        tensors = draw()
        torch.testing.assert_close(call(router, tensors, stats)[0], attention_exact(*tensors, HEADS))
    assert library.stages == ["whole"] * 4 and decision_of(stats).fell_back == 0


@pytest.mark.parametrize("stop", [KeyboardInterrupt, InterruptedRun])
def test_an_interrupt_ends_the_evaluation(stop):
    stats, made = RunStats(), []

    def model():
        made.append(stats.history.may_consume)
        raise stop

    for _ in range(2):
        with pytest.raises(stop):
            evaluate(stats, model)
    assert made == [True, True] and stats.history.may_consume is None


@pytest.mark.parametrize("fails", ["whole", "second", "shape"])
def test_an_error_when_asked_for_one(install, fails):
    install(fails)
    router, stats = make(on_unsupported=ERROR), counted()

    def calls():
        for _ in range(2):
            call(router, draw(), stats)

    with pytest.raises(UnsupportedAttention, match="'test' cannot run the self-attention"):
        calls()


def test_no_error_where_a_kernel_runs_in_chunks(install):
    install("first")
    router, stats = make(on_unsupported=ERROR), counted()
    for _ in range(4):
        tensors = draw()
        assert torch.equal(call(router, tensors, stats)[0], attention_exact(*tensors, HEADS))
    assert decision_of(stats).chunked == 2
