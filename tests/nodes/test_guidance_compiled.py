"""Guidance under torch.compile: the extra pass and the longer prompt are found where the graph runs."""

from __future__ import annotations

import torch
from compiling import broken_at, graphs
from guiding import PLAIN, error, guided
from tiny.case import sample


def test_guided_and_then_compiled(lab, pack, compiled):  # noqa: F811
    model = lab.model
    for kind in ("enhance", "nag", "stg"):
        model = guided(pack, kind, model, scale=2.0, blocks="1") if kind == "stg" else guided(pack, kind, model)
    truth, plain = lab.sample(model, cfg=3.0), lab.sample(cfg=3.0)
    patched = compiled(model)
    for _ in range(2):
        out = lab.sample(patched, cfg=3.0)
    assert lab.error(out, truth) <= 1e-4 < 1e-3 < lab.error(plain, truth)
    told = lab.report(out).notes
    assert len(told) == 2 and all(" more." in note for note in told)
    assert graphs() <= 2 and not broken_at()


def test_bypassed_after_the_compiler_saw_it(lab, pack, compiled):  # noqa: F811
    """A graph made with guidance serves the model without it."""
    plain = lab.sample()
    on = guided(pack, "nag", guided(pack, "stg", lab.model, scale=2.0, blocks="1"))
    lab.sample(compiled(on))
    cleared = lab.clear(on)
    assert lab.error(lab.sample(compiled(cleared)), plain) <= 1e-4
    assert not torch.equal(lab.sample(on), plain)


def test_positions_in_a_graph(pack, compiled, inference):  # noqa: F811
    case, model = PLAIN["Wan"], PLAIN["Wan"].build()
    plain, truth = sample(model, case), sample(guided(pack, "riflex", model), case)
    long = sample(compiled(guided(pack, "riflex", model)), case)
    short = sample(compiled(guided(pack, "riflex", model, trained_frames=9)), case)
    assert error(long, truth) <= 1e-5 and error(short, plain) <= 1e-5 and error(long, plain) > 3e-5
