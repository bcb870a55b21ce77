"""What combos hold is there in Chinese: web/labels.js shows it beside the value, which workflows keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "web" / "options" / "zh.js"
# Combos of names, which are the same in every language.
NAMED = {"backend", "engine", "weight_dtype"}


def combos(inputs, found: dict) -> dict:
    """Name of each input with a choice -> all that it may hold."""
    for one in inputs:
        options = getattr(one, "options", None) or ()
        if options and not one.id.endswith("_name"):
            found.setdefault(one.id, set()).update(
                option if isinstance(option, str) else option.key for option in options
            )
        for option in options:
            combos(getattr(option, "inputs", ()), found)
    return found


@pytest.fixture(scope="module")
def values(pack) -> dict[str, set]:
    found: dict = {}
    for topic in pack.nodes.TOPICS:
        for node in topic.NODES:
            combos(node.GET_SCHEMA().inputs, found)
    return {name: held for name, held in found.items() if name not in NAMED}


@pytest.fixture(scope="module")
def labels() -> dict[str, str]:
    def once(pairs):
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    text = TABLE.read_text(encoding="utf-8").split("export default")[1]
    return json.loads(text.strip(" ;\n"), object_pairs_hook=once)


def test_every_choice_has_a_label_and_no_label_is_idle(values, labels):
    held = set().union(*values.values())
    assert len(values) > 15 and held == labels.keys()


def test_no_two_choices_of_a_combo_look_alike(values, labels):
    for name, held in values.items():
        assert len({labels[value] for value in held}) == len(held), name
