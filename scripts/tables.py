"""Writes what the pages say that follows from the code, between their markers: README.md, docs/, web/docs/.

python scripts/tables.py            (in .venv: it imports attention/)
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import preset_tables

from attention import presets
from attention.backends import TABLE
from attention.backends.spec import (
    ANY,
    CDNA,
    EVERY_AMD,
    EVERY_DEVICE,
    FLOATS,
    HALVES,
    RDNA,
    Backend,
    Limits,
    head_dims_text,
)  # fmt: skip
from attention.backends.triton.tiling import AMD
from attention.core.geometry import MASKS
from attention.core.site import ROLES
from attention.families import TABLE as FAMILIES
from attention.families.spec import Family
from attention.families.unplaced import READ, UNREAD

HELP = ROOT / "web" / "docs"
# First compute capability of a generation -> what people call it.
GENERATIONS = {
    (5, 0): "Maxwell",
    (7, 0): "Volta",
    (7, 5): "Turing",
    (8, 0): "Ampere",
    (8, 9): "Ada",
    (9, 0): "Hopper",
    (12, 0): "Blackwell",
}
# Limits.amd -> what people call it.
OF_AMD = {
    tuple(AMD): ", AMD CDNA 2 to 4 and RDNA 3 and 4",
    (): "",
    EVERY_AMD: ", AMD",
    CDNA: ", AMD CDNA 2 to 4",
    RDNA: ", AMD RDNA 3 and 4",
    (*CDNA, *RDNA): ", AMD CDNA 2 to 4 and RDNA 3 and 4",
}


def backends() -> str:
    """The compatibility table, from each backend's own Limits."""
    lines = [
        "| backend | runs on | dtypes | head sizes | masks | grouped keys | exact | in `auto` | besides |",
        "|" + " --- |" * 9,
    ]
    return "\n".join([*lines, *(row(backend) for backend in TABLE)])


def row(backend: Backend) -> str:
    limits = backend.limits
    cells = [
        backend.name, places(limits), dtypes(limits), head_dims_text(limits), masks(limits),
        yes(limits.gqa), yes(limits.exact), auto(backend), ", ".join(besides(backend)) or "-",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def yes(flag: bool) -> str:
    return "yes" if flag else "no"


def masks(limits: Limits) -> str:
    """`any`, `of keys` or `none`."""
    return {MASKS: "any", MASKS[:2]: "of keys", MASKS[:1]: "none"}[limits.masks]


def auto(backend: Backend) -> str:
    if not (backend.auto or backend.promise):
        return "no"
    since = f"from {backend.limits.useful_from} keys on" if backend.limits.useful_from else "yes"
    return since if backend.auto else f"once Benchmark has seen it right, {since}"


def besides(backend: Backend) -> list[str]:
    """What the other columns do not say."""
    limits, found = backend.limits, [backend.besides] if backend.besides else []
    if limits.scale != ANY:
        found.append(f"scale: {limits.scale}")
    if limits.kv_multiple > 1:
        found.append(f"keys in steps of {limits.kv_multiple}")
    if limits.max_scores:
        found.append(f"{limits.max_scores * 4 // 2**30} GiB of scores")
    return found


def places(limits: Limits) -> str:
    """`NVIDIA from Ampere on, CPU` or `everything`."""
    if limits.devices == EVERY_DEVICE:
        return "everything"
    names = {"cuda": "NVIDIA", "cpu": "CPU"}
    since = GENERATIONS.get(limits.min_capability)
    return ", ".join(
        names[d] + (f" from {since} on" if d == "cuda" and since else "") + (OF_AMD[limits.amd] if d == "cuda" else "")
        for d in limits.devices
    )


def dtypes(limits: Limits) -> str:
    if limits.dtypes == FLOATS:
        return "all"
    return "16 bit" if limits.dtypes == HALVES else "16 and 32 bit"


def families() -> str:
    """Which models are known, and which of their attention calls are told apart."""
    lines = ["| models | attention that is told apart | out of reach |", "|" + " --- |" * 3]
    for family in FAMILIES:
        if family.unsupported:
            lines.append(f"| {family.name} | not supported: {family.unsupported} | all |")
            continue
        for row, (roles, names) in enumerate(by_roles(family).items()):
            out = "as above" if row and family.unreachable else ", ".join(family.unreachable)
            lines.append(f"| {', '.join(names)} | {', '.join(roles)} | {out or '-'} |")
    counted = "what has as many queries as keys counts as self, the rest as cross"
    for name, _, so, out in READ:
        lines.append(f"| {name} | none, only read: {counted}{so and f' ({so})'} | {out or '-'} |")
    lines.append(f"| {', '.join(UNREAD)} | none, could not be read: {counted} | not known |")
    return "\n".join(lines)


def by_roles(family: Family) -> dict[tuple[str, ...], list[str]]:
    """The family's variants, together where their roles are the same."""
    found: dict[tuple[str, ...], list[str]] = {}
    for variant in family.variants:
        found.setdefault(tuple(role for role in ROLES if role in variant.roles), []).append(variant.name)
    return found


# Who asks for a preset -> what pages call it.
SHOWN = {"LTX-2.3": "LTX", "Wan": "Wan", "MiniMax-H3": "H3"}


def by_model(say) -> str:
    """`LTX and Wan: this. H3: that.`: what `say` tells of the balanced preset of each model."""
    found: dict[str, list[str]] = {}
    for model, shown in SHOWN.items():
        found.setdefault(say(presets.find(model, presets.BALANCED)), []).append(shown)
    return " ".join(f"{', '.join(names)}: {text}." for text, names in found.items())


def kernel_start() -> str:
    return by_model(lambda preset: f"{preset.kernel.max_error:g}")


def pattern_start() -> str:
    def say(preset):
        shape = preset.pattern
        first, last = shape.percentages[0], shape.percentages[-1]
        keep = f"`keep` {first:g}" + ("" if first == last else f" ramped to `keep_end` {last:g}")
        dense = f", `dense_first_blocks` {shape.dense_first_blocks}" if shape.dense_first_blocks else ""
        span = f"`start_percent` {shape.start:g}" + (f", `end_percent` {shape.end:g}" if shape.end < 1 else "")
        tail = ", `tail` on" if shape.pattern.tail else ""
        return f"`top blocks`, {keep}{tail}, {span}{dense}"

    return by_model(say)


def forecast_start() -> str:
    def say(preset):
        steps = preset.forecast
        return (
            f"`max_error` {steps.max_error:g}, `in_a_row` {steps.in_a_row}, "
            f"`first_steps` {steps.warm_up}, `last_steps` {steps.last}"
        )

    return by_model(say)


PAGES = {
    ROOT / "docs" / "KERNELS.md": {"backends": backends},
    ROOT / "docs" / "MODELS.md": {"families": families},
    HELP / "VideoAttentionBackend.md": {"start kernel": kernel_start},
    HELP / "VideoAttentionPattern.md": {"start pattern": pattern_start},
    HELP / "VideoAttentionBoost.md": {"levels": preset_tables.levels, "sources": preset_tables.sources},
    HELP / "VideoAttentionForecast.md": {"start forecast": forecast_start},
}


def filled(text: str, tables: dict) -> str:
    """A page's text with what is between its markers made anew: lines of their own, or a part of a line."""
    for name, make in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        head, rest = text.split(begin)
        was, tail = rest.split(end)
        made = f"\n{make()}\n" if was.startswith("\n") else make()
        text = f"{head}{begin}{made}{end}{tail}"
    return text


if __name__ == "__main__":
    for page, tables in PAGES.items():
        page.write_text(filled(page.read_text(), tables))
