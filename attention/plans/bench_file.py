"""Benchmark's figures as JSON that can be shared: numbers, shapes and versions, no prompt, path or name of anyone.

A newer version of the schema only adds fields, and readers pass over those they do not know.
"""

from __future__ import annotations

import json
import math

from ..backends.autotune import HOST_RUN, KernelTrial
from ..core.geometry import MASKS, Geometry
from ..core.peak_memory import as_mib
from ..core.site import ROLES

NAME, SCHEMA = "video_attention_benchmark", 1
MAX_BYTES, MAX_ROWS, LONGEST = 1 << 20, 4096, 400
# Field -> type, of the file, of a call and of a kernel. Numbers may be whole.
FILE = {"date": str, "device": str, "model": str, "versions": dict, "calls": list}
CALL = {
    "role": str, "batch": int, "heads": int, "kv_heads": int, "q_len": int, "kv_len": int, "head_dim": int,
    "dtype": str, "mask": str, "kernels": list,
}  # fmt: skip
KERNEL = {"name": str, "ms": (float, int, type(None)), "error": (float, int, type(None)), "reason": (str, type(None))}


class BadBenchmark(ValueError):
    """A file that is not Benchmark's; the sentence says where."""


def to_json(trials: dict[tuple[str, Geometry], tuple[KernelTrial, ...]], **about) -> str:
    """Write what was measured.

    trials: (role, Geometry) -> KernelTrials, as Bench has them.
    about: `date` (ISO), `device`, `model` and `versions`, a dict of names, of the run.
    """
    calls = [
        {
            "role": role, "batch": g.batch, "heads": g.heads, "kv_heads": g.kv_heads, "q_len": g.q_len,
            "kv_len": g.kv_len, "head_dim": g.head_dim, "dtype": str(g.dtype).removeprefix("torch."), "mask": g.mask,
            "kernels": [_kernel(trial) for trial in found],
        }
        for (role, g), found in trials.items()
    ]  # fmt: skip
    return json.dumps({NAME: SCHEMA, **about, "calls": calls}, indent=1, allow_nan=False)


def _kernel(trial: KernelTrial) -> dict:
    ran = trial.reason is None
    # A kernel whose output has holes has no error that JSON could hold.
    error = trial.error if ran and math.isfinite(trial.error) else None
    reason = None if trial.reason is None else str(trial.reason)[:LONGEST]
    row = {"name": trial.name, "ms": trial.seconds * 1e3 if ran else None, "error": error, "reason": reason}
    row |= {} if trial.peak is None else {"peak_mib": as_mib(trial.peak)}
    return {**row, "host": trial.host} if trial.name == HOST_RUN else row


def from_json(text: str) -> dict:
    """Read a file's text. Raises BadBenchmark, with a sentence, for what is not Benchmark's."""
    if len(text) > MAX_BYTES:
        raise BadBenchmark(f"{len(text)} characters, more than the {MAX_BYTES} that a file may have")
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as wrong:
        raise BadBenchmark(f"not JSON ({str(wrong).splitlines()[0][:200]})") from None
    if not isinstance(data, dict) or type(data.get(NAME)) is not int or data[NAME] < 1:
        raise BadBenchmark(f"not of Video Attention Benchmark: it has no {NAME!r}")
    _check(data, FILE, "file")
    if not all(isinstance(one, str) for pair in data["versions"].items() for one in pair):
        raise BadBenchmark("file: versions is not a table of words")
    for index, call in enumerate(data["calls"]):
        where = f"call {index}"
        _check(call, CALL, where)
        if call["role"] not in ROLES or call["mask"] not in MASKS:
            raise BadBenchmark(f"{where}: role {call['role'][:40]!r} or mask {call['mask'][:40]!r} is not known")
        for row in call["kernels"]:
            _check(row, KERNEL, f"{where}, kernels")
            if (row["ms"] is None) == (row["reason"] is None):
                raise BadBenchmark(f"{where}: {row['name'][:40]!r} has both or neither of ms and reason")
            if row["ms"] is not None and not row["ms"] > 0:
                raise BadBenchmark(f"{where}: {row['name'][:40]!r} takes {row['ms']} ms")
    return data


def _check(data, fields: dict, where: str) -> None:
    """Raise BadBenchmark for a table that lacks a field or has one of another type; others are passed over."""
    if not isinstance(data, dict):
        raise BadBenchmark(f"{where} is not a table")
    for name, kind in fields.items():
        value = data.get(name)
        if name not in data or not isinstance(value, kind) or isinstance(value, bool):
            raise BadBenchmark(f"{where}: {name} is missing or {type(value).__name__}")
        if isinstance(value, list) and len(value) > MAX_ROWS or isinstance(value, str) and len(value) > LONGEST:
            raise BadBenchmark(f"{where}: {name} is too long")


def _no_constant(word: str):
    raise ValueError(f"{word} is no number of JSON")
