"""Which of a guider's prompts a call of the model is about: each carries the name that its guider gave it."""

from __future__ import annotations

from collections.abc import Mapping

# Key in each of a prompt's dictionaries: it survives whatever copies them, as context windows and caches do, and new
# uuids.
NAME = "vattn.prompt"
# Names of prompts that guidance must leave alone, in part: "negative", "empty_negative_prompt", "uncond".
AWAY = ("neg", "uncond", "empty", "null")
# Our own prompts beside the guider's.
OWN = "video_attention"


def name_prompts(conds: Mapping) -> None:
    """Writes its name into each prompt of a run.

    conds: a guider's own, {name: [{...}, ...]}.
    """
    for name, prompt in conds.items():
        for each in prompt or ():
            each[NAME] = name


def name_of(prompt) -> str | None:
    """Reads the name of a prompt as a call of the model has it, a list of dictionaries; None for one of no guider."""
    names = {each.get(NAME) for each in prompt or ()}
    return names.pop() if len(names) == 1 else None


def is_positive(name: str | None) -> bool:
    """Tells whether what the user wants stands in the prompt of that name."""
    return name is not None and not name.startswith(OWN) and not any(word in name.lower() for word in AWAY)


def most_positive(names) -> int | None:
    """Finds which of the prompts of one call is the positive one: its index, None without any."""
    ranks = [_rank(name) for name in names]
    best = min((rank for rank in ranks if rank is not None), default=None)
    return None if best is None else ranks.index(best)


def _rank(name: str | None) -> int | None:
    """Ranks names: 0 for `positive`, 1 for `target_positive`, 2 for such as `middle`; None for others."""
    if not is_positive(name):
        return None
    return 0 if name == "positive" else 1 if "pos" in name.lower() else 2


def opposite(name: str, conds: Mapping) -> str | None:
    """Finds the guider's negative prompt to a positive one: `source_negative` to `source_positive`; None if none."""
    partner = name.replace("positive", "negative").replace("pos", "neg")
    wanted = (partner, "negative", *(other for other in conds if not other.startswith(OWN) and not is_positive(other)))
    return next((other for other in wanted if other != name and conds.get(other)), None)
