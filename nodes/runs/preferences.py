"""Plans as files that plain ComfyUI's own LoRA loaders take, and back."""

from __future__ import annotations

import math
from pathlib import Path

import folder_paths
import safetensors
import safetensors.torch

from ...attention.plans import preferences
from ...attention.plans.plan import Plan
from ...attention.plans.plan_file import BadPlan
from ..host import model_family
from . import plans

# ComfyUI offers what lies there with its other LoRAs. ENDING: what Load Plan lists.
FOLDER, ENDING = "loras", ".attention.safetensors"


def names() -> list[str]:
    """Lists the files of this kind among ComfyUI's LoRAs."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(ENDING)]


def is_one(name) -> bool:
    """Tells whether a name in Load Plan's list is a file of preferences, no plan."""
    return isinstance(name, str) and name.endswith(".safetensors")


def path_of(name: str) -> Path | None:
    """Finds the LoRA of that name; None without one."""
    found = folder_paths.get_full_path(FOLDER, name)
    return None if found is None else Path(found)


def write(plan: Plan, model, stem: str) -> list[str]:
    """Keeps what a file can say of a plan for a MODEL, and gives sentences: where, and what it could not say.

    stem: the file's name without its ending.
    Raises ValueError when the plan is for another class of model, or when it cannot be written.
    """
    blank = plans.blank(model)
    if plan.model != blank.model:
        raise ValueError(f"model: the plan is for {plan.model}, this is {blank.model}. Connect that model, or none.")
    entries, said = preferences.entries_of(plan, places(model))
    if not entries:
        return ["Nothing of this plan can be said to plain ComfyUI: no LoRA written.", *said]
    about = {"video_attention_plan_for": f"{plan.model}, structure {plan.fingerprint}"}
    path = Path(folder_paths.get_output_directory()) / FOLDER / f"{stem}{ENDING}"
    plans.keep(safetensors.torch.save(entries, about), path, f"output/{FOLDER}")
    modules = f"{len(entries)} attention modules"
    return [f"{path.name} in output/{FOLDER}: {modules}. ComfyUI of October 2026 or later reads it as a LoRA.", *said]


def read(name: str, model) -> tuple[Plan, list[str]]:
    """Makes a plan of a file's entries for a MODEL, and sentences about it.

    Raises ValueError when there is no such file or the model is unknown; BadPlan when it holds no plan.
    """
    path = path_of(name)
    if path is None:
        raise ValueError(f"plan_name: there is no {name[:100]} among ComfyUI's {FOLDER}.")
    try:
        with safetensors.safe_open(path, "pt") as file:
            keys = [key for key in file.keys() if key.endswith(preferences.SUFFIX)]  # noqa: SIM118
            small = [key for key in keys if math.prod(file.get_slice(key).get_shape()) <= preferences.MAX_BYTES]
            entries = {key: file.get_tensor(key) for key in small[: preferences.MAX_STEPS + 1]}
    except safetensors.SafetensorError as error:
        raise BadPlan(f"plan: {path.name} is no safetensors file ({str(error).splitlines()[0][:100]}).") from None
    return preferences.plan_of(plans.blank(model), entries, places(model))


def places(model) -> list[tuple[str, str, int]]:
    """Lists (name, role, block) of each attention module of a MODEL. Raises ValueError for an unknown family."""
    family = model_family.family_of(model)
    if family is None or family.unsupported:
        raise ValueError(
            f"model: {type(model.model.diffusion_model).__name__} is no family whose attention modules this pack knows."
        )
    network = model.model.diffusion_model
    known = {module: name for name, module in network.named_modules()}
    return [(known[module], role, block) for module, role, block in family.sites(network)]
