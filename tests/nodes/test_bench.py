"""The benchmark of a model's real calls: every backend is there, the numbers are real, and nothing is changed."""

import numpy as np
import torch
from stand_in_host import SDPA, sdpa_host

from attention.backends import registry
from attention.backends.autotune import KernelTrial
from attention.core.canvas import LINE, MARGIN, NEUTRAL, TITLE, WIDTH
from attention.core.geometry import describe
from attention.plans import bench, bench_file
from attention.plans.draw_bench import draw_trials
from benchmarks import attention as command
from benchmarks import dispatch
from benchmarks.shapes import Shape


def test_every_backend_is_timed_or_says_why_not():
    override, x, text = bench.Bench(), torch.randn(1, 40, 24), torch.randn(1, 7, 24)
    for _ in range(3):
        assert torch.equal(override(sdpa_host, x, x, x, 3), sdpa_host(x, x, x, 3)), (
            "the model gets the host's own result"
        )
        override(sdpa_host, x, text, text, 3, mask=torch.zeros(1, 1, 1, 7))
    assert [(role, call.kv_len) for role, call in override.trials] == [("self", 40), ("cross", 7)]
    for trials in override.trials.values():
        assert {t.name for t in trials} == {"host", *registry.names()}
        ran = [t for t in trials if t.reason is None]
        assert ran == sorted(ran, key=lambda t: t.seconds) and all(t.seconds > 0 for t in ran)
        assert all(t.error < 1e-5 for t in ran)
    table = bench.to_text(override.trials)
    assert "1.00x" in table and "needs cuda" in table
    assert draw_trials(override.trials).height > 300


def test_no_bar_hides_a_name():
    x = torch.zeros(1, 2, 8, 16)
    trial = KernelTrial("host", 0.003, host="attention_of_a_module_with_a_very_long_name", named=True)
    picture = np.asarray(draw_trials({("self", describe(x, x, x)): (trial,)}))
    rows, columns = np.nonzero((picture == NEUTRAL).all(-1))
    # A heading, a name and its figures stand above it.
    assert rows.min() > TITLE + 3 * LINE and (columns.min(), columns.max()) == (MARGIN, WIDTH - MARGIN - 1)


def test_a_wrong_kernel_shows_its_error(monkeypatch):
    monkeypatch.setitem(registry._LOADED, "sdpa", lambda q, k, v, mask=None, scale=None: SDPA(q, k, v) * 0.72)
    override, x = bench.Bench(), torch.randn(1, 40, 24)
    override(sdpa_host, x, x, x, 3)
    (trials,) = override.trials.values()
    assert abs(next(t.error for t in trials if t.name == "sdpa") - 0.28) < 1e-4


def test_an_override_before_it_still_runs():
    seen, x = [], torch.randn(1, 9, 24)

    def foreign(func, *args, **kwargs):
        seen.append(1)
        return func(*args, **kwargs)

    bench.Bench(foreign)(sdpa_host, x, x, x, 3)
    assert seen == [1]


def test_torch_compile_does_not_look_inside():
    import torch._dynamo.utils

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    override, q = bench.Bench(), torch.randn(1, 8, 32)
    model = torch.compile(lambda q: override(sdpa_host, q, q + 1, q, 2) + 1, backend="eager")
    torch.testing.assert_close(model(q), sdpa_host(q, q + 1, q, 2) + 1)
    (why,) = torch._dynamo.utils.counters["graph_break"]
    assert "torch.compiler.disable" in why and len(override.trials) == 1
    torch._dynamo.reset()


def test_the_node_measures_a_real_model(lab, plain):
    node = lab.pack.nodes.benchmark.VideoAttentionBenchmark
    table, picture, data = node.execute(lab.model, lab.prompt[0], {"samples": torch.zeros(1, 128, 2, 3, 4)}, 1).args
    assert "self-attention" in table and "cross-attention" in table and "| sdpa |" in table
    assert picture.ndim == 4 and picture.shape[-1] == 3
    read = bench_file.from_json(data)
    assert {call["role"] for call in read["calls"]} == {"self", "cross"} and "comfyui" in read["versions"]
    assert read["model"] == "LTXVModel" and any(row["ms"] for row in read["calls"][0]["kernels"])
    assert torch.equal(lab.sample(), plain) and lab.hooks(lab.model) == 0


def test_the_command_shows_auto_beside_the_hosts_own():
    shape, name = Shape("tiny", (2, 3, 4), 2, 16), "ComfyUI pytorch"
    result = command.run_shape(shape, torch.device("cpu"), torch.float32, 3, {name: sdpa_host}, lambda: None)
    rows = {row["kernel"]: row for row in result["rows"]}
    assert {name, f"auto on {name}", "sdpa"} <= set(rows) and "needs cuda" in result["refused"]["sdpa cudnn"]
    assert all(row["ms"] > 0 and row["error"] < 1e-5 for row in rows.values())
    (auto,) = result["auto"]
    assert auto["host"] == name and auto["ratio"] > 0 and (auto["took"] in rows or "host default" in auto["took"])
    facts = {"machine": "m", "torch": "t", "dtype": "float32", "date": "d", "matmul_tflops": 1.0, "shapes": [result]}
    facts["scaled"] = True
    assert "Scaled down for a CPU" in command.markdown(facts)
    assert "- sdpa cudnn: needs cuda" in command.markdown(facts)
    assert f"`auto` on {name}: {auto['ratio']:.2f} times as fast, took {auto['took']}." in command.markdown(facts)


def test_a_host_that_fails_is_a_line_of_the_table():
    def broken(*args, **kwargs):
        raise RuntimeError("no kernel image")

    result = command.run_shape(
        Shape("tiny", (1, 2, 4), 1, 8), torch.device("cpu"), torch.float32, 2, {"bad": broken}, int
    )
    assert result["refused"]["bad"] == "RuntimeError: no kernel image" and result["auto"] == []
    assert "sdpa" in {row["kernel"] for row in result["rows"]}


def test_what_a_call_costs_is_told_for_router_and_site(lab, monkeypatch):
    """That ours is a few microseconds is for the benchmark to say: here another test may have the processor."""
    monkeypatch.setattr(dispatch, "ROUNDS", 1)
    monkeypatch.setattr(dispatch, "CALLS", 2)
    monkeypatch.setattr(dispatch.host_paths, "enter", lambda cpu: lab)
    monkeypatch.setattr(dispatch.host_paths, "our_sites", lambda: lab.pack.nodes.host.site_hooks)
    figures = dispatch.measure()
    assert figures["host's function"][1] == 0 and figures["module"][1] == 0
    assert figures["router, sdpa"][0] > 0 and figures["module that tells its site"][0] > 0
    assert "| router, sdpa |" in dispatch.table(figures)
