"""Kept attention outputs in a real ComfyUI: whose they are, who else skips, the node."""

from __future__ import annotations

import pytest
import torch
from forecasting import equal, forecast, made_steps, sampled
from reusing import Watched, by_step, counted, reuse
from tiny import plain
from widget_defaults import defaults

CASE = plain()["Wan"]


@pytest.fixture(scope="module")
def model(pack):
    return CASE.build()


def node(pack, model, **widgets):
    kind = pack.nodes.reuse.VideoAttentionReuse
    out = kind.execute(model, **{**defaults(kind), **widgets})
    return out.args[0], out.ui.as_dict()["text"][0]


# --- the node --------------------------------------------------------------------------------------------------------


def test_off_is_the_model_itself(pack, model):
    assert node(pack, model, enabled=False)[0] is model and node(pack, model, every=1)[0] is model


def test_the_node_says_what_it_takes(pack, model):
    patched, text = node(pack, model, budget=3, storage="8 bit", every=3)
    (rule,) = pack.nodes.host.model_rules.rules_of(patched)
    net = model.model.diffusion_model
    assert (
        rule.reuse == pack.attention.reuse.ReuseSettings(3, 3, "8 bit") and rule.role == "self" and rule.kind == "reuse"
    )
    assert "one of 3 steps" in text and "at most 3 MiB" in text
    size = 1000 * (net.dim + 4 * net.num_heads)
    assert f"{size / 2**20:.1f} MiB an output, {2 * size / 2**20:.1f} MiB for all 2" in text
    assert not pack.nodes.host.model_rules.rules_of(model)


def test_a_role_that_the_model_has_not_is_told(pack, model):
    assert node(pack, model, role="audio self")[1].startswith("Covers nothing")


def test_info_says_what_a_clip_takes_and_how_much_has_room(pack, inference):
    big = plain()["Wan"].build()
    latent = {"samples": torch.zeros(1, 16, 9, 96, 96)}
    text = pack.nodes.info.VideoAttentionInfo.execute(node(pack, big, budget=1)[0], latent).args[0]
    assert "For this clip and each prompt" in text and "; the budget has room for 0." in text
    roomy = pack.nodes.info.VideoAttentionInfo.execute(node(pack, big, budget=4096)[0], latent).args[0]
    assert "For this clip" in roomy and "has room" not in roomy
    assert "Attends in one" not in pack.nodes.info.VideoAttentionInfo.execute(big, latent).args[0]


def test_the_schedule_shows_it(pack, model):
    patched = reuse(pack, model, 3, start=0.3, end=0.8)
    sigmas = torch.linspace(1, 0, 11)
    out = pack.nodes.schedule.VideoAttentionSchedule.execute(
        patched, **{**defaults(pack.nodes.schedule.VideoAttentionSchedule), "sigmas": sigmas}
    )
    assert "+ reuse every 3 steps" in out.args[2]


def test_the_report_tells_it_as_a_node(pack, model):
    as_nodes = pack.nodes.widgets.as_nodes
    patched, _ = node(pack, model, every=4, blocks="1", storage="8 bit", offload=True, budget=7)
    (rule,) = pack.nodes.host.model_rules.rules_of(patched)
    told = as_nodes.of_rule(rule)
    assert told["class_type"] == "VideoAttentionReuse"
    assert pack.nodes.host.model_rules.rules_of(node(pack, model, **told["inputs"])[0]) == (rule,)


def test_clear_takes_it_off(pack, model, inference):
    cleared = pack.nodes.host.model_rules.clear(reuse(pack, model))
    out, report = sampled(pack, cleared, CASE)
    assert report is None and equal(out, sampled(pack, model, CASE)[0])
    assert cleared.model_options.get("transformer_options", {}) == {}


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [2, 3, 5])
def test_as_many_steps_as_asked_for(every, pack, model, inference):
    watched = Watched(pack, reuse(pack, model, every))
    _, report = sampled(pack, watched.model, CASE, steps=11)
    assert [bool(calls) for calls in by_step(report)] == [bool(step % every) for step in range(11)]
    assert watched.given == counted(report)[0] and watched.ages == set(range(1, every))
    assert counted(report)[1] == 2 * 11
    lines = pack.attention.inspect.report_text.to_text(report)
    assert f"Reuse every {every} steps: {watched.given} of 22 self-attention calls reused." in lines
    assert f"{every} steps later differs by relative L2" in lines


def test_only_in_its_steps_blocks_and_role(pack, model, inference):
    patched = reuse(pack, model, start=0.25, end=0.75, blocks=((1, 1),))
    _, report = sampled(pack, patched, CASE, steps=12)
    steps = by_step(report)
    first, last = steps.index(1), 11 - steps[::-1].index(1)
    assert max(steps) == 1 and first > 0 and last < 11 and not any(steps[:first]) and not any(steps[last + 1 :])
    (row,) = [row for row in report.rows if row.used == "kept output"]
    assert row.role == "self" and row.blocks == {1}


def test_the_last_rule_wins(pack, model, inference):
    patched = reuse(pack, reuse(pack, model, 4), 2, start=0.5)
    _, report = sampled(pack, patched, CASE, steps=12)
    steps = [bool(calls) for calls in by_step(report)]
    assert steps[:4] == [False, True, True, True] and steps[-4:] in ([True, False] * 2, [False, True] * 2)


# --- whose -----------------------------------------------------------------------------------------------------------


def test_each_prompt_has_its_own(pack, model, inference, monkeypatch):
    monkeypatch.setattr(model.model, "memory_required", lambda *args, **kwargs: float("inf"))
    watched = Watched(pack, reuse(pack, model, 3, role="all"))
    sampled(pack, watched.model, CASE, cfg=4.0)
    assert watched.given == 2 * 5 * 4


@pytest.mark.parametrize("schedule", ["static", "moving"])
def test_each_context_window_has_its_own(schedule, pack, model, inference):
    from test_forecast import Longer, windows

    frames = 7 if schedule == "static" else 9
    case, windowed = Longer(CASE, frames), windows(model, 3 if frames == 7 else 4, 1 if frames == 7 else 2, schedule)
    watched = Watched(pack, reuse(pack, windowed, 2, role="all"))
    _, report = sampled(pack, watched.model, case, steps=9)
    assert report.windows > 1 and (watched.given > 0 or schedule == "moving")


@pytest.mark.parametrize("kind", ["stg", "pag"])
@pytest.mark.parametrize("first", [True, False])
def test_an_extra_pass_has_its_own(kind, first, pack, model, inference):
    from guiding import guided

    weak = guided(pack, kind, reuse(pack, model, role="all") if first else model, scale=2.0)
    watched = Watched(pack, weak if first else reuse(pack, weak, role="all"))
    _, report = sampled(pack, watched.model, CASE, cfg=3.0)
    # 2 blocks of 2 calls for both prompts and for the pass, but the one call that the pass itself perturbs.
    assert 0 < watched.given == counted(report)[0] <= 4 * 8


def test_two_prompts_in_one_attention_have_their_own(pack, model, inference):
    from guiding import guided

    watched = Watched(pack, reuse(pack, guided(pack, "nag", model), role="cross"))
    sampled(pack, watched.model, CASE, cfg=1.0)
    assert watched.given > 0


def test_a_mask_with_other_values_is_another(pack, inference):
    case = next(case for case in __import__("tiny").CASES if "guide of half" in str(case))
    model = case.build()
    watched = Watched(pack, reuse(pack, model, role="all"))
    sampled(pack, watched.model, case, steps=4)
    assert watched.given


# --- others that skip ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_with_forecasts_an_output_is_never_older_than_asked_for(first, pack, model, inference):
    patched = forecast(pack, reuse(pack, model, 3)) if first else reuse(pack, forecast(pack, model), 3)
    watched = Watched(pack, patched)
    _, report = sampled(pack, watched.model, CASE, steps=12)
    made, steps = made_steps(report), by_step(report)
    assert made == [3, 5, 7, 9, 11] and watched.given
    # Steps 1, 2, 4, 6, 8, 10, 12 run the model: what step 1 computed is given in 2, what 4 computed in 6.
    assert [step + 1 for step, calls in enumerate(steps) if calls] == [2, 6, 10]


@pytest.mark.parametrize("kind", ["EasyCacheNode", "LazyCacheNode"])
@pytest.mark.parametrize("first", [True, False])
def test_with_the_hosts_caches(kind, first, pack, model, inference):
    import comfy_extras.nodes_easycache as host

    def cached(model):
        return getattr(host, kind).execute(model, 0.5, 0.15, 0.95, False).args[0]

    patched = cached(reuse(pack, model)) if first else reuse(pack, cached(model))
    watched = Watched(pack, patched)
    out, report = sampled(pack, watched.model, CASE, steps=12)
    assert out.isfinite().all()
    skipped = [step for step, one in enumerate(report.timeline) if not one.calls]
    assert skipped and watched.given and not any("rehearsal" in note for note in report.notes)


# --- compiled, wider -------------------------------------------------------------------------------------------------


def test_compiled_it_gives_the_same(lab, pack, compiled):  # noqa: F811
    model = reuse(pack, lab.model, role="all")
    truth, plain = lab.sample(model, cfg=3.0), lab.sample(cfg=3.0)
    patched = compiled(model)
    for _ in range(2):
        out = lab.sample(patched, cfg=3.0)
    assert lab.error(out, truth) <= 1e-4 < lab.error(plain, truth)
    given, could = counted(lab.report(out))
    assert (given, could) == counted(lab.report(truth)) and given
    # A graph made with it serves the model without.
    assert lab.error(lab.sample(compiled(lab.clear(model)), cfg=3.0), plain) <= 1e-4


def test_a_pattern_and_a_strength_are_in_what_is_kept(pack, model, inference):
    rules = pack.attention.routing.rules
    strong = rules.Rule("", "self", strength=pack.attention.guidance.strength.Strength(0.5, 0.0))
    shaped = rules.Rule("", "self", shape=rules.Shape(pack.attention.patterns.Spatial()))
    patched = reuse(pack, pack.nodes.host.model_rules.add_rules(model, (strong, shaped)))
    watched = Watched(pack, patched)
    _, report = sampled(pack, watched.model, CASE)
    assert watched.given == 8 and watched.moved == 8
    (kept,) = [rule for rule in report.rules if rule.kind == "reuse"]
    assert (kept.ran, kept.could) == (8, 16)


def test_a_run_that_is_timed_counts_what_was_saved(lab, pack, inference):
    model = reuse(pack, lab.backend(backend="sdpa math", timing=True))
    out = lab.sample(model, steps=6)
    report = lab.report(out)
    row = next(row for row in report.rows if row.used == "kept output")
    assert row.seconds > 0 and row.calls == counted(report)[0]
    assert "kept output" in report.answer.sentence


def test_an_error_is_raised_where_it_is_asked_for(pack, model, inference):
    errors = pack.attention.routing.errors
    with pytest.raises(errors.UnsupportedAttention, match="every: no output of self-attention can be kept: dpm_fast"):
        sampled(pack, reuse(pack, model, on_unsupported="error"), CASE, "dpm_fast")
