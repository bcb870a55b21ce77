"""Runs each evaluation of a MODEL on several GPUs at once, each with a part of the tokens.

On ComfyUI's own copies of a model for several GPUs and its thread for each of them (comfy/multigpu.py, since 0.30).
Where ComfyUI deals prompts out, one to a GPU, each GPU here evaluates the same prompt.
"""

from __future__ import annotations

from itertools import chain

from comfy.patcher_extension import WrappersMP

from ...attention.core.error_handling import free_frames, is_out_of_memory
from ...attention.parallel.peers import Broken, Exchange, ThreadPeers
from ...attention.parallel.record import RanksRecord
from ...attention.parallel.speed import relative_speeds
from ...attention.routing.compiled_op import OPTIONS
from ...attention.routing.run_stats import RunStats
from ...attention.routing.step_context import CONTEXT, stats_of
from . import forecast_run, hooks, memory_estimate, sharing, token_ranks
from .token_ranks import COPIES, RANK, Refused
from .token_ranks import GPUS as KEY

CLONES, POOL = "multigpu_clones", "multigpu_thread_pool"
EVEN, MEASURED = "even", "by measured speed"
# Of a call's heads, where copies run beside attention.
SLICES = 4


def install(model, split: str, shares: str, overlap: bool = False):
    """Lets a MODEL that has copies on other GPUs share its tokens out among them; changes `model`, a clone of ours.

    split: one of sharing.SPLITS.
    shares: EVEN or MEASURED.
    overlap: whether a part of the heads is copied while another is computed.
    """
    token_ranks.attach(model)
    wrappers = {
        WrappersMP.OUTER_SAMPLE: _Outer(split, shares, overlap),
        WrappersMP.PREPARE_SAMPLING: memory_estimate.of_a_share(_sharers),
        WrappersMP.CALC_COND_BATCH: evaluate_on_all,
    }
    hooks.wrap(model, KEY, wrappers)
    model.match_multigpu_clones()
    return model


class _Outer:
    """Wraps OUTER_SAMPLE: gives each run its own Ranks."""

    def __init__(self, *how):
        self.how = how

    def __call__(self, executor, *args, **kwargs):
        guider = executor.class_obj
        # The guider's options are this run's own copy.
        options = guider.model_options[OPTIONS]
        options[KEY] = Ranks(guider.model_patcher, sharing.most_prompts(guider), *self.how)
        hooks.move_innermost(guider, WrappersMP.PREPARE_SAMPLING, KEY)
        try:
            return executor(*args, **kwargs)
        finally:
            options.pop(KEY, None)


def _sharers(patcher, conds, model_options) -> int:
    ranks, copies = model_options.get(OPTIONS, {}).get(KEY), patcher.get_additional_models_with_key(COPIES)
    # How fast each is, and what it gets, is measured later.
    if ranks is None or not copies or ranks.shares == MEASURED:
        return 1
    return sharing.sharers(patcher, conds, model_options, 1 + len(copies), ranks.split, ranks.prompts)


class Ranks:
    """The GPUs of one sampling run.

    patcher: the MODEL of the run.
    prompts: most that are evaluated at once.
    split, shares, overlap: as of `install`.
    record: for the report.
    shared: whether the last evaluation that was computed was shared out.
    short: why none is any more, where memory was missing twice; None before.
    never: why no evaluation can share its tokens out, None where some may.
    """

    def __init__(self, patcher, prompts: int, split: str, shares: str, overlap: bool):
        self.patcher, self.prompts, self.split, self.shares = patcher, prompts, split, shares
        self.slices = SLICES if overlap else 1
        self.record, self.shared, self.short = RanksRecord(), False, None
        self.stats: dict[int, RunStats] = {}
        self._peers: dict[int, list[list[ThreadPeers]]] = {}
        self._weights: tuple[float, ...] = ()
        self._missed = False
        self.never = sharing.never(patcher)

    def groups(self, clones, prompts: int, split: str) -> list[list[ThreadPeers]]:
        """Divide the GPUs into groups, each of which evaluates some of the prompts."""
        size = len(clones)
        count = sharing.groups(size, prompts, split)
        if not self._weights:
            dtype = self.patcher.model.get_dtype_inference()
            self._weights = (1.0,) * size if self.shares == EVEN else relative_speeds(list(clones), dtype)
        if count not in self._peers:
            each, found = size // count, []
            for first in range(0, size, each):
                exchange, weights = Exchange(each), self._weights[first : first + each]
                found.append([ThreadPeers(exchange, rank, weights, self.slices) for rank in range(each)])
            self._peers[count] = found
        for peers in chain(*self._peers[count]):
            peers.fetches = not self._missed
        return self._peers[count]

    def missed(self, why: str) -> None:
        """Notes that memory was missing: heads are traded from now on, and the second time nothing is shared out."""
        self.short, self._missed = why if self._missed else None, True

    def evaluate(self, executor, clones, conds, x, timestep, options):
        """Evaluates prompts on all GPUs: what CALC_COND_BATCH gives.

        executor: what ComfyUI and other wrappers do for one GPU.
        """
        prompts = [number for number, cond in enumerate(conds) if cond]
        # One GPU remembers all prompts, so that it can forecast them.
        split = sharing.TOKENS if forecast_run.KEY in options[OPTIONS] else self.split
        groups, work = self.groups(clones, len(prompts), split), iter(clones.items())
        pool, jobs = options[POOL], []
        for place, group in enumerate(groups):
            group[0].exchange.reset()
            mine = prompts[place :: len(groups)]
            for peers in group:
                device, patcher = next(work)
                told = self._told(len(jobs), peers, device, patcher, options)
                pool.submit(device, _evaluate_rank, executor, peers, patcher.model, conds, mine, x, timestep, told)
                jobs.append((device, peers, mine))
        answers = [(pool.get_result(device), peers, mine) for device, peers, mine in jobs]
        _raise_first([error for (_, error), _, _ in answers if error is not None])
        self.record.note(groups, list(clones), self.stats)
        out = [x.new_zeros(x.shape)] * len(conds)
        for (made, _), peers, mine in answers:
            for number, one in zip(mine, made if peers.rank == 0 else ()):
                out[number] = one
        return out

    def _told(self, number: int, peers, device, patcher, options) -> dict:
        """The options of one rank: it alone, who its peers are, and who counts its calls."""
        context = options[OPTIONS][CONTEXT]
        if number:
            stats = self.stats.setdefault(number, RunStats())
            if context.stats is not None:
                # What turns with the evaluations turns alike on all.
                stats.begun, stats.evaluations = context.stats.begun, context.stats.evaluations
                # Each keeps its own outputs, in the same steps.
                stats.reuse = context.stats.reuse and context.stats.reuse.beside(number)
            told = ("active", "off", "perturbation", "prompt_pair")
            context = stats.context.but(**{name: getattr(context, name) for name in told})
        given = {**options[OPTIONS], CONTEXT: context, RANK: peers}
        if number:
            # What is computed is remembered once.
            given.pop(forecast_run.KEY, None)
        return {**_of_one(options, device, patcher), OPTIONS: given}


def _of_one(options, device, patcher) -> dict:
    """The options with one copy of the model alone: the host moves conditioning and options to that one's GPU."""
    own = {name: value for name, value in options.items() if name != POOL}
    return {**own, CLONES: {device: patcher}}


def _evaluate_rank(executor, peers: ThreadPeers, model, conds, prompts, x, timestep, options) -> list:
    """Evaluates prompts on one rank, one at a time: by each GPU's free memory the host would batch them differently."""
    try:
        made = []
        for number in prompts:
            made.append(executor(model, sharing.alone(conds, number), x, timestep, options)[number])
            peers.finish()
        return made
    except BaseException:
        peers.exchange.abort()
        raise


def _raise_first(errors: list) -> None:
    """Raises what ended a step: not that another GPU ended it."""
    if errors:
        raise next((error for error in errors if not isinstance(error, Broken)), errors[0])


def evaluate_on_all(executor, model, conds, x, timestep, options):
    """Wraps CALC_COND_BATCH: evaluates each prompt on all GPUs, or lets ComfyUI deal the prompts out."""
    clones, ranks = options.get(CLONES), options.get(OPTIONS, {}).get(KEY)
    if ranks is None or not clones or len(clones) < 2 or POOL not in options:
        return executor(model, conds, x, timestep, options)
    stats = stats_of(options[OPTIONS])
    if stats is not None:
        stats.gpus = ranks.record
    prompts = sum(bool(cond) for cond in conds)
    if not prompts:
        return executor(model, conds, x, timestep, options)
    run = options[OPTIONS].get(forecast_run.KEY)
    if run is not None and run.forecasting and ranks.shared:
        # Without blocks there is nothing to share out, and the first GPU remembers what was computed.
        device, patcher = next(iter(clones.items()))
        return executor(patcher.model, conds, x, timestep, _of_one(options, device, patcher))
    if run is None and sharing.groups(len(clones), prompts, ranks.split) == len(clones):
        ranks.record.note_prompts(list(clones))
        return executor(model, conds, x, timestep, options)
    why = ranks.short or ranks.never or sharing.refusal(conds, options, forecasts=True)
    if why is None:
        try:
            out = ranks.evaluate(executor, clones, conds, x, timestep, options)
            ranks.shared = True
            return out
        except Refused as refused:
            why = str(refused)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # On one GPU nothing is traded, and prompts come one after the other where memory is short.
            why = f"memory was missing ({type(error).__name__})"
            free_frames(error)
            ranks.missed(why)
    ranks.shared = False
    ranks.record.refuse(why)
    return executor(model, conds, x, timestep, options)
