"""The first line of a report: how much faster, at which price; or what to do to learn it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..backends import registry
from ..backends.autotune import EXACT, HOST_RUN
from ..core.site import SELF
from ..routing.reused_calls import REUSED
from ..routing.run_stats import Decision, RunStats
from .untimed import ids_of, turn_on

if TYPE_CHECKING:
    from .report import Report

# Names of kernels in the first line, and the share of a run below which no percent is worth saying.
NAMES, LITTLE = 3, 0.005
# The part of attention's time from which self-attention is what a run is judged by.
WEIGHS = 0.25


@dataclass(frozen=True)
class Gain:
    """What was measured of the calls of one role, beside the host's own attention on the same calls.

    role: of the calls.
    calls: all of them.
    measured: those of a geometry of which both were timed.
    host: seconds that the host's own attention takes for these.
    own: seconds that what ran takes.
    used: kernel or pattern that is not the host's own -> calls.
    tried: kernels that were timed beside the host's own, at most.
    """

    role: str
    calls: int = 0
    measured: int = 0
    host: float = 0.0
    own: float = 0.0
    used: Counter = field(default_factory=Counter)
    tried: int = 0

    def __add__(self, other: Gain) -> Gain:
        added = (getattr(self, name) + getattr(other, name) for name in ("calls", "measured", "host", "own", "used"))
        return Gain(self.role, *added, max(self.tried, other.tried))


@dataclass(frozen=True)
class Answer:
    """How much faster a run was.

    sentence: all of it in words.
    role: that the speedup is about, empty without one.
    speedup: of that role's attention beside the host's own; None where it was not measured.
    saved: seconds of the run that all roles saved; None where they are not known.
    share: of the run without us that these are; None where it is not known.
    measured: calls that this rests on, of the role.
    calls: all of the role.
    timing_off: ids of the nodes whose `timing` would tell, where nothing was measured.
    """

    sentence: str
    role: str = ""
    speedup: float | None = None
    saved: float | None = None
    share: float | None = None
    measured: int = 0
    calls: int = 0
    timing_off: tuple[str, ...] = ()

    def as_dict(self) -> dict:
        """Return plain data, for JSON."""

        def short(number: float | None) -> float | None:
            return None if number is None else round(number, 6)

        return {
            "sentence": self.sentence,
            "role": self.role,
            "speedup": short(self.speedup),
            "saved_seconds": short(self.saved),
            "saved_share": short(self.share),
            "measured_calls": self.measured,
            "calls": self.calls,
            "turn_on_timing_of": list(self.timing_off),
        }


def gains_of(stats: RunStats) -> tuple[Gain, ...]:
    """Sum up what was measured in a run, by role."""
    decisions = [decision for _, decision in stats.counted() if decision.answered and not _is_guidance(decision)]
    host = {}
    for decision in decisions:
        if decision.choice is not None and (seconds := decision.choice.seconds_of(HOST_RUN)):
            host.setdefault((decision.site.role, decision.geometry), seconds)
    found: dict[str, Gain] = {}
    for decision in decisions:
        role = decision.site.role
        found[role] = found.get(role, Gain(role)) + _gain(decision, host.get((role, decision.geometry)))
    return tuple(found.values())


def _is_guidance(decision: Decision) -> bool:
    """Tell whether a call is made differently for its result, not for its speed."""
    return decision.rule is not None and decision.rule.perturbation is not None


def _gain(decision: Decision, host: float | None) -> Gain:
    """Return what one Decision's calls took beside the host's own.

    host: seconds of that for one such call, None where it was not timed.
    """
    calls, role, choice = decision.answered, decision.site.role, decision.choice
    kept = decision.wanted in (None, registry.HOST) or (choice is not None and choice.winner == HOST_RUN)
    ran = 0 if kept else calls - max(0, decision.fell_back - decision.below)
    # After a failure the host's own stands there.
    used = decision.wanted if decision.used.startswith(registry.HOST) else decision.used
    used = Counter({used: ran} if ran else {})
    tried = 0 if choice is None else sum(trial.reason is None for trial in choice.trials) - 1
    if not ran:
        known = calls if host else 0
        return Gain(role, calls, known, calls * (host or 0.0), calls * (host or 0.0), used, tried)
    timed = decision.seconds() / calls if decision.used == REUSED and decision.spans else None
    own = timed if choice is None else choice.seconds_of(choice.winner)
    if own is None or not host:
        return Gain(role, calls, used=used, tried=tried)
    return Gain(role, calls, calls, calls * host, ran * own + (calls - ran) * host, used, tried)


def hints_of(stats: RunStats) -> Counter:
    """Say which library that is not installed may be faster: (its name, how to get it) -> calls of self-attention."""
    found: Counter = Counter()
    for _, decision in stats.counted():
        rule = decision.rule
        if decision.site.role != SELF or decision.geometry is None or rule is None or rule.kind:
            continue
        if rule.backend != registry.AUTO:
            continue
        row = registry.worth_installing(decision.geometry, decision.used, exact=rule.max_error <= EXACT)
        if row is not None:
            found[row.library, row.install] += decision.answered
    return found


def answer_of(report: Report) -> Answer:
    """Say how much faster the runs of a Report were than with the host's own attention."""
    gains = [gain for gain in report.gains if gain.calls]
    if not gains:
        return Answer("")
    ours = Counter()
    for gain in gains:
        ours += gain.used
    main = _main(gains)
    if main.measured and (ours or main.tried):
        found = _measured(report, gains, main, ours)
    elif report.forecasts and not report.rules:
        found = Answer("", calls=report.calls)
    else:
        found = _untimed(report, ours)
    if report.forecasts and not (found.speedup and ours):
        found = _with_forecasts(report, found)
    return replace(found, sentence=" ".join(filter(None, (found.sentence, *_hint(report)))))


def _main(gains: list[Gain]) -> Gain:
    """Pick the role that the sentence is about: self-attention where it weighs, else the one that weighs most."""
    own, whole = next((gain for gain in gains if gain.role == SELF), None), sum(gain.host for gain in gains)
    if own is not None and own.host >= WEIGHS * whole:
        return own
    return max(gains, key=lambda gain: (gain.host, gain.calls))


def _measured(report: Report, gains: list[Gain], main: Gain, ours: Counter) -> Answer:
    speedup, saved = main.host / main.own, _by_kernels(report, gains) + _by_forecasts(report)
    known = {"role": main.role, "measured": main.measured, "calls": main.calls, "speedup": speedup, "saved": saved}
    if not ours:
        tried = "the other kernel" if main.tried == 1 else f"each of the {main.tried} others"
        said = f"{_role(main.role)}: ComfyUI's own is as fast as {tried} that can run here{_no_gain(report)}."
        return Answer(said, **known)
    share = _share(report, saved)
    some = "" if main.measured == main.calls else f" in {main.measured} of {main.calls} calls, the others are not timed"
    head = f"{_role(main.role)} {speedup:.2f}x as fast as ComfyUI's own ({_names(main.used or ours)}){some}"
    head += f", {_forecasts(report)}" if report.forecasts else ""
    return Answer(f"{head}{_saved(report, saved, share)}.", share=share, **known)


def _by_kernels(report: Report, gains: list[Gain]) -> float:
    """Return the seconds that kernels and patterns saved; calls cannot have taken longer than the steps they are in."""
    own, spent = sum(gain.own for gain in gains), _spent(report)
    fits = min(1.0, spent / own) if spent > 0 and own > 0 else 1.0
    return fits * sum(gain.host - gain.own for gain in gains)


def _no_gain(report: Report) -> str:
    return "" if report.forecasts else ", so nothing is saved"


def _with_forecasts(report: Report, found: Answer) -> Answer:
    """Add what forecasts saved to an answer that has nothing of it."""
    saved = _by_forecasts(report)
    share = _share(report, saved)
    said = f"{_forecasts(report)}{_saved(report, saved, share)}."
    return replace(found, sentence=" ".join(filter(None, (found.sentence, said))), saved=saved, share=share)


def _forecasts(report: Report) -> str:
    return f"{report.forecasts} of {report.evaluations} model evaluations forecast"


def _by_forecasts(report: Report) -> float:
    """Return the seconds that forecasts saved: what as many computed evaluations took. 0 where that is not known."""
    computed = report.evaluations - report.forecasts
    return report.forecasts * _spent(report) / computed if computed > 0 else 0.0


def _spent(report: Report) -> float:
    """Return the seconds of the steps, without those of measuring."""
    return max(0.0, sum(one.seconds for one in report.timeline) - report.choosing)


def _saved(report: Report, saved: float, share: float | None) -> str:
    """Write the clause about the run."""
    if share is None:
        return ""
    size = abs(saved)
    seconds = f"{size:.1f} s" if size >= 0.95 else f"{size:.2f} s" if size >= 0.095 else f"{1000 * size:.0f} ms"
    if abs(share) < LITTLE:
        return "; less than 1 % of the run"
    once = f" (measuring took {report.choosing:.1f} s, once)" if report.choosing > max(0.05, saved / 2) else ""
    if saved < 0:
        return f"; about {abs(share):.0%} of the run lost, {seconds}{once}".replace("%", " %")
    return f"; about {share:.0%} of the run saved, {seconds}{once}".replace("%", " %")


def _share(report: Report, saved: float) -> float | None:
    """Return which part of the run without us the saved seconds are; None where its time is not known."""
    spent = _spent(report)
    return saved / (spent + saved) if spent > 0 and spent + saved > 0 else None


def _of_the_host(report: Report) -> Answer:
    """Say what the host's own attention took, where it ran all calls as it was to."""
    calls = report.calls
    fell = sum(report.fallbacks.values())
    if fell and (found := report.fallbacks.most_common(1)):
        (_, wanted, why), _ = found[0]
        return Answer(f"No faster than ComfyUI's own: {wanted} cannot run here ({why}).", calls=calls)
    chosen = ", as chosen" if any(rule.host and rule.ran for rule in report.rules) else ""
    total = sum(one.seconds for one in report.timeline)
    if report.seconds:
        share = f", {report.seconds / total:.0%} of the run".replace("%", " %") if total else ""
        said = f"ComfyUI's own attention{chosen}: {report.seconds:.1f} s{share}. Set backend to auto to compare."
        return Answer(said, calls=calls)
    said = f"ComfyUI's own attention{chosen}, not timed: {turn_on(report.untimed)} to see what it takes."
    return Answer(said, calls=calls, timing_off=ids_of(report.untimed))


def _untimed(report: Report, ours: Counter) -> Answer:
    if not ours:
        return _of_the_host(report)
    said = f"Not timed: {turn_on(report.untimed)} to see how much faster {_names(ours)} is."
    return Answer(said, calls=report.calls, timing_off=ids_of(report.untimed))


def _hint(report: Report) -> list[str]:
    if not report.hints:
        return []
    (library, how), _ = report.hints.most_common(1)[0]
    return [f"{library} is not installed and may be faster: {how}."]


def _role(role: str) -> str:
    return f"{role[:1].upper()}{role[1:]}-attention"


def _names(used: Counter) -> str:
    """Name the kernels, most calls first."""
    names = [name for name, _ in used.most_common()]
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(names[:NAMES]) + more
