"""The rows as Markdown: one table for each phase, in the order of the plan."""

from __future__ import annotations

from . import plan

DRY = (
    "**A dry run on a CPU: every figure below comes from tiny calls, our kernel's from Triton's interpreter. None of "
    "them is a speed. Not measured on a GPU.**"
)
# Cells that say where a row belongs, not what was measured.
PLACE = ("phase", "task", "kept", "note")
# Cells that are written in this form; others as they are.
FORMS = {
    "ms": ".3f", "tops": ".0f", "of_floor": ".0%", "error": ".1e", "mib": ".0f", "beside sdpa": ".2f", "ideal": ".2f",
    "density": ".1%", "first_s": ".1f", "us": ".1f", "ours_us": "+.1f", "share": ".1%", "times": ".2f",
    "of best": ".2f", "beside": ".2f", "effect": ".1e",
}  # fmt: skip


def page(data: dict) -> str:
    """Write the whole page."""
    facts = data["facts"]
    lines = ["# Measured by `python -m benchmarks.gpu`", "", head(facts)]
    if facts.get("dry"):
        lines += ["", DRY]
    seen = set()
    for phase in plan.phases():
        rows = [row for row in data["rows"] if row["task"] in {task.name for task in phase.tasks}]
        lines += ["", f"## {phase.letter}. {phase.title}", ""]
        lines += tables(rows) or ["Nothing yet."]
        for task in phase.tasks:
            seen.add(task.name)
            state = data["tasks"].get(task.name)
            if state and state["state"] != "done":
                lines.append(f"\n- {task.name}: {state['state']}. {state.get('why') or ''}".rstrip())
    return "\n".join(lines)


def head(facts: dict) -> str:
    """Say which machine it was."""
    if not facts:
        return "The machine is not known yet."
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    driver = facts.get("driver") or f"not known ({facts.get('driver_reason')})"
    return (
        f"{facts['machine']}, driver {driver}, CUDA {facts.get('cuda')}; Python {facts['python']}, {versions}; "
        f"{facts['dtype']}; commit {facts.get('commit') or 'not known'}; begun {', '.join(facts['runs'])} UTC. "
        "Clocks and limits as found, nothing was set."
    )


def tables(rows: list[dict]) -> list[str]:
    """Write rows with the same cells as one table, notes and failures below it."""
    lines, kinds = [], {}
    for row in rows:
        if "note" not in row and "failed" not in row:
            kinds.setdefault(tuple(name for name in row if name not in PLACE), []).append(row)
    for names, some in kinds.items():
        lines += ["" if lines else None, f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
        lines += [f"| {' | '.join(shown(name, row[name]) for name in names)} |" for row in some]
    rest = [f"- {row['task']}: {row['note']}" for row in rows if "note" in row]
    rest += [
        f"- {row['task']}, {row.get('kernel', '')}: **failed**: {row['failed']}" for row in rows if "failed" in row
    ]
    return [line for line in lines if line is not None] + ([""] if lines and rest else []) + rest


def shown(name: str, value) -> str:
    """Write one cell."""
    if value is None:
        return "-"
    if name in FORMS and isinstance(value, (int, float)):
        return format(value, FORMS[name])
    return str(value).replace("|", "/").replace("\n", " ")
