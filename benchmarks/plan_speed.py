"""Whole samplings of a demo model by each means alone and by plans: time beside decibels, interleaved in one run."""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager

from . import demo_model, host_paths, quantised
from .demo_model import Measured, Testbed, decibels

EXACT = "exact"
PLAN = "plan, budget"
# Thresholds of the host's step caches: their defaults, and such that they leave out few steps.
EASY, LAZY = (0.2, 0.005), (0.2, 0.05)


def text(options) -> str:
    """Markdown: a table for each number of steps, with the plans that were calibrated for it."""
    return "\n\n".join(_one(options, steps) for steps in options.steps)


def _one(options, steps: int) -> str:
    testbed = options.testbed
    model = testbed.load()
    plans, told, share, took = calibrated(testbed, model, options, steps)
    found = demo_model.measure(testbed, {**means(model, options), **plans}, options.prompts, steps)
    lines = [table(options, steps, found), "", *verdicts(found, share, steps), "", *told]
    return "\n".join([*lines, f"Calibrated in {took:.0f} s."])


def means(model, options) -> dict:
    """Name -> what makes a MODEL of it: exact, and each means alone."""
    import comfy_extras.nodes_easycache as caches

    host, rules, plans = (host_paths.ours(name) for name in ("host.forecast", "host.model_rules", "runs.plans"))
    candidate = host_paths.ours("runs.calibration").Candidate

    def ruled(one):
        role = "self" if one.pattern or one.reuse else "all"
        return lambda model: rules.add_rules(model, [one.rule(role, (), 0.0, 1.0)])

    def forecast(one):
        return lambda model: host.install(model, one)

    def cached(node, threshold):
        return lambda model: node.execute(model, threshold, 0.15, 0.95, False).args[0]

    # Quantised ones too, where one runs.
    kernels = [candidate("auto"), *plans.candidates(plans.KERNELS)]
    kernels = [one for one in kernels if rules.cannot_run(model, one.rule("all", (), 0.0, 1.0)) is None]
    patterns = [candidate(pattern=plans.patterns.TopBlocks(50.0)), candidate(pattern=plans.patterns.TemporalWindow(5))]
    kept = [candidate(reuse=settings) for settings in plans.KEPT]
    found = {EXACT: lambda model: model}
    found |= {one.name: ruled(one) for one in (*kernels, *patterns, *kept)}
    found[quantised.NAME] = lambda model: rules.fill_slot(model, quantised.Int8Attention)[0]
    found |= {one.label: forecast(one) for one in plans.SKIPS}
    found |= {f"EasyCache, {threshold:g}": cached(caches.EasyCacheNode, threshold) for threshold in EASY}
    found |= {f"LazyCache, {threshold:g}": cached(caches.LazyCacheNode, threshold) for threshold in LAZY}
    return found if not options.means else {name: found[name] for name in found if name in (EXACT, *options.means)}


def calibrated(testbed: Testbed, model, options, steps: int) -> tuple[dict, list[str], float, float]:
    """({name: what makes a MODEL of a plan}, what Calibrate says of each, attention's share of the exact sampling,
    seconds of this process)."""
    plan, repeat = host_paths.ours("plan"), host_paths.ours("runs.repeated_sampling")
    install = host_paths.ours("runs.plan_rules").install_plan
    begin, found, told, share = time.process_time(), {}, [], 0.0
    known = testbed.unseen(None)
    others = tuple(testbed.prompts_of(words)[0] for words in known[len(known) - (options.seeds - 1) :])
    sampling = repeat.Sampling(testbed.job_of(model, testbed.calibrated, 0, steps), others=others)
    kind = kind_of(options.candidates)
    how = (options.groups, options.parts, ends_of(options), options.seeds)
    for budget, fixed in (
        (budget, fixed) for budget in options.budgets for fixed in (False, True)[: 1 + options.fixed]
    ):
        with unchanging(fixed):
            made, measured, settled = plan.calibrate(sampling, kind, budget, *how)
        name = f"{budget:g}{', fixed' if fixed else ''}"
        found[f"{PLAN} {name}"] = lambda model, made=made: install(model, made)[0]
        share = made.exact_seconds / made.whole_exact_seconds
        text = plan.draw_plan.to_text(made, measured, settled)
        told += [f"Plan of {name}, in Calibrate's words:", "", text.split("\nLeft out:")[0], ""]
    return found, told, share, time.process_time() - begin


def ends_of(options) -> str:
    """What Calibrate's `end_error` is set to."""
    calibration = host_paths.ours("runs.calibration")
    return {"each": calibration.EACH, "one": calibration.ONE}[options.end_error]


@contextmanager
def unchanging(fixed: bool):
    """Calibrates without ramps and kept choices of blocks, where that is asked for."""
    over_time = host_paths.ours("runs.over_time")
    add = over_time.add
    over_time.add = (lambda *given: None) if fixed else add
    try:
        yield
    finally:
        over_time.add = add


def kind_of(candidates: str) -> str:
    """What Calibrate's `candidates` is set to; several kinds with + between them are offered as its last one."""
    plans = host_paths.ours("runs.plans")
    kinds = candidates.split("+")
    if len(kinds) == 1:
        return candidates
    for name in ("candidates", "forecasts"):
        found = [one for kind in kinds for one in getattr(plans, name)(kind)]
        setattr(plans, name, lambda kind, found=found: list(dict.fromkeys(found)))
    return plans.KINDS[-1]


def table(options, steps: int, found: dict[str, Measured]) -> str:
    """Markdown: medians of the times, means of the rest, and the worst clip."""
    rows = [
        f"| {steps} steps | computed | seconds | faster | relative L2 | PSNR, mean | PSNR, least | right |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in found.items():
        took = f"{median(found, name):.2f}", f"{faster(found, name):.2f}x"
        cells = (
            name, f"{statistics.fmean(one.computed):.1f}", *(("-", "-") if name == quantised.NAME else took),
            f"{statistics.fmean(one.errors):.4f}",
            decibels(statistics.fmean(one.decibels)), decibels(min(one.decibels)), f"{one.right} of {options.prompts}",
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def median(found: dict[str, Measured], name: str) -> float:
    """Seconds of the whole sampling."""
    return statistics.median(found[name].seconds)


def faster(found: dict[str, Measured], name: str) -> float:
    """How many times as fast as exact, in the median over prompts: each beside the exact sampling of its own prompt."""
    pairs = zip(found[EXACT].seconds, found[name].seconds, strict=True)
    return statistics.median(exact / own for exact, own in pairs)


def verdicts(found: dict[str, Measured], share: float, steps: int) -> list[str]:
    """For each plan the fastest single means at equal PSNR, how much faster the plan is, and how much it could be at
    most by attention (Amdahl's law).

    share: of attention in the exact sampling.
    """
    alone = {name: one for name, one in found.items() if not name.startswith(PLAN) and name != quantised.NAME}
    points = {name: (statistics.fmean(one.decibels), faster(found, name)) for name, one in alone.items()}
    lines = []
    for name in (name for name in found if name.startswith(PLAN)):
        quality, speed = statistics.fmean(found[name].decibels), faster(found, name)
        best = max((one for one in points if points[one][0] >= quality), key=lambda one: points[one][1], default=EXACT)
        even = at_equal(list(points.values()), quality)
        lines.append(
            f"{name}: {speed:.2f}x at {decibels(quality)} dB. Fastest single means of at least as many: {best}, "
            f"{points[best][1]:.2f}x at {decibels(points[best][0])} dB; the plan is {speed / points[best][1]:.2f}x as "
            f"fast, and {speed / even:.2f}x as fast as single means are at equal PSNR, by the line between the two "
            "nearest."
        )
        whole, attended = (
            median(found, best),
            share * median(found, EXACT) / steps * statistics.fmean(found[best].computed),
        )
        lines.append(
            f"Of the {whole:.2f} s of {best} its computed steps attend for {attended:.2f} s (attention is {share:.0%} "
            f"of an exact step): attention for nothing would make that {whole / (whole - attended):.2f} times as fast."
        )
    return lines


def at_equal(points: list[tuple[float, float]], quality: float) -> float:
    """The speed of single means at a PSNR, by the line between the two nearest of those that no other beats.

    points: (dB, times as fast as exact).
    """
    shown = sorted((min(decibel, 99.0), speed) for decibel, speed in points)
    best = [(decibel, speed) for decibel, speed in shown if all(speed > s for d, s in shown if d > decibel)]
    above = [one for one in best if one[0] >= quality]
    below = [one for one in best if one[0] < quality]
    if not above or not below:
        return above[0][1] if above else 1.0
    (high, slow), (low, fast) = above[0], below[-1]
    return slow + (fast - slow) * (high - quality) / (high - low)
