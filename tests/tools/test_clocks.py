"""A GPU's clocks as found. `nvidia-smi` is a stand-in here, a script that answers what it is told to and keeps its
arguments; torch's own functions are stand-ins too: neither can run without a GPU."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks import clocks, kernel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script, no .exe")
CUDA = torch.device("cuda")
TOLD = "1755, 2619, 1980, 2619, 412.31, 700.00, 54"
UUID = "0a1b2c3d-0000-1111-2222-333344445555"


@pytest.fixture
def smi(monkeypatch, tmp_path):
    """smi(text, ...): `nvidia-smi` answers so, and what it was asked is given; without a call there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID))
    asked = tmp_path / "asked"

    def answer(text: str, status: int = 0, error: str = ""):
        program = tmp_path / "nvidia-smi"
        program.write_text(
            f"#!{sys.executable}\nimport json, sys\nopen({str(asked)!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
            f"print({text!r})\nprint({error!r}, file=sys.stderr)\nsys.exit({status})\n"
        )
        program.chmod(0o755)
        return lambda: json.loads(asked.read_text())

    return answer


@pytest.fixture
def of_torch(monkeypatch):
    monkeypatch.setattr(torch.cuda, "clock_rate", lambda device: 1700)
    monkeypatch.setattr(torch.cuda, "power_draw", lambda device: 398500)
    monkeypatch.setattr(torch.cuda, "temperature", lambda device: 51)


def test_what_nvidia_smi_says_of_this_gpu(smi):
    asked = smi(TOLD)
    assert clocks.now(CUDA) == {
        "sm_mhz": 1755.0, "memory_mhz": 2619.0, "max_sm_mhz": 1980.0, "max_memory_mhz": 2619.0, "watts": 412.31,
        "limit_watts": 700.0, "celsius": 54.0, "reason": None,
    }  # fmt: skip
    which, what, how = asked()
    assert which == f"--id=GPU-{UUID}" and what == "--query-gpu=" + ",".join(clocks.ASKED.values())
    assert how == "--format=csv,noheader,nounits"
    smi("570.86.10")
    assert clocks.driver(CUDA) == {"driver": "570.86.10", "cuda": torch.version.cuda, "driver_reason": None}


def test_what_a_gpu_does_not_tell_is_none(smi):
    smi("1755, 2619, 1980, 2619, [N/A], [Not Supported], 54")
    found = clocks.now(CUDA)
    assert found["watts"] is None and found["limit_watts"] is None and found["celsius"] == 54.0
    assert found["reason"] == "nvidia-smi does not tell watts, limit_watts"


FAILURES = [
    ({"text": "", "status": 9, "error": "couldn't communicate\nmore"}, "nvidia-smi ended with 9 and said: couldn't"),
    ({"text": "Field is not valid"}, "nvidia-smi ended with 0 and said: Field is not valid"),
    (None, "nvidia-smi cannot be asked (FileNotFoundError: "),
]


@pytest.mark.parametrize(("how", "reason"), FAILURES)
def test_torch_tells_what_it_can(how, reason, smi, of_torch):
    if how:
        smi(**how)
    found = clocks.now(CUDA)
    assert (found["sm_mhz"], found["watts"], found["celsius"]) == (1700.0, 398.5, 51.0)
    assert found["memory_mhz"] is None and found["limit_watts"] is None and found["reason"].startswith(reason)
    assert "\n" not in found["reason"]


def test_where_nobody_tells_the_reason_is_there(smi, monkeypatch):
    def missing(device):
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "clock_rate", missing)
    found = clocks.now(CUDA)
    assert {found[name] for name in clocks.ASKED} == {None}
    assert "FileNotFoundError" in found["reason"] and "nvidia-ml-py does not seem" in found["reason"]
    assert clocks.driver(CUDA)["driver"] is None and "FileNotFoundError" in clocks.driver(CUDA)["driver_reason"]


def test_the_table(smi):
    smi(TOLD)
    before = clocks.now(CUDA)
    span = {"tokens": 6144, "head_dim": 64, "before": before, "after": {**before, "max_sm_mhz": None, "celsius": None}}
    text = "\n".join(clocks.table([span]))
    assert "| 6144 | 64 | before | 1755 of 1980 | 2619 of 2619 | 412.31 of 700 | 54 |" in text
    assert "| 6144 | 64 | after | 1755 | 2619 of 2619 | 412.31 of 700 | - |" in text and "Not known" not in text


def test_the_benchmark_keeps_them_for_each_size(smi, monkeypatch, capsys, tmp_path):
    """A GPU that is none, whose kernels take no time: before and after each size it is asked once."""
    smi(TOLD)
    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(kernel, "machine", lambda device: "a stand-in")
    monkeypatch.setattr(
        kernel.clocks, "driver", lambda device: {"driver": "570", "cuda": "12.8", "driver_reason": None}
    )
    monkeypatch.setattr(kernel, "run", lambda tokens, head_dim, *_: seen.append((head_dim, tokens)) or [])
    file = tmp_path / "kernel.json"
    monkeypatch.setattr(sys, "argv", ["kernel", "--tokens", "6144,13376", "--head-dims", "64,128", "--json", str(file)])
    assert kernel.main() == 0
    kept = json.loads(file.read_text())
    assert [(span["head_dim"], span["tokens"]) for span in kept["clocks"]] == seen and len(seen) == 4
    assert all(span[when]["sm_mhz"] == 1755.0 for span in kept["clocks"] for when in ("before", "after"))
    assert (kept["driver"], kept["cuda"]) == ("570", "12.8")
    said = capsys.readouterr().out
    assert "a stand-in, driver 570, CUDA 12.8, torch " in said and said.count("1755 of 1980") == 8
