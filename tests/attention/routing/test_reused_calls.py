"""Calls of a router with a rule of reuse: what they are given, in containers too, and what they are refused for."""

from __future__ import annotations

import pytest
import torch
from newer_host import HEADS, SLOT, Container, attention_exact, newer

from attention.core.site import CALLER, SELF, SITE, AttentionSite, Caller
from attention.reuse import ReuseSettings
from attention.reuse.run import ReuseRun
from attention.routing.errors import UnsupportedAttention
from attention.routing.router import Router
from attention.routing.rules import ERROR, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

SITE_0 = AttentionSite("Test", SELF, 0, heads=HEADS)
REUSE = Rule("", SELF, reuse=ReuseSettings())
LEVELS = [(1.0, 0), (0.5, 1), (0.2, 2)]
TOLD = newer(attention_exact)


def draw(split=False, heads=HEADS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, heads, 8, 16) if split else (2, 8, heads * 16)
    return [torch.randn(shape, generator=generator) for _ in range(3)]


class Lab:
    """A run with a Router of some rules.

    calls: how often attention was computed.
    """

    def __init__(self, *rules, refused="", site=SITE_0):
        self.router, self.stats, self.site = Router(rules, None, TOLD), RunStats(), site
        self.stats.rules = rules
        self.stats.reuse = ReuseRun(LEVELS, refused=refused)
        self.about, self.calls = self.stats.reuse.about("prompt"), 0

    def step(self, sigma):
        self.stats.reuse.begin(sigma, set(self.router.rules))
        self.caller = Caller(fresh=True)
        self.caller.about = self.about
        return self

    def __call__(self, tensors, closed=False, heads=HEADS, **kw):
        options = {SLOT: self.router, CONTEXT: self.stats.context, CALLER: self.caller}
        options |= {} if self.site is None else {SITE: self.site}

        def host(q, k, v, heads, mask=None, skip_output_reshape=False, **more):
            self.calls += 1
            return attention_exact(q, k, v, heads, mask=mask, skip_output_reshape=skip_output_reshape, **more)

        kw = {**kw, "transformer_options": options, "_inside_attn_wrapper": True}
        if not closed:
            return self.router(host, *tensors, heads, **kw)
        self.containers = [Container(t) for t in tensors]
        return self.router.container_function(*self.containers, heads, **kw)

    @property
    def given(self):
        return {key[-1]: decision for key, decision in self.stats.decisions.items()}.get("kept output")


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("split_out", [False, True])
def test_the_second_step_is_given_the_first_ones_output(closed, split_out):
    lab = Lab(REUSE)
    first = lab.step(1.0)(draw(), closed, skip_output_reshape=split_out)
    copy = first.clone()
    first.zero_()  # models write into what they get
    second = lab.step(0.5)(draw(seed=1), closed, skip_output_reshape=split_out)
    assert torch.equal(second, copy) and second.shape == ((2, HEADS, 8, 16) if split_out else (2, 8, HEADS * 16))
    if closed:
        # Nobody else frees them.
        for container in lab.containers:
            with pytest.raises(RuntimeError):
                container.peek()
    second.zero_()
    third = lab.step(0.2)(draw(seed=2), closed, skip_output_reshape=split_out)
    assert not torch.equal(third, copy) and lab.given.calls == 1


def test_what_is_asked_for_otherwise_attends():
    calls = [
        lambda lab: lab(draw(seed=1), skip_output_reshape=True),
        lambda lab: lab([t[:, :6] for t in draw(seed=1)]),
        lambda lab: lab(draw(seed=1), mask=torch.ones(8, 8, dtype=torch.bool)),
        lambda lab: lab([t.double() for t in draw(seed=1)]),
        lambda lab: lab(draw(seed=1), scale=0.1),
    ]
    for call in calls:
        lab = Lab(REUSE)
        lab.step(1.0)(draw())
        lab.step(0.5)
        call(lab)
        assert lab.calls == 2 and not lab.given.calls


def test_parts_of_a_modules_heads_are_apart():
    lab = Lab(REUSE)
    tensors = draw(split=True)
    parts = [[t[:, head : head + 1] for t in tensors] for head in range(HEADS)]
    how = {"heads": 1, "skip_reshape": True}
    lab.step(1.0)
    first = [lab(part, **how) for part in parts]
    lab.step(0.5)
    assert all(torch.equal(lab(part, **how), out) for part, out in zip(parts, first, strict=True))
    assert lab.calls == HEADS and not torch.equal(*first[:2])
    # Counted as one call of the module, given one.
    counted = {key[-1]: decision.calls for key, decision in lab.stats.counted()}
    assert counted["kept output"] == 1


def test_the_kernel_of_a_rule_is_what_is_kept():
    lab = Lab(Rule("sdpa math"), REUSE)
    first = lab.step(1.0)(draw())
    assert torch.equal(lab.step(0.5)(draw(seed=1)), first) and lab.calls == 0
    used = {decision.used: decision.calls for decision in lab.stats.decisions.values()}
    assert used == {"sdpa math": 1, "kept output": 1}


@pytest.mark.parametrize("refused, site, about, grad, why", [
    ("dpm_fast: uneven", SITE_0, True, False, "dpm_fast: uneven"),
    ("", None, True, False, "which module"),
    ("", SITE_0, False, False, "which prompts"),
    ("", SITE_0, True, True, "a gradient"),
])  # fmt: skip
def test_what_cannot_be_is_told_or_raised(refused, site, about, grad, why):
    tensors = [t.requires_grad_(grad) for t in draw()]
    for rule in (REUSE, Rule("", SELF, reuse=ReuseSettings(), on_unsupported=ERROR)):
        lab = Lab(rule, refused=refused, site=site)
        lab.about = lab.about if about else None
        for sigma, _ in LEVELS:
            lab.step(sigma)
            if rule.on_unsupported == ERROR:
                with pytest.raises(UnsupportedAttention, match=why):
                    lab(tensors)
            else:
                lab(tensors)
        assert lab.given is None and lab.calls == (0 if rule.on_unsupported == ERROR else 3)
        if rule is REUSE:
            ((wanted, reason), calls) = next(iter(next(iter(lab.stats.decisions.values())).reasons()))
            assert wanted == "reuse every 2 steps" and why in reason and calls == 3


def test_outside_of_a_run_everything_attends():
    lab = Lab(REUSE)
    lab.stats.reuse = None
    lab.caller = Caller(fresh=True)
    out = lab(draw())
    assert torch.equal(lab(draw()), out) and lab.calls == 2


def test_models_without_such_a_rule_ask_for_nothing():
    lab = Lab(Rule("sdpa math"))
    lab.stats.reuse = None
    lab.step = None
    lab.caller = Caller(fresh=True)
    lab(draw())
    (decision,) = lab.stats.decisions.values()
    assert decision.reuse is None
