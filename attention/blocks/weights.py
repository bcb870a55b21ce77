"""Blocks in and out of safetensors files.

A file holds the weights under their names in the module and one metadata entry, `video_attention_blocks`: a JSON
object with `kind`, the name of the class, and the fields of the dataclasses that it is made from.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file

from .axes import (
    CrossAttention,
    Dims,
    FactorisedAttention,
    SpatialAttention,
    SpatioTemporalAttention,
    TemporalAttention,
)
from .temporal import TemporalBlocks, TemporalConfig

ENTRY = "video_attention_blocks"
# Characters of a file's own description.
MOST_TEXT = 1 << 16
# For each class: the names of its arguments, and the dataclass of each.
KINDS = {
    SpatialAttention: {"dims": Dims},
    TemporalAttention: {"dims": Dims},
    SpatioTemporalAttention: {"dims": Dims},
    FactorisedAttention: {"spatial": Dims, "temporal": Dims},
    CrossAttention: {"dims": Dims},
    TemporalBlocks: {"config": TemporalConfig},
}
_BY_NAME = {kind.__name__: kind for kind in KINDS}


def save(module: torch.nn.Module, path: Path, dtype: torch.dtype = torch.float16, note: dict | None = None) -> None:
    """Write a module to a safetensors file.

    module: of one of KINDS.
    dtype: of the weights in the file.
    note: what else to say of it, as the metadata entry `note`.
    """
    arguments = {name: dataclasses.asdict(_argument(module, name)) for name in KINDS[type(module)]}
    metadata = {ENTRY: json.dumps({"kind": type(module).__name__, **arguments})}
    if note is not None:
        metadata["note"] = json.dumps(note)
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in module.state_dict().items()}
    save_file(weights, path, metadata=metadata)


def load(path: Path, ops=torch.nn) -> torch.nn.Module:
    """Load the module of a file that `save` wrote, with layers of `ops` in the file's dtype and without gradients.

    ValueError with one sentence when it is no such file, or a damaged one.
    """
    name = Path(path).name
    try:
        with safetensors.safe_open(path, "pt") as file:
            entry, count = (file.metadata() or {}).get(ENTRY), len(file.keys())
    except Exception as error:
        raise ValueError(f"{name} is no safetensors file: {_short(error)}.") from None
    if entry is None:
        raise ValueError(f"{name} holds no attention blocks: its metadata have no entry {ENTRY!r}.")
    try:
        described = _read(entry, count)
        with torch.device("meta"):
            wanted = _build(described, torch.nn)
    except Exception as error:  # what a file says may be anything, and so may the layers that are asked for it
        text = _short(error)
        raise ValueError(f"{name}: the metadata entry {ENTRY!r} describes no blocks known here: {text}.") from None
    found = load_file(path)
    _compare(wanted.state_dict(), found, name)
    module = _build(described, ops)
    module.load_state_dict(found, assign=True)
    return module.requires_grad_(False)


def _short(error: Exception) -> str:
    """Return the first line of an error, without its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].removesuffix(".")


def _read(entry: str, weights: int) -> dict:
    """Read the description in the metadata. ValueError for one that no file with so many weights can mean: layers
    are made for all that it names."""
    if len(entry) > MOST_TEXT:
        raise ValueError(f"it has {len(entry)} characters, more than {MOST_TEXT}")
    described = json.loads(entry)
    for field, values in described.items():
        for name, value in values.items() if field != "kind" else ():
            if not all(map(_plain, value if isinstance(value, list) else [value])):
                raise ValueError(f"{name[:40]} of {field[:40]} cannot be {repr(value)[:40]}")
            if isinstance(value, list) and len(value) > weights:
                raise ValueError(f"{name[:40]} has {len(value)} entries, the file {weights} weights")
    return described


def _plain(value) -> bool:
    """Tell whether this is a short text, a count or size, or a finite number."""
    if isinstance(value, str):
        return len(value) <= 100
    return type(value) in (int, float) and 0 <= value < 1 << 31


def _argument(module, name):
    """Return the dataclass that `module` was made from."""
    found = module if name in ("dims", "config") else getattr(module, name)
    return found.config if name == "config" else found.heads.dims


def _build(described: dict, ops) -> torch.nn.Module:
    kind = _BY_NAME[described["kind"]]
    unknown = set(described) - {"kind", *KINDS[kind]}
    if unknown:
        raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
    arguments = {
        name: made(
            **{key: tuple(value) if isinstance(value, list) else value for key, value in described[name].items()}
        )
        for name, made in KINDS[kind].items()
    }
    return kind(**arguments, ops=ops)


def _compare(wanted: dict, found: dict, name: str) -> None:
    """Raise ValueError about the first weight that is missing, needless or of another shape."""
    for key, value in found.items():
        if not value.is_floating_point():
            raise ValueError(f"{name}: the weight {key[:100]} is of {value.dtype}, not of fractions.")
    wanted, found = ({key: tuple(value.shape) for key, value in weights.items()} for weights in (wanted, found))
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            raise ValueError(
                f"{name}: the weight {key[:100]} is {found.get(key) or 'missing'}, its metadata ask for "
                f"{wanted.get(key) or 'no such weight'}."
            )
