"""The presets as tables of Video Attention Boost's help page: what each level does, and where each value comes from."""

from __future__ import annotations

from attention import presets
from attention.presets.spec import DENSE, DENSITY, FORECAST, KERNEL, PATTERN, RANGE, Preset, Source, dense_parts

NAMES = {
    KERNEL: "kernels", PATTERN: "the pattern", DENSITY: "how much it keeps", RANGE: "when", DENSE: "what stays dense",
    FORECAST: "the forecast",
}  # fmt: skip


def levels() -> str:
    """A row for each preset with a pattern or forecast steps, then a line for those that set kernels alone."""
    lines = [
        "| models | level | kernels off by at most | keeps, from first to last covered step | of the sampling | dense "
        "| forecast |",
        "|" + " --- |" * 7,
    ]
    lines += [row(preset) for preset in presets.TABLE if preset.pattern or preset.forecast]
    alone = {}
    for preset in presets.TABLE:
        if not (preset.pattern or preset.forecast):
            bounds = alone.setdefault((", ".join(preset.models) or "every other model", preset.note), [])
            bounds.append(f"{preset.level} {percent(preset.kernel.max_error)}")
    lines += ["", "Kernels alone, off by at most:", ""]
    lines += [f"- {models}: {', '.join(bounds)}.{note and f' {note}'}" for (models, note), bounds in alone.items()]
    return "\n".join(lines)


def row(preset: Preset) -> str:
    shaped, asked = preset.pattern, preset.forecast
    first_steps, last_steps, first, last = dense_parts(shaped)
    dense = [
        f"{many} {where}"
        for many, where in (
            (first_steps, "first steps"), (last_steps, "last steps"), (first, "first block"), (last, "last block"),
        )
        if many
    ]  # fmt: skip
    seen = " to ".join(f"{number:g}" for number in dict.fromkeys((shaped.percentages[0], shaped.percentages[-1])))
    curve = f", {shaped.ramp.shape}" if shaped.ramp else ""
    told = f"{asked.in_a_row} in a row, {asked.warm_up} first and {asked.last} last steps computed" if asked else "-"
    bound = f", while off by at most {percent(asked.max_error)}" if asked and asked.max_error else ""
    cells = (
        ", ".join(preset.models), preset.level, percent(preset.kernel.max_error),
        f"{shaped.pattern.name}, {seen} %{curve}", f"{shaped.start:.0%} to {shaped.end:.0%}".replace("%", " %"),
        ", ".join(dense) or "-", told + bound,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def percent(part: float) -> str:
    return f"{100 * part:g} %"


def sources() -> str:
    """Each source once, with the cells that it is for."""
    used: dict[Source, dict[str, list[str]]] = {}
    for preset in presets.TABLE:
        for cell, source in preset.sources:
            models = ", ".join(preset.models) or "every other model"
            levels_of = used.setdefault(source, {}).setdefault(f"{NAMES[cell]} of {models}", [])
            if preset.level not in levels_of:
                levels_of.append(preset.level)
    return "\n".join(
        f"- {source.text} {linked(source.where)}, {source.measured}. For: "
        + "; ".join(f"{cell} ({', '.join(levels_of)})" for cell, levels_of in cells.items())
        + "."
        for source, cells in used.items()
    )


def linked(where: str) -> str:
    return where if where.startswith("http") else f"`{where}`"
