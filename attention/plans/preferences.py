"""Plans as plain ComfyUI reads them: entries `<module>.comfy_attention.config` that name a kernel for a module.

Such an entry is UTF-8 JSON as bytes, a list of choices of which the host takes the first that runs on its GPU; the
first hosts that read entries took one choice alone. Source: ComfyAttention in comfy/ldm/modules/attention.py, load_lora
in comfy/lora.py and ModelPatcher.add_patches of ComfyUI; "Diffusion attention preferences" in its QUANTIZATION.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import torch

from ..backends.registry import HOST
from ..core.grid import RASTER
from ..core.site import ROLES, AttentionSite
from ..patterns import AdaptiveBlocks
from ..routing.rules import Rule, format_blocks
from .plan import Candidate, Plan, PlanRule
from .plan_file import MAX_STEPS, BadPlan

SUFFIX = ".comfy_attention.config"
# Where the module's name may begin in a file: a LoRA, a checkpoint, a diffusion model alone.
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
MAX_BYTES = 4096
# This pack's name of a kernel -> the host's.
NAMES = {"comfy-kitchen int8": "comfy_kitchen_int8"}
BACKENDS = {name: backend for backend, name in NAMES.items()}
# The host's name of adaptive blocks, with their tau.
SOL = "comfy_kitchen_sol"
# Of attention modules: (name, role, block).
Modules = Iterable[tuple[str, str, int]]


def entries_of(plan: Plan, modules: Modules) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Write a plan as far as a file can say it.

    modules: the attention modules of the plan's model.
    Returns {key: entry} of a LoRA's file, and a sentence for each thing that a file cannot say.
    """
    chosen: dict[str, list] = {}
    left: dict[tuple[str, str], list[int]] = {}
    for name, role, block in modules:
        choices, reason = _choices_for(plan, AttentionSite("", role, block))
        chosen.setdefault(name, []).append(choices)
        if reason:
            left.setdefault((role, reason), []).append(block)
    said = ["Forecast steps: a file names kernels alone."] if plan.forecasts else []
    said += ["The memory of a call: a file names kernels alone."] if plan.memory else []
    said += [f"{role}, blocks {format_blocks(blocks)}: {reason}." for (role, reason), blocks in left.items()]
    mixed = [name for name, each in chosen.items() if any(one != each[0] for one in each)]
    if mixed:
        said.append(f"{mixed[0]} makes calls of several roles, for which the plan differs: left out.")
    clear = {name: each[0] for name, each in chosen.items() if name not in mixed and each[0]}
    return {f"diffusion_model.{name}{SUFFIX}": encode(choices) for name, choices in clear.items()}, said


def _choices_for(plan: Plan, site: AttentionSite) -> tuple[list[dict], str]:
    """Say what the plan puts there as an entry has it, and why a file cannot say it, one of them empty."""
    steps = {step.rule(): step for step in plan.steps if step.rule().covers(site)}
    if any(rule.kind == "reuse" for rule in steps):
        return [], "outputs that are kept, a file names kernels alone"
    shapes = _deciding([rule for rule in steps if rule.kind == "shape"])
    dense = _deciding([rule for rule in steps if rule.kind == ""])
    rules = shapes if shapes and shapes[0].always else shapes + dense
    if not rules:
        return [], ""
    last, what = rules[-1], steps[rules[-1]].candidate.name
    if len(rules) > 1 or not last.always:
        return [], f"{what} in some of the steps alone, a file names one kernel for all of them"
    if last.kind == "shape":
        found = _sol(last.shape.pattern)
        # What the host takes where it cannot run the first.
        below = [{"attention": NAMES[rule.backend]} for rule in dense[-1:] if rule.always and rule.backend in NAMES]
        return ([found, *below], "") if found else ([], f"{what}: plain ComfyUI has no such pattern")
    if last.backend not in NAMES and last.backend != HOST:
        return [], f"no file can name {what}"
    return ([{"attention": NAMES[last.backend]}] if last.backend in NAMES else []), ""


def _sol(pattern) -> dict | None:
    """Return the host's name of a pattern; it cuts blocks in raster order and always adds the means of the others."""
    same = isinstance(pattern, AdaptiveBlocks) and pattern == AdaptiveBlocks(pattern.tau, RASTER, True)
    return {"attention": SOL, "tau": pattern.tau} if same else None


def _deciding(rules: list[Rule]) -> list[Rule]:
    """Find, of rules of one kind, those that win at some step: the last one for all steps, and what comes after it."""
    always = [at for at, rule in enumerate(rules) if rule.always]
    return rules[always[-1] :] if always else rules


def plan_of(blank: Plan, entries: Mapping[str, torch.Tensor], modules: Modules) -> tuple[Plan, list[str]]:
    """Read a plan from the entries of a file. Nothing in it was measured: errors and times are 0.

    blank: a plan without rules for the model.
    entries: {key: entry}, keys with any of PREFIXES.
    modules: as in `entries_of`.
    Returns the plan, and a sentence for each thing that the entries say and it does not.
    Raises BadPlan for a file without entries, or with one that is none.
    """
    named = {_module_of(key): decode(key, tensor) for key, tensor in entries.items() if key.endswith(SUFFIX)}
    if not named or len(named) > MAX_STEPS:
        raise BadPlan(f"plan: the file has {len(named)} entries {SUFFIX}, not 1 to {MAX_STEPS}.")
    found: dict[tuple[str, Candidate], set[int]] = {}
    gone: dict[str, int] = {}
    here = list(modules)
    for name, role, block in here:
        candidates, unknown = _candidates_of(named.get(name, []), role)
        for candidate in candidates:
            found.setdefault((role, candidate), set()).add(block)
        for word in unknown:
            gone[word] = gone.get(word, 0) + 1
    said = [f"{word} in {n} places: this pack has no kernel that is the same, left out." for word, n in gone.items()]
    lost = len(named.keys() - {name for name, _, _ in here})
    if lost:
        said.append(f"{lost} of {len(named)} entries are for modules that this pack does not find in this model.")
    steps = [
        PlanRule(candidate, role, span, 0.0, 1.0, 0.0, None, None, 0.0, 0.0)
        for (role, candidate), blocks in sorted(found.items(), key=lambda pair: ROLES.index(pair[0][0]))
        for span in _spans(sorted(blocks))
    ]  # fmt: skip
    return Plan(**{**vars(blank), "sampling": "read from a file's preferences", "steps": tuple(steps)}), said


def _module_of(key: str) -> str:
    prefix = next(prefix for prefix in PREFIXES if key.startswith(prefix))
    return key.removeprefix(prefix).removesuffix(SUFFIX)


def _candidates_of(choices: list[dict], role: str) -> tuple[list[Candidate], list[str]]:
    """List what this pack has of the choices, up to the first that any GPU may be able to run, and what it has not.

    A pattern is no obstacle to the kernel after it, which runs where the pattern cannot: so it is in the host.
    """
    found, unknown = [], []
    for choice in choices:
        if choice["attention"] in BACKENDS:
            return [*found, Candidate(BACKENDS[choice["attention"]])], unknown
        tau = choice.get("tau", 1.0)
        if choice["attention"] == SOL and type(tau) in (int, float) and 0.1 <= tau <= 100 and not found:
            candidate = Candidate(pattern=AdaptiveBlocks(float(tau), RASTER, True))
            if candidate.fits(role):
                found.append(candidate)
                continue
        bound = "".join(f", {key} {value}" for key, value in choice.items() if key != "attention")
        unknown.append(f"{choice['attention']}{bound}"[:80])
    return found, unknown


def _spans(blocks: list[int]) -> list[tuple[int, int]]:
    """List runs of consecutive numbers, as (first, last)."""
    starts = [b for b in blocks if b - 1 not in blocks]
    return [(first, next(b for b in blocks if b >= first and b + 1 not in blocks)) for first in starts]


def encode(choices: list[dict]) -> torch.Tensor:
    """Write the choices of an entry as (bytes,) of uint8."""
    return torch.tensor(list(json.dumps(choices).encode("utf-8")), dtype=torch.uint8)


def decode(key: str, entry: torch.Tensor) -> list[dict]:
    """Read the choices of an entry. Raises BadPlan for anything else: nothing is guessed."""
    if entry.dtype != torch.uint8 or entry.ndim != 1 or not 0 < len(entry) <= MAX_BYTES:
        raise BadPlan(f"plan: {key[:100]} is not a short text.")
    try:
        data = json.loads(bytes(entry.tolist()).decode("utf-8"))
    except (ValueError, RecursionError):
        raise BadPlan(f"plan: {key[:100]} is not JSON.") from None
    choices = data if isinstance(data, list) else [data]
    if not all(isinstance(one, dict) and isinstance(one.get("attention"), str) for one in choices):
        raise BadPlan(f"plan: {key[:100]} names no attention.")
    return choices
