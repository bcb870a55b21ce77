"""1,000 seeded mutations of a plan's file: refused with a sentence, or read as exactly what the file says."""

from __future__ import annotations

import json
import math
import random

from plans_made import data, make_plan

from attention.plans.plan_file import BadPlan, from_json, to_json

MUTATIONS = 1000

ODD = (
    None, True, False, 0, 1, -1, 7, 0.5, 1.0, -0.0, 1e-300, 1e13, 10**20, 10**400, "", "self", "sage", "spatial",
    "\x00", "../../x", "\u202e", [], [0, 1], {}, {"name": "spatial"}, [[]], math.pi,
)  # fmt: skip


def places(value, path=()):
    """Every place of a JSON value, the root first."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*path, key))


def mutate_value(rng: random.Random, whole: dict) -> str:
    """A plan in which something was replaced, removed, repeated or swapped."""
    path = rng.choice(list(places(whole))[1:])
    *way, last = path
    holder = whole
    for key in way:
        holder = holder[key]
    kind = rng.randrange(4)
    if kind == 0:
        holder[last] = rng.choice(ODD)
    elif kind == 1:
        del holder[last]
    elif kind == 2 and isinstance(holder, list):
        holder.append(holder[last])
    elif kind == 2:
        holder[rng.choice(("x", "name", "steps", "weight", "keep"))] = holder[last]
    else:
        other = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        holder[last], holder[other] = holder[other], holder[last]
    return json.dumps(whole)


def mutate_text(rng: random.Random, text: str) -> str:
    """A plan's text in which some characters were changed, removed or repeated."""
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(text)), rng.randint(1, 12)
        new = rng.choice(
            ("", text[at : at + size] * 2, rng.choice('0159-.eE{}[]",:\\ntf '), chr(rng.randrange(1, 0x3000)))
        )
        text = text[:at] + new + text[at + size :]
    return text


def equal(read, written) -> bool:
    """Whether both JSON values say the same; 1 and 1.0 do, 1 and true do not."""
    if isinstance(written, dict):
        return isinstance(read, dict) and set(read) == set(written) and all(equal(read[k], written[k]) for k in written)
    if isinstance(written, list):
        return isinstance(read, list) and len(read) == len(written) and all(map(equal, read, written))
    numbers = all(type(value) in (int, float) for value in (read, written))
    return read == written and (numbers or type(read) is type(written))


def no_repeats(pairs):
    assert len({name for name, _ in pairs}) == len(pairs), "accepted a table with a name twice"
    return dict(pairs)


def test_mutated_files_are_refused_or_mean_what_they_say():
    rng, refused = random.Random(20261125), 0
    for index in range(MUTATIONS):
        text = mutate_value(rng, data()) if index % 2 else mutate_text(rng, to_json(make_plan()))
        try:
            found = from_json(text)
        except BadPlan as reason:
            assert str(reason).startswith("plan: ") and len(str(reason)) < 400
            refused += 1
            continue
        assert equal(json.loads(to_json(found)), json.loads(text, object_pairs_hook=no_repeats)), text
        found.rules()
    # Some changes are harmless: another number, two steps swapped. Most are not.
    assert 0.5 * MUTATIONS < refused < MUTATIONS


def test_the_comparison_of_the_mutations_can_fail():
    assert equal({"a": [1, None]}, {"a": [1.0, None]})
    assert not equal({"a": 1}, {"a": True}) and not equal({"a": [1]}, {"a": [1, 2]}) and not equal({}, {"a": 1})
