"""The nodes in a real ComfyUI, in this process, sampling a real LTX-Video model with random weights."""

from __future__ import annotations

import inspect
import re

import pytest
import torch

BLOCKS, ROLES, STEPS = 2, 2, 4
EXACT = ("sdpa", "sdpa math", "sdpa flash", "reference")


# --- what is announced and counted -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_every_call_is_announced_and_counted(lab, cfg):
    report = lab.report(lab.sample(lab.backend(), cfg=cfg))
    # At cfg 3 both prompts go through the model as one batch: the same number of calls.
    assert lab.calls_of(report) == {("self", "sdpa"): BLOCKS * STEPS, ("cross", "sdpa"): BLOCKS * STEPS}
    assert report.ruled == report.calls == BLOCKS * ROLES * STEPS
    assert all(row.blocks == set(range(BLOCKS)) for row in report.rows)
    assert (report.model, report.grid, report.steps) == ("LTXVModel", (2, 3, 4), STEPS)
    assert {row.role: row.tokens for row in report.rows}["self"] == {(24, 24)}


def test_prompts_that_cannot_be_batched_count_twice(lab):
    tokens = lab.prompt[0][0][0]
    longer = torch.cat([tokens, tokens], dim=1)
    mask = torch.ones(1, longer.shape[1], dtype=torch.long)
    negative = [[longer, {"attention_mask": mask, "frame_rate": 25}]]
    report = lab.report(lab.sample(lab.backend(), cfg=3.0, negative=negative))
    assert report.calls == 2 * BLOCKS * ROLES * STEPS


def test_one_role_alone(lab):
    calls = lab.counted(lab.backend(role="cross"))
    assert calls == {("cross", "sdpa"): BLOCKS * STEPS, ("self", "host default (pytorch)"): BLOCKS * STEPS}


def test_one_block_alone(lab):
    report = lab.report(lab.sample(lab.backend(blocks="0")))
    assert {row.used: row.blocks for row in report.rows} == {"sdpa": {0}, "host default (pytorch)": {1}}
    assert report.ruled == ROLES * STEPS


@pytest.mark.parametrize("start, end, covered", [(0.0, 0.5, 2), (0.5, 1.0, 2), (0.25, 0.75, 2), (0.75, 1.0, 1)])
def test_steps_are_split_where_the_widgets_say(lab, start, end, covered):
    # The simple scheduler of 4 steps puts a step exactly on 0, 0.25, 0.5 and 0.75.
    report = lab.report(lab.sample(lab.backend(start_percent=start, end_percent=end)))
    assert report.ruled == BLOCKS * ROLES * covered
    assert report.calls == BLOCKS * ROLES * STEPS


@pytest.mark.parametrize("steps", [3, 7, 20])
def test_two_halves_make_a_whole(lab, steps):
    model = lab.backend(lab.backend(end_percent=0.5), "sdpa math", start_percent=0.5)
    report = lab.report(lab.sample(model, steps=steps))
    assert report.ruled == report.calls == BLOCKS * ROLES * steps
    assert {row.used for row in report.rows} == {"sdpa", "sdpa math"}


def test_timing_measures_every_call(lab):
    report = lab.report(lab.sample(lab.backend(timing=True)))
    assert all(row.seconds > 0 for row in report.rows)


# --- what is computed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [*EXACT, "auto", "host default"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_exact_kernels_give_the_same_latents(lab, backend, cfg):
    assert lab.error(lab.sample(lab.backend(backend=backend), cfg=cfg), lab.sample(cfg=cfg)) <= 1e-5


def test_attention_decides_the_latents(lab, plain, pack, monkeypatch):
    # Or else the test above would pass with any kernel.
    monkeypatch.setitem(
        pack.attention.backends.registry._LOADED, "sdpa", lambda q, k, v, mask=None, scale=None: torch.zeros_like(q)
    )
    assert lab.error(lab.sample(lab.backend()), plain) > 1e-2


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_black_frames_are_prevented(lab, plain, pack, monkeypatch, broken):
    # A stand-in kernel: no kernel on a CPU gives NaN by itself.
    kernel = lambda q, k, v, mask=None, scale=None: torch.full_like(q, broken)  # noqa: E731
    monkeypatch.setitem(pack.attention.backends.registry._LOADED, "sdpa", kernel)
    latent = lab.sample(lab.backend())
    assert lab.error(latent, plain) <= 1e-5
    report = lab.report(latent)
    assert report.ruled == 0
    assert report.fallbacks == {
        (role, "sdpa", "NaN or Inf in the output"): BLOCKS * STEPS for role in ("self", "cross")
    }


def test_a_kernel_that_raises_does_not_end_the_render(lab, plain, pack, monkeypatch):
    def kernel(q, k, v, mask=None, scale=None):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setitem(pack.attention.backends.registry._LOADED, "sdpa", kernel)
    latent = lab.sample(lab.backend())
    assert lab.error(latent, plain) <= 1e-5
    assert {reason for _, _, reason in lab.report(latent).fallbacks} == {"RuntimeError: no kernel image is available"}


def test_only_attention_inside_the_model_is_swapped(lab):
    import comfy.ldm.modules.attention as attention

    before = attention.optimized_attention, attention.optimized_attention_masked
    lab.sample(lab.backend())
    assert (attention.optimized_attention, attention.optimized_attention_masked) == before


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["sage", "comfy-kitchen int8"])
def test_an_error_when_asked_for_one(lab, backend):
    model = lab.backend(backend=backend, on_unsupported="error")
    with pytest.raises(RuntimeError) as raised:
        lab.sample(model)
    text = str(raised.value)
    assert text.startswith(f"backend: '{backend}' cannot run the self-attention of block 0 (1x2 heads, 24x24 tokens")
    assert text.endswith("set on_unsupported to 'fall back'.") and "\n" not in text


@pytest.mark.parametrize("backend", ["sage", "comfy-kitchen int8", "sdpa cudnn"])
def test_a_fallback_otherwise(lab, plain, backend):
    latent = lab.sample(lab.backend(backend=backend))
    assert torch.equal(latent, plain)
    fallbacks = lab.report(latent).fallbacks
    assert sum(fallbacks.values()) == BLOCKS * ROLES * STEPS
    assert all(wanted == backend and reason for _, wanted, reason in fallbacks)


def test_widgets_that_cannot_be_right_are_refused(lab, pack):
    validate = pack.nodes.backend.VideoAttentionBackend.validate_inputs
    assert validate("0-3,7,40-") is True
    assert validate(None) is True  # linked: no value yet
    assert validate("a") == "blocks: 'a' is not a block or a span of blocks; write 0-3,7,40- for example."
    assert validate("3-1") == "blocks: '3-1' ends before it begins; write 1-3."
    with pytest.raises(ValueError, match=re.escape("start_percent: 0.8 must be below end_percent")):
        lab.backend(start_percent=0.8, end_percent=0.2)


def test_nodes_with_blocks_blame_that_widget_alone(pack):
    """ComfyUI shows what validate_inputs says at each of its arguments."""
    found = [node for node in pack.nodes.NODES if any(i.id == "blocks" for i in node.GET_SCHEMA().inputs)]
    assert len(found) > 5
    for node in found:
        blamed = inspect.getfullargspec(node.validate_inputs).args
        assert "blocks" in blamed and not {"start_percent", "end_percent"} & set(blamed), node


@pytest.mark.parametrize("wrong, share", [(0, None), (1, "less than 1 %"), (2, "1%"), (100, "50%"), (200, "100%")])
def test_what_is_not_finite_is_told_with_its_share(pack, wrong, share):
    samples = torch.zeros(200)
    samples[:wrong] = float("nan")
    samples[: wrong // 2] = float("inf")
    stats = pack.attention.routing.run_stats.RunStats()
    pack.nodes.host.counted_runs._note_what_is_not_finite(stats, samples)
    assert bool(stats.notes) == (share is not None)
    assert not stats.notes or f"this run gave: {share} of its values." in stats.notes[0]
