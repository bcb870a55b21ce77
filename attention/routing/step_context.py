"""What holds during one model evaluation: which rules cover it, where its tokens are, who counts."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.identity import KeepsIdentity
from ..core.reason import Reason
from ..core.site import AttentionSite, guess, site_of
from ..core.tokens import Tokens, VideoSpan
from .rules import Rule, covering

# Key of a StepContext in the host's transformer_options.
CONTEXT = "vattn.context"


class StepContext(KeepsIdentity):
    """Says what holds during one kind of model evaluation. One object for the same values, compared by identity.

    stats: RunStats that count this run, None outside of one.
    active: pairs of a router and, for each of its rules, which of its stretches this step is in, 0 where the rule does
        not cover the step; a router without a pair goes by its rules for all steps.
    tokens: how the input is laid out, None when nobody told.
    off: routers that were cleared but may sit below another pack's override.
    perturbation: the Perturbation whose pass this is, None in the model's own.
    prompt_pair: how the prompt was lengthened by a negative one, None if not.
    share: how the sequence of the video lies over several GPUs, a parallel.peers.Share; None on one.

    Not a dataclass: torch.compile takes containers in transformer_options apart and ties its graph to their members.
    """

    __slots__ = ("_kin", "active", "prompt_pair", "perturbation", "off", "share", "stats", "tokens")

    def __init__(
        self, stats=None, active: tuple = (), tokens: Tokens | None = None, off: tuple = (), perturbation=None,
        prompt_pair=None, share=None, kin=None,
    ):  # fmt: skip
        self.stats, self.active, self.tokens, self.off = stats, active, tokens, off
        self.perturbation, self.prompt_pair, self.share = perturbation, prompt_pair, share
        self._kin: dict[tuple, StepContext] = {tuple(self._values().values()): self} if kin is None else kin

    def _values(self) -> dict:
        names = ("active", "tokens", "off", "perturbation", "prompt_pair", "share")
        return {name: getattr(self, name) for name in names}

    def but(self, **changes) -> StepContext:
        """Give the context with other values of anything but the stats. Asked twice, it gives one object."""
        values = {**self._values(), **changes}
        key = tuple(values.values())
        found = self._kin.get(key)
        return found or self._kin.setdefault(key, StepContext(self.stats, **values, kin=self._kin))

    def active_of(self, router) -> tuple[int, ...]:
        """Tell of each rule of `router` which of its stretches this evaluation is in, 0 where it does not cover it."""
        return next((on for member, on in self.active if member is router), router.always)


IDLE = StepContext()
UNKNOWN = Tokens(None)


def stats_of(options: Mapping | None):
    """Return the RunStats that count what happens under the host's transformer_options; None where nobody counts."""
    return (options or {}).get(CONTEXT, IDLE).stats


def rules_of(router, context: StepContext, site: AttentionSite) -> list[Rule]:
    """Find the rules of `router` that are about a call from `site`, as `covering`; none where it stays out of it."""
    if not router.counts or router in context.off:
        return []
    return covering(router.rules, context.active_of(router), site)


def locate(
    options: Mapping, q_len: int, kv_len: int, begin: tuple[int, int] | None = None
) -> tuple[AttentionSite, VideoSpan | Reason]:
    """Find the site of a call, and where in it the video is, or why that cannot be told.

    options: the host's transformer_options.
    q_len: tokens in q.
    kv_len: tokens in k and v.
    begin: as of Tokens.video_span.
    """
    site = site_of(options)
    if site is None:
        site = guess(q_len, kv_len)
    elif not site.role:
        site = AttentionSite("", guess(q_len, kv_len).role, None, site.own)
    tokens = options.get(CONTEXT, IDLE).tokens
    if site.roles:
        likely = (tokens or UNKNOWN).likely(site.roles, q_len, kv_len)
        site = AttentionSite(site.family, likely, site.block, heads=site.heads)
    if tokens is None:
        return site, Reason("nothing is known of this model's tokens")
    role = tokens.role(site.role, q_len, kv_len)
    if role != site.role:
        site = AttentionSite(site.family, role, site.block, heads=site.heads)
    return site, tokens.video_span(role, q_len, kv_len, begin)
