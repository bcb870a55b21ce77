"""What holds during one model evaluation: which rules cover it, where its tokens are, who counts."""

from __future__ import annotations

from collections.abc import Mapping

from .identity import Itself
from .site import Site, guess, site_of
from .tokens import Place, Tokens

# Key of a Moment in the host's transformer_options.
MOMENT = "vattn.moment"


class Moment(Itself):
    """One kind of model evaluation. Compared by identity, and the same object for the same values: see `but`.

    tally: what counts this run, None outside of one. active: pairs of a router and, for each of its rules, whether it
    covers this step; a router without a pair goes by its rules for all steps. tokens: how the input is laid out, None
    when nobody told. off: routers that were cleared but may sit below another pack's override. extra: the Perturbation
    whose pass this is, None in the model's own. doubled: how the prompt was lengthened by a negative one, None if not.

    Not a dataclass: torch.compile takes containers in transformer_options apart and ties its graph to their members.
    """

    __slots__ = ("_kin", "active", "doubled", "extra", "off", "tally", "tokens")

    def __init__(
        self, tally=None, active: tuple = (), tokens: Tokens | None = None, off: tuple = (), extra=None, doubled=None,
        kin=None,
    ):  # fmt: skip
        self.tally, self.active, self.tokens, self.off = tally, active, tokens, off
        self.extra, self.doubled = extra, doubled
        self._kin: dict[tuple, Moment] = {tuple(self._values().values()): self} if kin is None else kin

    def _values(self) -> dict:
        return {name: getattr(self, name) for name in ("active", "tokens", "off", "extra", "doubled")}

    def but(self, **changes) -> Moment:
        """This moment with other values of anything but the tally. Asked twice, it gives one object."""
        values = {**self._values(), **changes}
        key = tuple(values.values())
        found = self._kin.get(key)
        return found or self._kin.setdefault(key, Moment(self.tally, **values, kin=self._kin))

    def active_of(self, router) -> tuple[bool, ...]:
        """Which rules of `router` cover this evaluation."""
        return next((on for member, on in self.active if member is router), router.always)


IDLE = Moment()
UNKNOWN = Tokens(None)


def locate(options: Mapping, q_len: int, kv_len: int, begin: int | None = None) -> tuple[Site, Place | str]:
    """Site of a call with these options and lengths, and where in it the video is, or why that cannot be told.

    begin: as of Tokens.place.
    """
    site = site_of(options)
    if site is None:
        site = guess(q_len, kv_len)
    elif not site.role:
        site = Site("", guess(q_len, kv_len).role, None, site.own)
    tokens = options.get(MOMENT, IDLE).tokens
    if site.roles:
        likely = (tokens or UNKNOWN).likely(site.roles, q_len, kv_len)
        site = Site(site.family, likely, site.block, heads=site.heads)
    if tokens is None:
        return site, "nothing is known of this model's tokens"
    role = tokens.role(site.role, q_len, kv_len)
    if role != site.role:
        site = Site(site.family, role, site.block, heads=site.heads)
    return site, tokens.place(role, q_len, kv_len, begin)
