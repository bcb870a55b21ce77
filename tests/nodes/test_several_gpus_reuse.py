"""Kept attention outputs on several GPUs: each keeps those of its own tokens, and in such calls nothing is traded."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from gpus_here import WIDE, about_gpus, far, loud, on_gpus, sampled, stand_in, with_rules
from reusing import by_step, counted

from attention.core.peak_memory import in_mib
from attention.patterns import TemporalWindow
from attention.reuse import EIGHT_BIT, ReuseSettings
from attention.routing.rules import Rule, Shape

EXACT, SDPA = 1e-5, Rule("sdpa")


@pytest.fixture(autouse=True)
def devices(pack, inference, monkeypatch):
    stand_in(monkeypatch)


def reused(pack, case, every=2, role="self", budget=64, **more):
    return with_rules(pack, loud(case), SDPA, Rule("", role, reuse=ReuseSettings(every, budget, **more)))


def ran(monkeypatch, pack, model, case, count, **more):
    """The latent, the report, and the Ranks of a sampling on several."""
    found, several = [], pack.nodes.host.several_gpus
    made = several.Ranks.groups

    def groups(self, *args):
        found[:] = [self]
        return made(self, *args)

    monkeypatch.setattr(several.Ranks, "groups", groups)
    out, report = sampled(pack, model if count is None else on_gpus(pack, model, count), case, **more)
    return out, report, found[0]


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("role", ["self", "all"])
def test_what_is_given_is_that_of_one_gpu(name, role, pack, monkeypatch):
    case = WIDE[name]
    model = reused(pack, case, role=role)
    truth, alone = sampled(pack, model, case, steps=4)
    out, report, ranks = ran(monkeypatch, pack, model, case, 3, steps=4)
    assert far(out, truth) < EXACT and counted(report) == counted(alone) and counted(report)[0] > 0
    assert by_step(report) == by_step(alone)
    ((group,),) = ranks._peers.values()
    assert {peers.kept for peers in group} == {group[0].kept} and 0 < group[0].kept < group[0].calls
    assert f"In {group[0].kept} of {group[0].calls} attention calls each took what it had kept" in " ".join(
        report.notes
    )
    # It matters: the outputs are those of another step.
    assert far(sampled(pack, with_rules(pack, loud(case), SDPA), case, steps=4)[0], truth) > EXACT


@pytest.mark.parametrize("split", ["tokens", "prompts, then tokens"])
@pytest.mark.parametrize("count", [2, 4])
def test_each_prompt_has_its_own(split, count, pack, monkeypatch):
    case = WIDE["Wan"]
    model = reused(pack, case, every=3)
    truth, alone = sampled(pack, model, case, steps=6, cfg=3.0)
    out, report = sampled(pack, on_gpus(pack, model, count, split=split), case, steps=6, cfg=3.0)
    assert far(out, truth) < EXACT
    # Where each GPU has a prompt, calls come one prompt at a time on each.
    assert f"On {count} GPUs" in about_gpus(report) and counted(report)[0] > 0


def test_in_a_step_that_reuses_nothing_is_traded(pack, monkeypatch):
    """But for what is put together behind the last block, and the word that all have something."""
    case, sent = WIDE["Wan"], []
    for every in (1, 2):
        _, _, ranks = ran(monkeypatch, pack, reused(pack, case, every=every), case, 2, steps=4)
        ((group,),) = ranks._peers.values()
        sent.append([peers.sent for peers in group])
    trades, net = [], loud(case).model.diffusion_model
    for peers, (all_steps, half) in zip(group, zip(*sent)):
        gathered = 4 * peers.spreads[0].sizes[peers.rank] * net.dim * 4
        trades.append((all_steps - gathered, half - gathered))
        assert all_steps > half > gathered
    words = 2 * 4
    assert all(2 * (half - words) == all_steps for all_steps, half in trades)


# A number between two of eight bits may be rounded to either.
@pytest.mark.parametrize("bound, more", [(1e-3, {"storage": EIGHT_BIT}), (EXACT, {"offload": True})])
def test_each_form_of_keeping(bound, more, pack):
    case = WIDE["Wan"]
    model = reused(pack, case, **more)
    truth, alone = sampled(pack, model, case, steps=4)
    out, report = sampled(pack, on_gpus(pack, model, 3), case, steps=4)
    assert far(out, truth) < bound and counted(report) == counted(alone)


def test_with_a_pattern_that_fetches_what_its_queries_see(pack, monkeypatch):
    case = replace(WIDE["Wan"], latent=partial(torch.zeros, (1, 16, 9, 14, 18)))
    near = Rule(shape=Shape(TemporalWindow(frames=1), min_tokens=0))
    model = with_rules(pack, reused(pack, case), near)
    truth, alone = sampled(pack, model, case, steps=4)
    out, report, ranks = ran(monkeypatch, pack, model, case, 2, steps=4)
    ((group,),) = ranks._peers.values()
    assert far(out, truth) < EXACT and counted(report) == counted(alone)
    assert group[0].halos > 0 and group[0].halos + group[0].kept == group[0].calls


def test_where_one_has_no_room_all_attend(pack, monkeypatch):
    """Parts are of unlike size, and budgets are each GPU's own."""
    case, store = WIDE["Wan"], pack.attention.reuse.store.OutputStore
    kept = store.room
    model = reused(pack, case)
    truth, _ = sampled(pack, with_rules(pack, loud(case), SDPA), case, steps=4)

    refused = [0]

    def room(self, out, *args):
        if out.shape[-2] != least:
            return kept(self, out, *args)
        self.full, refused[0] = self.full + 1, refused[0] + 1
        return None

    _, _, ranks = ran(monkeypatch, pack, model, case, 2, steps=1)
    ((group,),) = ranks._peers.values()
    sizes = group[0].spreads[0].sizes
    least = min(sizes)
    assert least < max(sizes)
    monkeypatch.setattr(store, "room", room)
    out, report = sampled(pack, on_gpus(pack, model, 2), case, steps=4)
    notes = " ".join(report.notes)
    assert far(out, truth) < EXACT and counted(report)[0] == 0 and "took what it had kept" not in notes
    # Whichever it is, the report has a reason, and no kernel with no calls.
    other, said = "cpu:0 ran ", "outputs had no room in "
    assert said in notes and other in notes and "(0 calls)" not in notes[notes.index(other) :]
    assert (f"cpu:0: Reuse every 2 steps: {refused[0]} {said}64 MiB." in notes) == (sizes[0] > least)


def test_where_another_fails_to_keep_the_report_says_why(pack, monkeypatch):
    """Its reason, with its name in front: the first GPU kept all of its own."""
    case, store = WIDE["Wan"], pack.attention.reuse.store.OutputStore
    model, write = reused(pack, case), store.write
    truth, _ = sampled(pack, with_rules(pack, loud(case), SDPA), case, steps=4)

    def failing(self, *args):
        if self in others:
            raise MemoryError("for a copy")
        return write(self, *args)

    class Others:
        def __contains__(self, one):
            beside = found[0].stats.values() if found else ()
            return any(one is kept for stats in beside for kept in stats.reuse._stores.values())

    others, found = Others(), []
    made = pack.nodes.host.several_gpus.Ranks.groups
    monkeypatch.setattr(
        pack.nodes.host.several_gpus.Ranks, "groups", lambda self, *args: (found.append(self), made(self, *args))[1]
    )
    monkeypatch.setattr(store, "write", failing)
    out, report = sampled(pack, on_gpus(pack, model, 2), case, steps=4)
    assert far(out, truth) < EXACT and counted(report)[0] == 0
    why = "from there on all attended: keeping an output failed (MemoryError: for a copy)."
    assert f"cpu:0: Reuse every 2 steps: {why}" in about_gpus(report), report.notes


def test_a_copy_that_finds_no_memory_lets_the_step_run_on_one(pack, monkeypatch):
    kind = pack.attention.reuse.kept_output.KeptOutput
    case, give, failed = WIDE["Wan"], kind.give, []
    model = reused(pack, case)

    def without_memory(self):
        if not failed:
            failed.append(1)
            raise MemoryError("for a copy")
        return give(self)

    monkeypatch.setattr(kind, "give", without_memory)
    out, report = sampled(pack, on_gpus(pack, model, 2), case, steps=4)
    assert failed and torch.isfinite(out).all() and "memory was missing (MemoryError)" in about_gpus(report)
    assert far(out, sampled(pack, with_rules(pack, loud(case), SDPA), case, steps=4)[0]) < 0.5


def test_nothing_is_kept_behind_a_run_on_any(pack, monkeypatch):
    case = WIDE["Wan"]
    _, report, ranks = ran(monkeypatch, pack, reused(pack, case), case, 3, steps=4)
    stores = [store for stats in ranks.stats.values() for store in stats.reuse._stores.values()]
    assert len(stores) == 2 and not any(store.size for store in stores)
    assert all(store.peak for store in stores)
    for number, store in enumerate(stores, 1):
        device = str(list(ranks.record._devices)[number])
        assert f"{device} kept up to {in_mib(store.peak)} MiB." in about_gpus(report)


def test_a_rule_for_some_steps_alone(pack):
    case = WIDE["Wan"]
    rule = Rule("", "self", start=0.3, end=0.8, reuse=ReuseSettings(2, 64))
    model = with_rules(pack, loud(case), SDPA, replace(rule, blocks=((1, 1),)))
    truth, alone = sampled(pack, model, case, steps=8)
    out, report = sampled(pack, on_gpus(pack, model, 2), case, steps=8)
    assert far(out, truth) < EXACT and counted(report) == counted(alone) and by_step(report) == by_step(alone)


def test_another_rule_that_begins_between_takes_nothing_away(pack):
    """Of four steps the last three run cross-attention otherwise; what self-attention kept in the first is given."""
    case = WIDE["Wan"]
    model = with_rules(pack, reused(pack, case), Rule("sdpa math", "cross", start=0.25))
    truth, alone = sampled(pack, model, case, steps=4)
    out, report = sampled(pack, on_gpus(pack, model, 2), case, steps=4)
    calls = sum(role == "self" for _, role, _ in pack.attention.families.wan.sites(loud(case).model.diffusion_model))
    assert by_step(report) == by_step(alone) == [0, calls, 0, calls] and far(out, truth) < EXACT
    assert [bool(calls) for calls in by_step(alone, "sdpa math")] == [False, True, True, True]
