"""Plans of this machine: what describes a MODEL, which candidates there are, what earlier calibrations had measured."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile

import comfy.model_management
import folder_paths
import torch
from comfyui_version import __version__ as comfyui

from ...attention import patterns
from ...attention.backends import registry
from ...attention.forecast import ForecastSettings
from ...attention.inspect.info import examine
from ...attention.plans import plan_file
from ...attention.plans.plan import Candidate, Plan
from ...attention.plans.plan_file import BadPlan
from ...attention.reuse import ReuseSettings
from ..host import model_family
from .sampling_job import Job

FOLDER = "video_attention_plans"
# Of a plan that is being written. LONGEST: bytes of a file's name without its ending; systems allow 255 in all.
PART, LONGEST = ".part", 200
# Names of devices on Windows, with any ending: a file of that name cannot be made there.
RESERVED = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789\u00b9\u00b2\u00b3"),
}
KERNELS, BOTH, PATTERNS = "kernels", "kernels and patterns", "patterns"
FORECASTS, EVERYTHING = "forecast steps", "everything"
KINDS = (KERNELS, BOTH, PATTERNS, FORECASTS, EVERYTHING)
SHAPES = (
    patterns.TemporalWindow(9),
    patterns.TemporalWindow(5),
    patterns.Spatial(),
    patterns.SlidingTile(12, 50.0, 50.0),
    patterns.Radial(50.0),
    patterns.MassBlocks(95.0),
    patterns.MassBlocks(80.0),
    patterns.TopBlocks(50.0),
    patterns.TopBlocks(25.0),
)
# For how many steps chosen blocks stand, or while they hold so much of a new choice.
REFRESH, OVERLAP = 4, 0.9
# Outputs of attention that are kept.
KEPT = (ReuseSettings(every=2), ReuseSettings(every=3))
# By the schedule alone, so that a plan takes the time that was measured; two computed steps make a line.
_OFTEN = {"warm_up": 2, "max_error": 0.0}
SKIPS = (
    ForecastSettings(in_a_row=1, **_OFTEN),
    ForecastSettings(in_a_row=2, **_OFTEN),
    ForecastSettings(in_a_row=3, **_OFTEN),
    ForecastSettings(in_a_row=6, **_OFTEN),
    ForecastSettings(in_a_row=12, **_OFTEN),
    ForecastSettings(in_a_row=3, degree=2, **_OFTEN),
    ForecastSettings(in_a_row=6, degree=2, **_OFTEN),
)
PACKAGES = ("torch", "triton", "comfy-kitchen", "sageattention", "sageattn3", "flash-attn", "xformers")
# (weak reference to the MODEL, digest of the rest of a Job, what was measured), newest last.
_MEASURED: deque[tuple] = deque(maxlen=4)
# address of a living object -> (weak reference to it, its number).
_NUMBERS: dict[int, tuple] = {}
_COUNT = itertools.count(1)
PLAIN = (str, int, float, bool, torch.dtype, torch.device, Enum)


def candidates(kind: str) -> list[Candidate]:
    """Lists what a calibration tries in attention: every kernel here, except slow ones kept for comparison, some
    patterns, choices of blocks that are kept, and outputs that are kept.

    kind: one of KINDS.
    """
    found = []
    if kind in (KERNELS, BOTH, EVERYTHING):
        rows = [row for row in registry.TABLE if row.auto or registry.seen_right(row.name) or coarse(row)]
        found += [Candidate(row.name) for row in rows if registry.why_not(row.name) is None]
    if kind in (PATTERNS, BOTH, EVERYTHING):
        found += [Candidate(pattern=pattern) for pattern in SHAPES]
        choosing = [pattern for pattern in SHAPES if hasattr(pattern, "refresh")]
        found += [Candidate(pattern=replace(pattern, refresh=REFRESH)) for pattern in choosing]
        found += [Candidate(pattern=pattern, refresh_overlap=OVERLAP) for pattern in choosing]
    if kind == EVERYTHING:
        found += [Candidate(reuse=settings) for settings in KEPT]
    return found


def forecasts(kind: str) -> list[ForecastSettings]:
    """Lists what a calibration tries in place of computing steps.

    kind: one of KINDS.
    """
    return list(SKIPS) if kind in (FORECASTS, EVERYTHING) else []


def coarse(row: registry.Backend) -> bool:
    """Tells whether a kernel that `auto` never takes may still be worth its error."""
    return not (row.limits.exact or row.promise)


def remembered(job: Job, *others) -> dict:
    """Finds what was measured on this very sampling before; a new dict if nothing was. The last few are kept.

    others: more prompts of it, each a CONDITIONING.
    """
    digest = _digest(
        (job.positive, job.negative, job.cfg, job.sigmas, job.latent["samples"], job.latent.get("noise_mask"), job.seed,
         others, job.sampler.sampler_function.__name__, sorted(job.sampler.extra_options.items()),
         job.sampler.inpaint_options)
    )  # fmt: skip
    for model, known, found in _MEASURED:
        if model() is job.model and known == digest:
            return found
    _MEASURED.append((weakref.ref(job.model), digest, {}))
    return _MEASURED[-1][2]


def _digest(value) -> str:
    """Digests a value: tensors by their numbers, tables and lists by their members, other objects by who they are and
    by the values that they hold: a ControlNet's strength may have been changed on it.
    """
    if getattr(value, "is_nested", False):
        value = tuple(value.unbind())
    if torch.is_tensor(value):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return hashlib.sha256(raw).hexdigest() + str(tuple(value.shape))
    if isinstance(value, dict):
        return "{" + ",".join(f"{name!r}:{_digest(one)}" for name, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_digest, value)) + "]"
    if value is None or isinstance(value, PLAIN):
        return repr(value)
    held = {name: one for name, one in getattr(value, "__dict__", {}).items() if _tells(one)}
    return f"{type(value).__name__} {_number(value)} {_digest(held)}"


def _tells(value) -> bool:
    """Tells whether an object's attribute is a value, or a few in a row, and no object that has to be gone into."""
    some = value if isinstance(value, (list, tuple)) else (value,)
    return all(one is None or isinstance(one, PLAIN) or torch.is_tensor(one) for one in some)


def _number(value) -> int:
    """Numbers an object: the same as long as it lives, and never given twice, as addresses in memory are."""
    reference, number = _NUMBERS.get(id(value), (lambda: None, 0))
    if reference() is value:
        return number
    number, at = next(_COUNT), id(value)
    with suppress(TypeError):  # what cannot be referred to weakly is another one each time
        _NUMBERS[at] = weakref.ref(value, lambda _: _NUMBERS.pop(at, None)), number
    return number


def blank(model, samples=None) -> Plan:
    """Makes a plan without steps that describes this MODEL, this machine and, with a latent, its size."""
    tokens = None if samples is None else model_family.tokens_of_latent(model, samples)
    net = model.model.diffusion_model
    info = examine(net, model_family.family_of(model), tokens)
    names = "\n".join(name for name, _ in net.named_modules())
    return Plan(
        model=info.model, fingerprint=hashlib.sha256(names.encode()).hexdigest()[:16], blocks=len(info.blocks),
        heads=info.heads, head_dim=info.head_dim, device=device_name(), tokens=info.tokens, versions=versions(),
    )  # fmt: skip


def device_name() -> str:
    """Names the device that ComfyUI computes on."""
    device = comfy.model_management.get_torch_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions() -> tuple[tuple[str, str], ...]:
    """Lists the versions of ComfyUI and of the kernels' packages that are installed."""
    found = [("comfyui", comfyui)]
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def missing(found: Plan) -> list[str]:
    """Says of each kernel of the plan that is not here, a sentence each, that its rules would fall back."""
    wanted = dict.fromkeys(step.candidate.backend for step in found.steps if step.candidate.backend)
    reasons = {name: registry.why_not(name) for name in wanted if name != registry.HOST}
    return [f"{name} cannot run here ({why}): its parts stay exact." for name, why in reasons.items() if why]


def folder() -> Path:
    """Gives the folder where plans are kept: the user's own."""
    return Path(folder_paths.get_user_directory()) / FOLDER


def path_of(filename: str) -> Path:
    """Gives the file of that name in the plans' folder. Raises ValueError for a name that not every system can have."""
    wrong = wrong_name(filename)
    if wrong:
        raise ValueError(wrong)
    return folder() / f"{filename.removesuffix('.json')}.json"


def wrong_name(filename) -> str | None:
    """Says in one sentence why a file name cannot be kept on every system; None where it can."""
    if not isinstance(filename, str):
        return f"filename: {str(filename)[:60]!r} is not a name."
    stem = filename.removesuffix(".json")
    if not stem or stem.startswith(".") or not all(c.isalnum() or c in " -_." for c in stem):
        return f"filename: {filename[:60]!r} may hold letters, digits, spaces, -, _ and dots only."
    if stem != stem.strip(" ") or stem.endswith("."):
        return f"filename: {filename[:60]!r} begins or ends with a space or a dot, which Windows takes off."
    if stem.split(".")[0].strip().upper() in RESERVED:
        return f"filename: {filename[:60]!r} is a device's name on Windows; write 'my {stem}' for example."
    size = len(stem.encode("utf-8", "replace"))
    if size > LONGEST:
        return f"filename: {filename[:30]!r}... takes {size} bytes, more than the {LONGEST} that a name may have."
    return None


def write(found: Plan, path: Path) -> None:
    """Keeps a plan, as `keep` does. Raises BadPlan when it could not be read again."""
    text = plan_file.to_json(found)
    plan_file.from_json(text)
    keep(text.encode("utf-8"), path, f"user/{FOLDER}")


def keep(raw: bytes, path: Path, where: str) -> None:
    """Writes a file, whole or, should the disk be full, not at all.

    raw: its bytes.
    where: the folder, as a sentence names it.
    Raises ValueError when it cannot be written.
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        # A name of its own: of two writers each must replace the file by what it wrote itself.
        with NamedTemporaryFile("wb", dir=path.parent, suffix=PART, prefix="", delete=False) as file:
            part = Path(file.name)
            file.write(raw)
        part.replace(path)
    except OSError as error:
        raise ValueError(f"filename: {path.name} cannot be written in {where}: {error.strerror or error}.") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Removes what writers that were killed have left in the folder: nobody writes for an hour."""
    for left in path.parent.glob(f"*{PART}"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()


def read(path: Path) -> Plan:
    """Reads the plan in a file, as UTF-8, UTF-16 or UTF-32, with or without a byte order mark: editors save it so.

    Raises ValueError when there is no such file; BadPlan when it holds anything else.
    """
    if not path.is_file():
        raise ValueError(f"filename: there is no {path.name} in user/{FOLDER}.")
    with path.open("rb") as file:
        raw = file.read(plan_file.MAX_BYTES + 1)
    if len(raw) > plan_file.MAX_BYTES:
        raise BadPlan(f"plan: {path.name} has more than the {plan_file.MAX_BYTES} bytes that a plan may have.")
    try:
        return plan_file.from_json(raw.decode(json.detect_encoding(raw)))
    except UnicodeDecodeError:
        raise BadPlan(f"plan: {path.name} is not text; save it as UTF-8.") from None
