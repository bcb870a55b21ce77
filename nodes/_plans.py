"""Plans of this machine: what describes a MODEL, which candidates there are, what earlier calibrations had measured."""

from __future__ import annotations

import hashlib
import weakref
from collections import deque
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from comfyui_version import __version__ as comfyui

from ..attention import patterns, plan, registry
from ..attention.info import examine
from ..attention.plan import BadPlan, Candidate, Plan
from . import _sites
from ._sampling import Job

FOLDER = "video_attention_plans"
KERNELS, BOTH, PATTERNS = "kernels", "kernels and patterns", "patterns"
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
PACKAGES = ("torch", "triton", "comfy-kitchen", "sageattention", "sageattn3", "flash-attn", "xformers")
# (weak reference to the MODEL, digest of the rest of a Job, what was measured), newest last.
_MEASURED: deque[tuple] = deque(maxlen=4)


def candidates(kind: str) -> list[Candidate]:
    """What a calibration tries: every kernel that is here, except slow ones kept for comparison, and some patterns."""
    found = []
    if kind != PATTERNS:
        rows = [row for row in registry.TABLE if row.auto or registry.seen_right(row.name) or coarse(row)]
        found += [Candidate(row.name) for row in rows if registry.why_not(row.name) is None]
    if kind != KERNELS:
        found += [Candidate(pattern=pattern) for pattern in SHAPES]
    return found


def coarse(row: registry.Backend) -> bool:
    """Whether a kernel that `auto` never takes may still be worth its error."""
    return not (row.limits.exact or row.promise)


def remembered(job: Job) -> dict:
    """What was measured on this very sampling before; a new dict if nothing was. The last few samplings are kept."""
    digest = _digest(
        (job.positive, job.negative, job.cfg, job.sigmas, job.latent["samples"], job.latent.get("noise_mask"), job.seed,
         job.sampler.sampler_function.__name__, sorted(job.sampler.extra_options.items()))
    )  # fmt: skip
    for model, known, found in _MEASURED:
        if model() is job.model and known == digest:
            return found
    _MEASURED.append((weakref.ref(job.model), digest, {}))
    return _MEASURED[-1][2]


def _digest(value) -> str:
    """Of tensors by their numbers, of tables and lists by their members, of other objects by their identity."""
    if getattr(value, "is_nested", False):
        value = tuple(value.unbind())
    if torch.is_tensor(value):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return hashlib.sha256(raw).hexdigest() + str(tuple(value.shape))
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_digest(one)}" for name, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_digest, value)) + "]"
    plain = value is None or isinstance(value, (str, int, float))
    return repr(value) if plain else f"{type(value).__name__} {id(value)}"


def blank(model, samples=None) -> Plan:
    """A plan without steps that describes this MODEL, this machine and, with a latent, its size."""
    tokens = None if samples is None else _sites.tokens_of_latent(model, samples)
    net = model.model.diffusion_model
    info = examine(net, _sites.family_of(model), tokens)
    names = "\n".join(name for name, _ in net.named_modules())
    return Plan(
        model=info.model, fingerprint=hashlib.sha256(names.encode()).hexdigest()[:16], blocks=len(info.blocks),
        heads=info.heads, head_dim=info.head_dim, device=device_name(), tokens=info.tokens, versions=versions(),
    )  # fmt: skip


def device_name() -> str:
    device = comfy.model_management.get_torch_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions() -> tuple[tuple[str, str], ...]:
    """Of ComfyUI and of the kernels' packages that are installed."""
    found = [("comfyui", comfyui)]
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def missing(found: Plan) -> list[str]:
    """A sentence for each kernel of the plan that is not here: its rules would fall back."""
    wanted = dict.fromkeys(step.candidate.backend for step in found.steps if step.candidate.backend)
    reasons = {name: registry.why_not(name) for name in wanted if name != registry.HOST}
    return [f"{name} cannot run here ({why}): its parts stay exact." for name, why in reasons.items() if why]


def folder() -> Path:
    """Where plans are kept: the user's own folder."""
    return Path(folder_paths.get_user_directory()) / FOLDER


def path_of(filename: str) -> Path:
    """The file of that name in the plans' folder. ValueError for a name that would leave it."""
    stem = filename.removesuffix(".json")
    if not stem or len(stem) > 100 or not all(c.isalnum() or c in " -_." for c in stem) or stem.startswith("."):
        raise ValueError(f"filename: {filename[:60]!r} may hold letters, digits, spaces, -, _ and dots only.")
    return folder() / f"{stem}.json"


def write(found: Plan, path: Path) -> None:
    """Keeps a plan. A file of that name is replaced whole or, should the disk be full, not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(plan.to_json(found), encoding="utf-8")
    part.replace(path)


def read(path: Path) -> Plan:
    """The plan in a file. ValueError when there is none; BadPlan when it holds anything else."""
    if not path.is_file():
        raise ValueError(f"filename: there is no {path.name} in user/{FOLDER}.")
    with path.open("rb") as file:
        raw = file.read(plan.MAX_BYTES + 1)
    if len(raw) > plan.MAX_BYTES:
        raise BadPlan(f"plan: {path.name} has more than the {plan.MAX_BYTES} bytes that a plan may have.")
    try:
        return plan.from_json(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadPlan(f"plan: {path.name} is not text.") from None
