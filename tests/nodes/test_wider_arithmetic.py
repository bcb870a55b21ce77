"""Models that ask for wider arithmetic than their tensors', as ComfyUI's U-Nets do in 16 bit: patterns run in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from video_calls import draw, place_of
from widget_defaults import defaults

import attention.patterns as p
from attention import sparse
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2
from attention.routing.attention_call import AttentionCall
from attention.sparse import engine_registry

PATTERNS = [p.Neighbourhood(3, 50, 50), p.Spatial(), p.TemporalWindow(1)]
EXACT = [engine.name for engine in sparse.TABLE if engine.exact]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda x: x.name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_exact_engines_compute_in_it(pattern, dtype):
    """As near to float64 as rounding the result: sums in 16 bit are not."""
    video_span = place_of((4, 5, 6), 3)
    tensors = [t.to(dtype) for t in draw(video_span)]
    call = describe(*tensors, precision=torch.float32)
    assert call.high_precision and call.dtype == torch.float32
    runners = engine_registry.runners(pattern, video_span, call)
    assert not isinstance(runners, Reason) and {name for r in runners for name in r.engines} <= set(EXACT)
    wide = [t.double() for t in tensors]
    truth = engine_registry.runners(pattern, video_span, describe(*wide))[0](*wide)
    for runner in runners:
        out = AttentionCall(None, *tensors, tensors[0].shape[1], None, torch.float32, True).run(runner.kernel)
        assert out.dtype == dtype and relative_l2(out, truth) < 2 * torch.finfo(dtype).eps


def test_engines_that_quantise_refuse_it():
    video_span = place_of((4, 5, 6))
    call = replace(describe(*draw(video_span)), high_precision=True)
    for engine in sparse.TABLE:
        if not engine.exact:
            found = engine_registry.runners(p.TopBlocks(50), video_span, call, engine=engine.name)
            assert found == f"{engine.name}: the model asks for exact attention here"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_svd_is_shaped_in_its_usual_type(dtype, pack, inference):
    import comfy.model_patcher
    from tiny import CASES
    from tiny.case import fill, sample

    case = next(case for case in CASES if str(case) == "Stable Video Diffusion")
    config = case.build().model.model_config
    half = type(config)(dict(config.unet_config))
    half.set_inference_dtype(dtype, None)
    inner = half.get_model({}, "", device="cpu")
    fill(inner.diffusion_model)
    cpu = torch.device("cpu")
    model = comfy.model_patcher.ModelPatcher(inner, load_device=cpu, offload_device=cpu)
    node = pack.nodes.pattern.VideoAttentionPattern
    values = defaults(node) | {"min_tokens": 0, "start_percent": 0.0}
    on = node.execute(model, pattern={"pattern": "temporal window", "time": 1.0}, **values).args[0]
    out, plain = sample(on, case), sample(model, case)
    report = pack.nodes.host.run_history.find(out)
    shaped = sum(row.calls for row in report.rows if "temporal window" in row.used)
    assert shaped and torch.isfinite(out).all() and not torch.equal(out, plain)
    assert not any("exact" in reason for _, _, reason in report.fallbacks)
