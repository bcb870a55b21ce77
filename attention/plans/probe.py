"""Measures candidates inside a running model, on its real q, k and v, and changes nothing of what it gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..backends import registry
from ..backends.autotune import HOST_RUN, time_in_turns
from ..core.allocation_record import record_paused
from ..core.error_handling import error_text, try_twice
from ..core.input_copies import WRITES, InputCopies
from ..core.peak_memory import MIB, in_mib, peak_if_it_runs
from ..core.reason import Reason
from ..routing.attention_call import AttentionCall, Override
from ..routing.decide import decide, inspect
from ..routing.host_kernel import following
from ..routing.router import Router
from ..routing.rules import Rule
from ..routing.run_stats import RunStats
from ..sparse.gather_blocks import GATHER_BLOCKS
from . import head_groups
from .distance import distance, squares
from .plan import Candidate


@dataclass(frozen=True)
class CandidateTrial:
    """Says what one candidate did at one call.

    seconds: of a call, the least of several.
    error: relative L2 of the call's output against the host's.
    effect: the same of its block's output, None where the block cannot be run again.
    reason: why the candidate is out, None where it is not.
    peak: bytes that the call takes at most beside its q, k and v; None where nobody counts them.
    chunks: how the call is cut, in words; empty: it is whole.
    """

    seconds: float
    error: float = 0.0
    effect: float | None = None
    reason: str | None = None
    peak: int | None = None
    chunks: str = ""


class Probe(Override):
    """Tries candidates on a model's calls and answers as without us.

    wanted: (role, block, step) -> Candidates to try there.
    trials: (role, block, step) -> {name: CandidateTrial}, HOST_RUN for the host's own; none of these is measured again.
    previous: the override found in the slot.
    check: called before each measurement, may raise to stop.
    levels: patterns of which each head group's error alone is measured.
    shares: into which: (role, block, step) -> {pattern: squared error of each group, over the squared norm of the whole
    output}.
    step: the one that runs now, None for unknown: set by whoever knows.
    short: into which: (role, block, step) -> why nothing is known of that call, where memory was missing.

    Memory beside the render's own: one more output of the call, copies of its q, k and v, two outputs of the block and
    a copy of the block's tensors.
    """

    def __init__(
        self,
        wanted: dict,
        trials: dict,
        previous=None,
        check=lambda: None,
        levels: tuple = (),
        shares: dict | None = None,
        short: dict | None = None,
    ):
        super().__init__(previous)
        self.short = {} if short is None else short
        self.wanted, self.steps = wanted, frozenset(step for _, _, step in wanted)
        self.trials, self.check = trials, check
        self.levels, self.shares = levels, {} if shares is None else shares
        self.step: int | None = None
        self._instead: Router | None = None
        self._device = torch.device("cpu")

    @property
    def done(self) -> bool:
        """Tell whether nothing is left to measure."""
        return all(_is_complete(self.trials.get(key, {})) for key in self.wanted)

    def answer(self, call: AttentionCall) -> torch.Tensor:
        """Try the candidates on a call where that is wanted, and answer as without us."""
        if self._instead is not None:
            return self._instead.answer(call)
        if self.step in self.steps:
            self._spare(self._try, call.but(func=following(call.func, self.previous, call.options)))
        return self.next(call)

    def _spare(self, measure: Callable, *args) -> None:
        """Measure where there is memory for it: the model's own sampling goes on without."""
        found = try_twice(lambda: measure(*args), self._device)
        if isinstance(found, Reason):
            untried = self.wanted.keys() - self.trials.keys()
            self.short |= dict.fromkeys((key for key in untried if key[2] == self.step), found)

    @record_paused()
    def _try(self, call: AttentionCall) -> None:
        site = inspect(call).site
        key = (site.role, site.block, self.step)
        if key not in self.wanted or key in self.trials:
            return
        self._device = call.q.device
        truth = call.run_host()
        kept, found, runs = InputCopies(call.q, call.k, call.v, call.mask), {}, {}
        for candidate in (one for one in self.wanted[key] if one.fits(site.role)):
            self.check()
            name, keeps = candidate.name, candidate.keeps_choices
            run = runner(candidate.rule(site.role, (), 0.0, 1.0), call, keeps)
            failed = isinstance(run, Reason)
            found[name] = CandidateTrial(math.inf, reason=run) if failed else trial_of(run, truth, keeps)
            if kept.restore():
                found[name] = CandidateTrial(math.inf, reason=WRITES)
            if found[name].reason is None:
                runs[name] = run
        if call.heads >= site.heads:
            # Of a part of the heads nothing is learned of their groups.
            self.shares[key] = self._share(site.role, call, truth)
        del truth, kept
        found, runs = {HOST_RUN: CandidateTrial(0.0), **found}, {HOST_RUN: call.run_host, **runs}
        limits = {candidate.name: candidate.memory for candidate in self.wanted[key]}
        for name, run in runs.items():
            self.check()
            found[name] = _weighed(found[name], run, limits.get(name, 0), call.q.device)
        runs = {name: run for name, run in runs.items() if found[name].reason is None}
        self.check()
        seconds = time_in_turns(runs, call.q.device)
        self.trials[key] = found | {name: _timed(found[name], seconds[name]) for name in runs}

    def _share(self, role: str, call: AttentionCall, truth: torch.Tensor) -> dict:
        """Return {pattern: squared error of each head group} of the levels that run.

        truth: (B, H, L, D).
        """
        found, groups = {}, head_groups.count(call.heads)
        for candidate in (Candidate(pattern=pattern) for pattern in self.levels):
            if not candidate.fits(role):
                continue
            self.check()
            rule = candidate.rule(role, (), 0.0, 1.0)
            # The engine that takes head groups: others may choose blocks of their own.
            run = runner(replace(rule, shape=replace(rule.shape, engine=GATHER_BLOCKS.name)), call)
            errors = split_error(run, truth, groups) if not isinstance(run, Reason) else ()
            if errors and all(map(math.isfinite, errors)):
                found[candidate.pattern] = errors
        return found

    def hooks_of(self, block: int) -> tuple[Callable, Callable]:
        """Make the hooks that measure effects on the output of a block.

        Gives (before, behind), to be called around the block's module: before(module, args, kwargs), behind(module,
        args, kwargs, output). Neither changes what passes.
        """
        kept: list = []

        def behind(*given) -> None:
            try:
                self._spare(self._run_again, block, kept, *given)
            finally:
                kept.clear()

        return partial(self._spare, self._keep, block, kept), behind

    def _roles(self, block: int) -> list[str]:
        """Return the roles whose effect on this block is still to be measured in this step."""
        now = (block, self.step)
        at = [key for key in self.wanted if key[1:] == now] if self._instead is None else []
        return [key[0] for key in at if not _is_complete(self.trials.get(key, {}))]

    @record_paused()
    def _keep(self, block: int, kept: list, module, args, kwargs):
        kept.clear()
        if self._roles(block):
            # Blocks add to their input in place.
            kept.append((_copied(args), _copied(kwargs)))

    @record_paused()
    def _run_again(self, block: int, kept: list, module, args, kwargs, output):
        if not kept:
            return
        args, kwargs = kept[0]
        truth = _tensors(output)
        for role in self._roles(block):
            found = self.trials.get((role, block, self.step), {})
            for candidate in self.wanted[role, block, self.step]:
                trial = found.get(candidate.name)
                if trial is None or trial.reason is not None or trial.effect is not None:
                    continue
                self.check()
                out = self._run_with(candidate, role, module, args, kwargs)
                found[candidate.name] = replace(trial, effect=distance(_tensors(out), truth))

    def _run_with(self, candidate: Candidate, role: str, module, args, kwargs):
        self._instead = Router((candidate.rule(role, (), 0.0, 1.0),), self.previous)
        try:
            # Not by calling the module: its hooks are these.
            return module.forward(*_copied(args), **_copied(kwargs))
        finally:
            self._instead = None


def runner(rule: Rule, call: AttentionCall, goes_on: bool = False) -> Callable | Reason:
    """Give what runs `call` by the rule, (B, H, L, D), or say why nothing can.

    goes_on: each run of it is that of another step, so that blocks chosen in the first may stand.
    """
    stats = RunStats()
    try:
        decision = decide(call, (rule,), (True,), registry.HOST, stats)
    except Exception as failure:
        return Reason(error_text(failure))
    if decision.kernel is None:
        why = decision.unshaped[1] if decision.unshaped else decision.reason
        return Reason(why or "no rule covers this call")
    return partial(_in_another_step if goes_on else call.run, decision.kernel, *((call, stats) if goes_on else ()))


def _in_another_step(kernel, call: AttentionCall, stats: RunStats) -> torch.Tensor:
    stats.evaluations += 1
    return call.run(kernel)


def trial_of(run: Callable, truth: torch.Tensor, time_alone: bool = False) -> CandidateTrial:
    """Try a call, and do not time it yet.

    truth: (B, H, L, D) of the host.
    time_alone: its time is all that a single call tells of it, so that its block is not run again.
    """
    try:
        out = run()
    except Exception as failure:
        return CandidateTrial(math.inf, reason=error_text(failure))
    error = distance([out], [truth])
    if not math.isfinite(error):
        return CandidateTrial(math.inf, reason="NaN or Inf in the output")
    return CandidateTrial(math.inf, error, error if time_alone else None)


def split_error(run: Callable, truth: torch.Tensor, groups: int) -> tuple[float, ...]:
    """Divide each head group's squared error by the squared norm of all of truth, (B, H, L, D); () where it fails."""
    try:
        out = run()
    except Exception:
        return ()
    found = [squares([a], [b]) for a, b in zip(out.chunk(groups, 1), truth.chunk(groups, 1), strict=True)]
    size = sum(size for _, size in found)
    return tuple(error / size if size else error for error, _ in found)


def _weighed(trial: CandidateTrial, run: Callable, memory: int, device: torch.device) -> CandidateTrial:
    """Add what a call takes, and how it is cut; leave a candidate out that takes more than the memory budget.

    run: as `runner` gives it, or the host's own.
    memory: MiB; 0: there is no budget.
    """
    chunks = getattr(run.args[0], "chunks", None) if isinstance(run, partial) else None
    peak = peak_if_it_runs(run, device)
    over = memory and peak is not None and peak > memory * MIB
    reason = f"{in_mib(peak)} MiB a call, the memory budget is {memory} MiB" if over else None
    return replace(trial, peak=peak, chunks="" if chunks is None else chunks.text, reason=reason)


def _timed(trial: CandidateTrial, seconds: float) -> CandidateTrial:
    return replace(trial, seconds=seconds, reason=None if seconds < math.inf else "it fails on and off")


def _is_complete(found: dict[str, CandidateTrial]) -> bool:
    """Tell whether no effect is missing, as far as the call itself was tried; untried calls come within the block."""
    return bool(found) and all(t.effect is not None or t.reason for name, t in found.items() if name != HOST_RUN)


def _tensors(output) -> list[torch.Tensor]:
    many = output if isinstance(output, (tuple, list)) else (output,)
    return [t for t in many if torch.is_tensor(t) and t.is_floating_point()]


def _copied(value):
    """Give tensors of positional or named arguments as copies, everything else as it is."""
    if isinstance(value, dict):
        return {name: _copied(one) if torch.is_tensor(one) else one for name, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_copied(one) if torch.is_tensor(one) else one for one in value)
    return value.clone() if torch.is_tensor(value) else value


def block_name(name: str) -> str:
    """Return `blocks.3` of the attention module `blocks.3.attn.qkv`: up to the last number; empty without one."""
    parts = name.split(".")
    last = max((i for i, part in enumerate(parts) if part.isdigit()), default=-1)
    return ".".join(parts[: last + 1])
