"""What ComfyUI is told to keep free for attention outputs and computed steps that a run keeps."""

from __future__ import annotations

import pytest
import torch
from forecasting import sampled
from reusing import reuse
from tiny import plain

CASE = plain()["Wan"]
MIB = 1 << 20


@pytest.fixture(scope="module")
def model(pack):
    return CASE.build()


@pytest.fixture
def asked(monkeypatch, comfy_host):
    """(memory_required, minimum_memory_required) of each time that ComfyUI loads models for a sampling."""
    import comfy.model_management as host

    found, load = [], host.load_models_gpu

    def loads(models, memory_required=0, *args, minimum_memory_required=None, **kwargs):
        found.append((memory_required, minimum_memory_required))
        return load(models, memory_required, *args, minimum_memory_required=minimum_memory_required, **kwargs)

    monkeypatch.setattr(host, "load_models_gpu", loads)
    return found


def told(pack, asked, model) -> tuple[float, float]:
    asked.clear()
    sampled(pack, model, CASE)
    return asked[0]


def more(pack, asked, model, rest) -> list[float]:
    """What is asked for beyond `rest`: (as ComfyUI would like it, at the least)."""
    return [now - before for now, before in zip(told(pack, asked, model), rest)]


def one_output(model) -> int:
    """Bytes of one output of a clip of 36 tokens in float32."""
    return 36 * 4 * model.model.diffusion_model.dim


def test_room_for_kept_outputs(pack, model, inference, asked):
    rest, size = told(pack, asked, model), one_output(model)
    # Two blocks; ComfyUI counts two clips, for the positive and the negative prompt, and one at the least.
    assert more(pack, asked, reuse(pack, model), rest) == pytest.approx([4 * size, 2 * size])
    assert more(pack, asked, reuse(pack, model, blocks=((0, 0),)), rest) == pytest.approx([2 * size, size])
    assert more(pack, asked, reuse(pack, model, storage="8 bit"), rest)[0] < 2 * size
    assert more(pack, asked, reuse(pack, model, offload=True), rest) == [0, 0]
    assert more(pack, asked, reuse(pack, model, every=1), rest) == [0, 0]
    assert told(pack, asked, model) == rest and "memory_required" not in vars(model.model)


def test_no_more_than_the_budget(pack, model, inference, asked, monkeypatch):
    rest, size = told(pack, asked, model), one_output(model)
    monkeypatch.setattr(pack.nodes.host.reuse_memory, "MIB", size)
    assert more(pack, asked, reuse(pack, model, budget=1), rest) == pytest.approx([size, size])


def test_what_a_rule_keeps_goes_with_its_range(pack, model, inference, asked):
    rest, size = told(pack, asked, model), one_output(model)
    apart = reuse(pack, reuse(pack, model, end=0.5), start=0.5)
    assert more(pack, asked, apart, rest) == pytest.approx([4 * size, 2 * size])
    at_once = reuse(pack, reuse(pack, model, blocks=((0, 0),)), blocks=((1, 1),), end=0.5)
    assert more(pack, asked, at_once, rest) == pytest.approx([4 * size, 2 * size])


def test_room_for_what_forecasts_remember(pack, model, inference, asked):
    host, rest = pack.nodes.host.forecast, told(pack, asked, model)
    settings = pack.attention.forecast.ForecastSettings
    # Two computed steps of what goes into the last layer: the tokens of all of the model's channels.
    found = more(pack, asked, host.install(model, settings()), rest)
    assert found == pytest.approx([2 * 2 * one_output(model), 2 * one_output(model)])
    assert more(pack, asked, host.install(model, settings(degree=2)), rest)[1] == pytest.approx(3 * one_output(model))
    assert more(pack, asked, host.install(model, settings(offload=True)), rest) == [0, 0]
    both = more(pack, asked, host.install(reuse(pack, model), settings()), rest)
    assert both[1] == pytest.approx(4 * one_output(model))
    cleared = pack.nodes.host.model_rules.clear(host.install(reuse(pack, model), settings()))
    assert told(pack, asked, cleared) == rest


@pytest.mark.parametrize("fails", ["the estimate", "the loading"])
def test_an_error_leaves_nothing(fails, pack, model, inference, asked, monkeypatch):
    import comfy.model_management as host

    patched, rest = reuse(pack, model), told(pack, asked, model)

    def raises(*args, **kwargs):
        raise RuntimeError("no such thing")

    if fails == "the estimate":
        monkeypatch.setattr(pack.nodes.host.reuse_memory.model_family, "tokens_of_latent", raises)
        assert told(pack, asked, patched) == rest
    else:
        monkeypatch.setattr(host, "load_models_gpu", raises)
        with pytest.raises(RuntimeError, match="no such thing"):
            sampled(pack, patched, CASE)
    assert "memory_required" not in vars(model.model)


def test_a_latent_of_unknown_tokens_asks_for_nothing(pack, model):
    """Video and sound come packed into one row: nothing is known of their tokens then."""
    patched = reuse(pack, model)
    assert pack.nodes.host.reuse_memory.kept(patched, torch.empty(1, 1, 4096, device="meta"), 2) == 0
