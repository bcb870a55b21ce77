"""What makes ready for minutes with a GPU: the line that is printed, the wheels, which kernels are compiled before."""

from __future__ import annotations

import importlib.util
import sys
import zipfile

import gpu_ready
import gpu_wheels
import pytest

from benchmarks.gpu import __main__ as command

LINUX = importlib.util.find_spec("triton") is not None and sys.platform == "linux"


def ran(monkeypatch, *arguments, **steps) -> int:
    """gpu_ready with steps in place of its own: each gives what is wrong."""
    monkeypatch.setattr(
        gpu_ready, "DO", {step: lambda options, step=step: steps.get(step, []) for step in gpu_ready.STEPS}
    )
    monkeypatch.setattr(sys, "argv", ["gpu_ready", *arguments])
    return gpu_ready.main()


def test_the_line_to_run_is_printed_and_its_arguments_are_understood(monkeypatch, capsys):
    assert ran(monkeypatch, "--minutes", "7.5", "--out", "there") == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith("python3 -m pip install"))
    install, site, run = line.split(" && ")
    assert "--no-index" in install and f"{gpu_wheels.FOLDER}/*.whl" in install and gpu_wheels.SITE in site
    words = run.split()
    assert words[:3] == ["python3", "-m", "benchmarks.gpu"]
    options = command.arguments(words[3:])
    assert options.minutes == 7.5 and str(options.out) == "there"
    assert "The plan for 7.5 minutes" in said and "Not checked here:" in said and said.rstrip().endswith("READY")


def test_a_fault_is_told_and_what_was_skipped_is_not_called_checked(monkeypatch, capsys):
    assert ran(monkeypatch, "--skip", "pack,compile") == 0
    assert capsys.readouterr().out.rstrip().endswith("READY, but for what was skipped: pack, compile")
    assert ran(monkeypatch, "--skip", "pack", dry=["the row of a kernel failed"]) == 1
    said = capsys.readouterr().out
    assert "dry: the row of a kernel failed" in said and "- pack: skipped" in said and "NOT READY: 1 faults" in said


def test_the_dry_step_tells_rows_that_failed(monkeypatch, tmp_path, capsys):
    """With a stand-in of the benchmark that writes two bad rows, and has a task that did not end."""
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "gpu.py").write_text(
        "import json, sys\n"
        "rows = [{'task': 't', 'kernel': 'k', 'failed': 'no'}, {'task': 't', 'kernel': 'w', 'right': 'no: ragged'}]\n"
        "data = {'rows': rows, 'tasks': {'t': {'state': 'done'}, 'u': {'state': 'begun'}}, 'facts': {'python': '3'}}\n"
        "open(sys.argv[-1] + '/gpu.json', 'w').write(json.dumps(data))\n"
    )
    monkeypatch.setattr(gpu_ready, "ROOT", tmp_path)
    found = gpu_ready.dry(type("Options", (), {"python": None}))
    assert len(found) == 3 and "u is begun" in found[0]
    assert found[1].endswith("t, k: no") and "w is wrong: no: ragged" in found[2]


def test_a_benchmark_that_does_not_come_up_is_no_dry_run(monkeypatch, tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "gpu.py").write_text("import sys\nsys.exit('No module named rich')\n")
    monkeypatch.setattr(gpu_ready, "ROOT", tmp_path)
    (fault,) = gpu_ready.dry(type("Options", (), {"python": None}))
    assert "No module named rich" in fault


def test_a_wheel_is_made_smaller_and_stays_one(tmp_path):
    wheel = tmp_path / "comfy_kitchen-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        for name in ("comfy_kitchen/__init__.py", "comfy_kitchen/backends/hip/_C.abi3.so", "x.dist-info/RECORD"):
            made.writestr(name, "made up" * 1000)
    gpu_wheels.slim(wheel)
    with zipfile.ZipFile(wheel) as made:
        assert made.namelist() == ["comfy_kitchen/__init__.py", "x.dist-info/RECORD"] and made.testzip() is None
    assert list(tmp_path.iterdir()) == [wheel]


def test_sizes_are_told_with_the_limit(tmp_path, monkeypatch, capsys):
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(bytes(3 * 2**20))
    assert gpu_wheels.report(tmp_path) == []
    said = capsys.readouterr().out
    assert "3.00 MiB  a-1-py3-none-any.whl" in said and "3.00 MiB of wheels" in said
    monkeypatch.setattr(gpu_wheels, "LIMIT", 2**20)
    assert "more than 1 MiB" in gpu_wheels.report(tmp_path)[0]


def test_nothing_that_is_fetched_can_be_committed():
    assert f"{gpu_wheels.FOLDER}/" in (gpu_ready.ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.skipif(not LINUX, reason="triton is not installed")
@pytest.mark.parametrize("architecture", [80, 89, 90, 120])
def test_what_is_compiled_before_is_what_ships(architecture):
    import compile_kernels as kernels
    import gpu_compile
    from kernel_targets import WITH_FLOAT8

    ships, tried = gpu_compile.launched(architecture), gpu_compile.tried(architecture)
    assert len({target.name for target in ships}) == len(ships)
    assert any(target.float8 for target in ships) is (architecture in WITH_FLOAT8)
    for target in ships:
        assert kernels.source(target)[0].fn is not None
    capability = divmod(architecture, 10)
    assert tried and all(
        cut != kernels.tiling_for(capability, target.quantized, target.head_dim, bias=False,
                                  listed=target.way != "dense")
        for target, cut in tried
    )  # fmt: skip


@pytest.mark.skipif(not LINUX, reason="triton is not installed")
def test_the_shared_memory_of_a_cut_is_guessed_as_it_was_compiled():
    """By the table of what was compiled for Hopper: what a call takes is within a tile of what is guessed."""
    import compile_kernels as kernels

    from benchmarks.floors import compiled
    from benchmarks.gpu import cuts

    for quantized, kind in ((True, "int8"), (False, "float16")):
        for size in (64, 128):
            cut = cuts.shipped((9, 0), quantized, size, False)
            taken = compiled()[f"sm_90, dense, {kind}, head size {size}"]["shared_kib"]
            tile = cut.n * size * (3 if quantized else 4) / 1024
            assert cuts.fits(cut, quantized, size, False, kib=taken + tile)
            assert not cuts.fits(cut, quantized, size, False, kib=taken - tile)
            assert all(
                cuts.fits(one, quantized, size, False, kib=kernels.SHARED_KIB[90])
                for one in cuts.candidates((9, 0), quantized, size, False)
            )


def test_kernels_that_are_slower_there_are_told_and_no_fault(monkeypatch, tmp_path, capsys):
    """With a stand-in of gpu_compile.py: one kernel is slow with that Triton, one does not compile."""
    told = {"triton": "9", "kernels": 2, "seconds": 1.0, "longest": 1.0, "cuts_left_out": [], "slow": ["slow one"]}
    script = tmp_path / "compiling.py"
    script.write_text(f"import json; print(json.dumps({ {**told, 'faults': ['bad one']} }))\n")
    monkeypatch.setattr(gpu_ready, "COMPILING", script)
    found = gpu_ready.compile_all(type("Options", (), {"python": None, "architecture": 90}))
    assert found == ["Triton 9: bad one"] and "slower with this Triton: slow one" in capsys.readouterr().out
