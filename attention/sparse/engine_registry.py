"""Names the engines and finds those that accept a call: the only way from a pattern to what runs it."""

from __future__ import annotations

from ..backends import registry
from ..backends.spec import reason_of
from ..core.geometry import Geometry
from ..core.reason import Reason
from ..core.tokens import BOTH, Grid, VideoSpan
from ..patterns.blocks import split_heads
from ..patterns.spec import Pattern, parts_of, relation_of, turns_of
from . import TABLE
from .engine import Engine, Task
from .runner import Runner

AUTO = "auto"


def names() -> tuple[str, ...]:
    """List every engine, best first, whether it can run here or not."""
    return tuple(engine.name for engine in TABLE)


def runners(
    pattern: Pattern, video_span: VideoSpan, geometry: Geometry, *, block: int = 0, engine: str = AUTO,
    compile_on_cpu: bool = False,
) -> tuple[Runner, ...] | Reason:  # fmt: skip
    """Make the Runners of a pattern, one for each engine that accepts such calls, best first, or say why none does.

    video_span: where the video is in the calls.
    geometry: their shapes.
    block: index of the model's block, for patterns that alternate.
    engine: a name, or AUTO: any of TABLE.
    compile_on_cpu: whether FlexAttention may compile for the CPU.
    """
    reason = refuses(pattern, video_span, geometry, block)
    if reason:
        return reason
    accepted = []
    for weight, part in parts_of(pattern, block):
        tasks = tuple(Task(turn, video_span, compile_on_cpu) for turn in turns_of(part, video_span.grid, block))
        found = candidates(tasks[0], geometry, engine)
        if isinstance(found, Reason):
            return found
        accepted.append((weight, tasks, found))
    # A part that an engine refuses runs on the best of its own.
    wanted = dict.fromkeys(row for _, _, found in accepted for row in found)
    turns = max(len(tasks) for _, tasks, _ in accepted)
    made = (
        tuple(
            tuple((w, tasks[turn % len(tasks)], row if row in found else found[0]) for w, tasks, found in accepted)
            for turn in range(turns)
        )
        for row in wanted
    )
    return tuple(dict.fromkeys(Runner(video_span, some[0], some if turns > 1 else ()) for some in made))


def candidates(task: Task, geometry: Geometry, engine: str = AUTO) -> tuple[Engine, ...] | Reason:
    """List the engines that accept a task, best first, or say why none does."""
    asked = [row for row in TABLE if engine == row.name or (engine == AUTO and open_to_auto(row, geometry))]
    if not asked:
        return Reason(f"engine: {engine!r} is not known. Known: {', '.join(names())}")
    reasons = {row: row.refuses_call(task, geometry) or reason_of(row.refuses, task, geometry) for row in asked}
    accepted = tuple(row for row, reason in reasons.items() if reason is None)
    return accepted or Reason("; ".join(f"{row.name}: {reason}" for row, reason in reasons.items()))


def open_to_auto(row: Engine, geometry: Geometry) -> bool:
    """Tell whether `auto` may take an engine: always, or once Video Attention Benchmark has seen it right."""
    return row.auto or registry.seen_right(row.name, geometry, by_lists=True)


def refuses(pattern: Pattern, video_span: VideoSpan, geometry: Geometry, block: int = 0) -> Reason | None:
    """Say why no engine runs the pattern in such a call; None: engines may be asked."""
    first, last = video_span.part or (0, video_span.length)
    if video_span.side != BOTH or (video_span.part is None and geometry.q_len != geometry.kv_len):
        return Reason("patterns are for self-attention")
    if (geometry.q_len, geometry.kv_len) != (last - first, video_span.length):
        return Reason(f"{geometry.q_len} tokens, the place has {last - first}")
    if video_span.queries.start == video_span.queries.stop:
        return Reason("no query is the video's")
    if geometry.mask == "dense" and getattr(pattern, "tail", False):
        return Reason("dense mask: a block's mean stands for its tokens to all queries alike")
    if geometry.grad:
        return Reason("no gradient")
    if 0 in (geometry.batch, geometry.heads, geometry.head_dim):
        return Reason("empty tensors")
    groups = len(getattr(pattern, "by_heads", ()))
    if groups and geometry.heads % groups:
        return Reason(f"{geometry.heads} heads, the pattern is for {groups} groups of equal numbers of them")
    if all(is_dense(part, video_span.grid) for _, part in parts_of(pattern, block)):
        return Reason(f"{pattern.name} attention of {' x '.join(map(str, video_span.grid))} tokens is dense")
    return None


def is_dense(pattern: Pattern, grid: Grid) -> bool:
    """Tell whether every video token is known to see every one."""
    relation = relation_of(pattern, grid)
    if relation is not None:
        return relation.is_dense
    # Of percentages; a threshold tells nothing before there are scores.
    return hasattr(pattern, "amount") and all(getattr(g, g.amount) >= 100.0 for g in split_heads(pattern))
