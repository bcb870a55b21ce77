"""Samplings that keep attention outputs, on tiny models."""

from __future__ import annotations

from functools import partial

import torch

from attention.core.site import SELF


def reuse(pack, model, every=2, role=SELF, start=0.0, end=1.0, budget=64, **more):
    """A clone of a MODEL by a rule of reuse.

    more: other fields of the rule, or of its settings.
    """
    rules, settings = pack.attention.routing.rules, pack.attention.reuse.ReuseSettings
    own = {name: more.pop(name) for name in ("storage", "offload") if name in more}
    rule = rules.Rule("", role, start=start, end=end, reuse=settings(every, budget, **own), **more)
    return pack.nodes.host.model_rules.add_rule(model, rule)


def counted(report) -> tuple[int, int]:
    """(calls that were given a kept output, all that the rule covers)."""
    found = [rule for rule in report.rules if rule.kind == "reuse"]
    return sum(rule.ran for rule in found), sum(rule.could for rule in found)


def by_step(report, used="kept output") -> list[int]:
    """Calls that were given a kept output in each step."""
    return [sum(calls for (_, name), calls in one.calls.items() if name == used) for one in report.timeline]


class Watched:
    """Stands above our router as another pack's override would, and checks every call that is given a kept output.

    model: the MODEL to sample.
    given: how many calls were given one.
    moved: how many of them asked with other queries than those it was computed of.
    ages: how many evaluations ago what they were given was computed.
    """

    def __init__(self, pack, model):
        self.model, self.given, self.moved, self.ages = model.clone(), 0, 0, set()
        self._site = pack.attention.core.site.site_of
        self._last, self._numbers, self._evaluation = {}, {}, None
        self._evaluations = 0
        options = self.model.model_options["transformer_options"]
        router = options["optimized_attention_override"]
        options["optimized_attention_override"] = partial(self._answer, router)

    def _answer(self, router, func, q, k, v, heads, mask=None, *args, **kw):
        options = kw["transformer_options"]
        stats = options["vattn.context"].stats
        before = _given(stats)
        out = router(func, q, k, v, heads, mask, *args, **kw)
        self._check(options, q, k, mask, out, _given(stats) == before)
        return out

    def _check(self, options, q, k, mask, out, computed) -> None:
        site, caller = self._site(options), options["vattn.caller"]
        if caller is not self._evaluation:
            self._evaluation, self._numbers = caller, {}
            self._evaluations += 1
        window = getattr(options.get("context_window"), "index_list", None)
        pass_ = options["vattn.context"].perturbation
        key = (id(site), tuple(options["uuids"]), tuple(window or ()), id(pass_), q.shape, k.shape, mask is None)
        key = (*key, number := self._numbers.get(key, 0))
        self._numbers[key[:-1]] = number + 1
        if not computed:
            before, inputs, mask_before, when = self._last[key]
            assert torch.equal(out, before)
            self.moved += not torch.equal(inputs, q)
            assert mask is None or torch.equal(mask, mask_before)
            self.given += 1
            self.ages.add(self._evaluations - when)
            return
        self._last[key] = out.clone(), q.clone(), mask, self._evaluations


def _given(stats) -> int:
    return sum(decision.calls for key, decision in stats.decisions.items() if key[-1] == "kept output")
