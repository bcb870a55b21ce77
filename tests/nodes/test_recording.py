"""Under a stand-in of the Comfy Compiler: nothing of ours outlives a recorded block, no step allocates otherwise."""

from __future__ import annotations

from dataclasses import replace

import guidance_rows
import pytest
import torch
from guiding import PLAIN, prompted
from recorder import Recorder
from tiny.case import prompt
from widget_defaults import defaults

from attention import guidance

STEPS = 4
FAMILIES = ("LTX-2", "MiniMax-H3")


def recorded(pack, model, case, **more) -> Recorder:
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch, recorder.recording(model.model.diffusion_model):
        patch.setattr(pack.attention.core.allocation_record, "_pause", recorder.pause)
        prompted(model, case, prompt(case, 1), steps=STEPS, **more)
    assert recorder.traces and all(len(traces) >= STEPS for traces in recorder.traces.values())
    return recorder


@pytest.fixture(scope="module")
def bare(pack):
    """Family -> what the stand-in says of ComfyUI alone: MiniMax-H3's first step makes what others keep."""
    with torch.inference_mode():
        return {family: recorded(pack, PLAIN[family].build(), PLAIN[family]) for family in FAMILIES}


def check(recorder: Recorder, bare: Recorder, back: int = 1) -> None:
    """Nothing outlives a block, and no call allocates otherwise than the one before, but where the host's own does."""
    assert recorder.rogues == bare.rogues, recorder.rogues[:5]
    assert set(recorder.breaks(back)) <= {
        (number, call * back + i) for number, call in bare.breaks() for i in range(back)
    }


def forget(pack) -> None:
    """Nothing of earlier tests is known: what is made once for the process is made here."""
    pack.attention.backends.flex.COMPILED_FOR.clear()
    pack.attention.backends.autotune._CHOSEN.clear()
    pack.attention.sparse.autotune._CHOSEN.clear()
    for cached in (
        pack.attention.sparse.runner.plan_of_all,
        pack.attention.sparse.runner.plan_of_part,
        pack.attention.sparse.tile_layout.layout,
        pack.attention.patterns.spec.relation_of,
    ):
        cached.cache_clear()


def backend(pack, model, name, **widgets):
    node = pack.nodes.backend.VideoAttentionBackend
    return node.execute(model, **{**defaults(node), "backend": name, **widgets}).args[0]


def test_the_host_alone_keeps_its_record(bare):
    """What the rest of this file is measured by, and that the stand-in sees anything."""
    assert not bare["LTX-2"].rogues and not bare["LTX-2"].breaks() and not bare["MiniMax-H3"].rogues
    assert all(call == 1 for _, call in bare["MiniMax-H3"].breaks())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("guard", ["off", "first call", "every call"])
def test_auto(pack, inference, family, guard, bare):
    case = PLAIN[family]
    forget(pack)
    recorder = recorded(pack, backend(pack, case.build(), "auto", guard=guard), case)
    assert recorder.pauses
    check(recorder, bare[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_backend(pack, inference, family, bare):
    case, registry = PLAIN[family], pack.attention.backends.registry
    for name in registry.names():
        if registry.why_not(name) is None:
            forget(pack)
            check(recorded(pack, backend(pack, case.build(), name), case), bare[family])
    # One that cannot run here: the refusal and the fallback.
    check(recorded(pack, backend(pack, case.build(), "sage 3 fp4"), case), bare[family])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("row", guidance.TABLE, ids=lambda row: row.name)
def test_guidance(pack, inference, family, row, bare):
    case, node = PLAIN[family], guidance_rows.nodes_of(pack)[row.name]
    if not node.COUNTS_ATTENTION:
        pytest.skip("it changes no attention call")
    prompts = {i.id: prompt(case, 2) for i in node.GET_SCHEMA().inputs if i.io_type == "CONDITIONING"}
    try:
        model, _ = guidance_rows.execute(node, case.build(), **prompts)
    except ValueError as refused:
        pytest.skip(str(refused))
    # An extra pass in which a block's attention is left out cannot allocate what the model's own pass does.
    check(recorded(pack, model, case), bare[family], 2 if row.cost == "one model call" else 1)


@pytest.mark.parametrize("kind", ["Benchmark", "Maps", "Verify", "Calibrate"])
def test_nodes_that_measure_leave_nothing_behind(pack, inference, bare, kind, monkeypatch):
    """They try many kernels in one call, so allocations differ; nothing stays."""
    case, recorder = PLAIN["LTX-2"], Recorder()
    model, nodes = case.build(), pack.nodes
    node = next(n for n in nodes.NODES if n.__name__ == f"VideoAttention{kind}")
    given = {"model": model, "latent": {"samples": case.latent()}, "positive": prompt(case, 1), "seeds": 1}
    given |= {"negative": prompt(case, 2), "steps": 2, "sampler_name": "euler", "scheduler_name": "simple", "cfg": 1.0}
    inputs = {i.id: getattr(i, "default", None) for i in node.GET_SCHEMA().inputs if not i.optional}
    values = {name: given.get(name, value) for name, value in inputs.items()}
    monkeypatch.setattr(pack.attention.core.allocation_record, "_pause", recorder.pause)
    if kind == "Verify":
        values["model"] = backend(pack, model, "sdpa math")
    with recorder.recording(model.model.diffusion_model):
        node.execute(**values)
    assert recorder.rogues == bare["LTX-2"].rogues and recorder.pauses and recorder.traces


def choices(pack) -> dict:
    """Pattern -> its widgets, none larger than the tiny models' clips; dynamic ones also kept for steps."""
    given = next(i for i in pack.nodes.pattern.VideoAttentionPattern.GET_SCHEMA().inputs if i.id == "pattern")
    small = {"height": 50.0, "width": 50.0, "keep": 50.0, "time": 1}
    found = {}
    for option in given.options:
        widgets = {i.id: small.get(i.id, i.default) for i in option.inputs}
        found[option.key] = {**widgets, "time": 3} if option.key == "neighbourhood" else widgets
        if "refresh" in widgets:
            found[f"{option.key}, kept"] = {**widgets, "refresh": 2}
    return found


def shaped(pack, model, pattern: str, choice: dict, **widgets):
    node = pack.nodes.pattern.VideoAttentionPattern
    values = defaults(node) | {"start_percent": 0.0, "min_tokens": 0, **widgets}
    return node.execute(model, pattern={"pattern": pattern, **choice}, latent=None, **values)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("how", ["measure", "table order"])
def test_every_pattern_on_every_engine(pack, inference, bare, family, how):
    case = PLAIN[family]
    model = case.build()
    for name, widgets in choices(pack).items():
        for engine in ("auto", *pack.attention.sparse.engine_registry.names()):
            forget(pack)
            patched = shaped(pack, model, name.removesuffix(", kept"), widgets, auto_choice=how, engine=engine).args[0]
            check(recorded(pack, patched, case), bare[family])


@pytest.mark.parametrize("kept", [1, 2])
def test_blocks_by_mass_of_many_tokens(pack, inference, monkeypatch, kept):
    """How many blocks make up a mass, and so how much is gathered, may be another number in each step: here it is."""
    import comfy.nested_tensor

    case, engine, calls = PLAIN["LTX-2"], pack.attention.sparse.gather_blocks, []
    video, audio = case.latent().unbind()
    video = torch.randn(*video.shape[:2], 4, 12, 12, generator=torch.Generator().manual_seed(1))
    case = replace(case, latent=lambda: comfy.nested_tensor.NestedTensor([video, audio]))
    select = engine.select_blocks

    def other(*args):
        seen = select(*args)
        calls.append(1)
        return torch.arange(seen.shape[-1]).expand(seen.shape) <= len(calls) % seen.shape[-1]

    monkeypatch.setattr(engine, "select_blocks", other)
    model = case.build()
    alone = recorded(pack, model, case)
    widgets = {**choices(pack)["blocks by mass"], "refresh": kept}
    recorder = recorded(pack, shaped(pack, model, "blocks by mass", widgets, engine="blocks").args[0], case)
    check(recorder, alone)
    assert len(calls) > 2 and not alone.breaks()
