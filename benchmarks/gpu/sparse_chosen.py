"""Phase c: blocks chosen from the tensors, beside comfy-kitchen's sol_attn at equal error. Errors: against dense."""

from __future__ import annotations

from functools import partial

from attention.backends import registry, sdpa
from attention.core.reason import Reason
from attention.patterns import TopBlocks
from attention.sparse import kitchen

from ..floors import tops
from ..kernel import OURS as HOW
from ..kernel import by_lists, lists_of_best
from .context import Context
from .dense import call
from .place import OURS
from .timing import Trial, side_by_side, truth_of

# Percent of the key blocks.
KEEPS, DRY_KEEPS = (15, 10, 25), (50,)
ALONE = "lists chosen before"
GOAL_IDEAL, GOAL_SOL = 1.25, 0.8


def run(context: Context, tokens: int, head_dim: int) -> None:
    """Measure one size at several densities."""
    place = context.place
    shape, keeps, truth, refused = place.shape(tokens, head_dim), DRY_KEEPS if place.dry else KEEPS, [], {}

    def make(q, k, v) -> dict:
        if not truth:
            context.at("float64")
            truth.append(truth_of(q, k, v))
        runs = {}
        for name in (sdpa.AUTO.name, *OURS):
            if place.why_not(name, q, k, v) is None:
                runs[name] = partial(call, registry.load(name))
        for keep in keeps:
            for name in (*OURS, kitchen.SOL.name):
                found = place.runner(TopBlocks(keep=keep, tail=True), name, shape.grid, q, k, v)
                if isinstance(found, Reason):
                    refused[name] = found
                else:
                    runs[label(name, keep)] = found
        for name in OURS:
            if place.why_not(name, q, k, v) is None:
                blocks = lists_of_best(shape, q, k, keeps[0], True)
                how = {"shape": shape, "percent": keeps[0], "means": True, "blocks": blocks, **HOW[name]}
                runs[label(f"{name}, {ALONE}", keeps[0])] = partial(by_lists, **how)
        return {name: (one, truth[0]) for name, one in runs.items()}

    cells = {"tokens": shape.tokens, "head_dim": head_dim}
    found = side_by_side(context, shape, make, **cells)
    for name, trial in found.items():
        kernel, keep = parsed(name)
        dense, share = found.get(kernel.split(",")[0]), keep / 100
        beside = {"beside sdpa": trial.beside(found[sdpa.AUTO.name]) if sdpa.AUTO.name in found else None}
        ideal = trial.ms / dense.ms / share if dense and keep < 100 else None
        speed = tops(shape.heads, shape.tokens, shape.tokens, head_dim, trial.ms, share)
        context.row(**cells, kernel=kernel, keep=keep, ms=trial.ms, tops=speed, ideal=ideal, error=trial.error,
                    mib=trial.mib, **beside, rounds=len(trial.seconds), first_s=trial.first)  # fmt: skip
    context.not_run(refused)
    goals(context, found, keeps)


def label(name: str, keep: int) -> str:
    """Name a kernel at a density."""
    return f"{name} @ {keep}"


def parsed(name: str) -> tuple[str, int]:
    """Give the kernel and the percent of a label, 100 of a dense one."""
    kernel, _, keep = name.partition(" @ ")
    return kernel, int(keep or 100)


def goals(context: Context, found: dict[str, Trial], keeps) -> None:
    """Say what was asked and what came out."""
    for name in OURS:
        alone, dense = found.get(label(f"{name}, {ALONE}", keeps[0])), found.get(name)
        if alone and dense:
            ideal = alone.ms / dense.ms / keeps[0] * 100
            context.note(
                f"{name}, {keeps[0]} % of the blocks: {ideal:.2f} x that share of its dense time, asked: {GOAL_IDEAL}"
            )
    for keep in keeps:
        sol = found.get(label(kitchen.SOL.name, keep))
        if sol is None:
            continue
        equal = {
            name: trial for name, trial in found.items()
            if name.split(" @ ")[0] in OURS and " @ " in name and trial.error <= sol.error
        }  # fmt: skip
        if not equal:
            context.note(f"sol_attn at {keep} %, error {sol.error:.2g}: none of ours is as near")
            continue
        best = min(equal, key=lambda name: equal[name].ms)
        context.note(
            f"at the error of sol_attn at {keep} % ({sol.error:.2g}) or below: {best} takes "
            f"{1 / equal[best].beside(sol):.2f} x its time, asked: {GOAL_SOL} at most"
        )
