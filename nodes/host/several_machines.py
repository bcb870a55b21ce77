"""Evaluates a MODEL together with other ComfyUIs that run the same workflow, each with a part of the tokens."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import comfy.model_management
from comfy.patcher_extension import WrappersMP

from ...attention.parallel import group
from ...attention.parallel.record import RanksRecord
from ...attention.parallel.ring import in_a_row, inner_of
from ...attention.routing.compiled_op import OPTIONS
from ...attention.routing.step_context import stats_of
from . import hooks, memory_estimate, model_rules, sharing, token_ranks
from .bypass_watch import ROUTERS
from .token_ranks import MACHINES as KEY
from .token_ranks import RANK, Refused

# What is compared before each evaluation.
HEADER = ("the noise level", "the latent's size", "the number of steps", "the number of prompts", "the plan", "split")
# What numbers of these stand for; that of the plan is a checksum.
WORDS = {"the plan": (), "split": sharing.MACHINE_SPLITS}


@dataclass(frozen=True)
class Meeting:
    """Where several ComfyUIs meet.

    number: of this one, from 0.
    of: how many there are.
    host: of number 0.
    port: at which it listens.
    patience: seconds to wait for the others, and for an answer.
    split: one of sharing.MACHINE_SPLITS.
    """

    number: int
    of: int
    host: str
    port: int
    patience: float
    split: str


class _Run:
    """One sampling run together with others: who they are, and what the report says.

    prompts: most that are evaluated at once.
    never: why no evaluation can share its tokens out, None where some may.
    plan, split: a checksum of the rules, and the meeting's split among sharing.MACHINE_SPLITS, for comparing.
    """

    def __init__(self, meeting: Meeting, peers, guider, options):
        patcher = guider.model_patcher
        self.meeting, self.peers, self.prompts = meeting, peers, sharing.most_prompts(guider)
        self.never = sharing.never(patcher)
        rules = [rule for router in options[ROUTERS].members for rule in router.rules]
        self.plan = zlib.crc32("; ".join(map(_told, rules)).encode())
        self.split = sharing.MACHINE_SPLITS.index(meeting.split)
        self.record = RanksRecord("ComfyUIs")
        own = meeting.number
        self.names = [f"number {n}{', this one' if n == own else ''}" for n in range(meeting.of)]


def install(model, meeting: Meeting):
    """Lets a clone of the MODEL `model` be evaluated together with other ComfyUIs."""
    patched = model_rules.count(model)
    token_ranks.attach(patched)
    wrappers = {
        WrappersMP.OUTER_SAMPLE: _Outer(meeting),
        WrappersMP.PREPARE_SAMPLING: memory_estimate.of_a_share(_sharers),
        WrappersMP.PREDICT_NOISE: agree,
        WrappersMP.CALC_COND_BATCH: evaluate_together,
    }
    hooks.wrap(patched, KEY, wrappers)
    return patched


def _sharers(patcher, conds, model_options) -> int:
    run = model_options.get(OPTIONS, {}).get(KEY)
    if run is None:
        return 1
    size, at = run.peers.size, run.meeting
    # Prompts go apart only where each number has as many.
    apart = at.split == sharing.PROMPTS_FIRST and any(count % size == 0 for count in range(1, run.prompts + 1))
    if apart:
        return 1
    return inner_of(run.peers.inner, sharing.sharers(patcher, conds, model_options, size, sharing.TOKENS, run.prompts))


class _Outer:
    """Wraps OUTER_SAMPLE: meets the others, and leaves them whatever becomes of the run."""

    def __init__(self, meeting: Meeting):
        self.meeting = meeting

    def __call__(self, executor, *args, **kwargs):
        guider, at = executor.class_obj, self.meeting
        check = comfy.model_management.throw_exception_if_processing_interrupted
        store = group.meet(at.host, at.port, at.number, at.of, at.patience, check)
        device = guider.model_patcher.load_device
        peers = group.GroupPeers.of(store, at.host, at.number, at.of, at.patience, device)
        if at.split == sharing.AROUND_MACHINES:
            peers.inner = in_a_row(group.machines(store, at.of))
        # The guider's options are this run's own copy.
        options = guider.model_options[OPTIONS]
        options[KEY] = _Run(at, peers, guider, options)
        hooks.move_innermost(guider, WrappersMP.PREPARE_SAMPLING, KEY)
        try:
            return executor(*args, **kwargs)
        finally:
            options.pop(KEY, None)
            peers.leave()


def agree(executor, x, timestep, model_options, seed=None):
    """Wraps PREDICT_NOISE: compares what is about to be evaluated, and goes on from number 0's latent."""
    options = model_options.get(OPTIONS, {})
    run = options.get(KEY)
    if run is None:
        return executor(x, timestep, model_options, seed)
    stats = stats_of(options)
    if stats is not None:
        stats.gpus = run.record
    steps, prompts = len(options.get("sample_sigmas", ())), len(getattr(executor.class_obj, "conds", ()))
    run.peers.agree([float(timestep.max()), x.numel(), steps, prompts, run.plan, run.split], HEADER, WORDS)
    return executor(run.peers.from_first(x), timestep, model_options, seed)


def _told(rule) -> str:
    """What of a rule must be alike everywhere."""
    shape = rule.shape and (rule.shape.pattern.name, rule.shape.engine, rule.shape.min_tokens)
    when = f"{rule.start} {rule.end} {rule.spared}"
    return f"{rule.kind} {rule.backend} {rule.role} {rule.blocks} {when} {shape} {rule.reuse}"


def evaluate_together(executor, model, conds, x, timestep, options):
    """Wraps CALC_COND_BATCH: evaluates each prompt with all others, or its own prompts and trades predictions."""
    run = options.get(OPTIONS, {}).get(KEY)
    prompts = [number for number, cond in enumerate(conds) if cond]
    if run is None or not prompts:
        return executor(model, conds, x, timestep, options)
    given = (executor, model, conds, x, timestep, options)
    if run.meeting.split == sharing.PROMPTS_FIRST and len(prompts) % run.peers.size == 0:
        return _prompts_apart(run, prompts, *given)
    why = run.never or sharing.refusal(conds, options)
    if why is None:
        try:
            return _tokens_shared(run, prompts, *given)
        except Refused as refused:
            why = str(refused)
    run.record.refuse(why)
    return executor(model, conds, x, timestep, options)


def _prompts_apart(run, prompts, executor, model, conds, x, timestep, options):
    size, out = run.peers.size, [x.new_zeros(x.shape)] * len(conds)
    mine = prompts[run.peers.rank :: size]
    made = executor(model, [c if n in mine else None for n, c in enumerate(conds)], x, timestep, options)
    for turn, number in enumerate(mine):
        for rank, one in enumerate(run.peers.all_to_all([made[number]] * size, [tuple(x.shape)] * size)):
            out[prompts[rank + turn * size]] = one
    run.peers.finish()
    run.record.note_prompts(run.names)
    return out


def _tokens_shared(run, prompts, executor, model, conds, x, timestep, options):
    out = [x.new_zeros(x.shape)] * len(conds)
    told = {**options, OPTIONS: {**options[OPTIONS], RANK: run.peers}}
    for number in prompts:
        out[number] = executor(model, sharing.alone(conds, number), x, timestep, told)[number]
        run.peers.finish()
    run.record.note([[run.peers]], run.names, {})
    return out
