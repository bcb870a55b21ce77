"""Widgets that web/idle.js hides have no effect: every row of every node, run with two values of the hidden widget."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from sampling_nodes import SMALL
from studio import CASES, Studio, latent_of
from tiny.case import parts
from widget_defaults import defaults

FIRST = {**SMALL, "scheduler_name": "simple", "window": 2.0, "min_tokens": 0, "unet_name": "tiny.safetensors"}
# Needs a file of weights.
UNFIT = {"upscale model"}
TIMES = re.compile(r"[\d.]+ ?(s|ms|x)\b")


class Arguments(Exception):
    """What a node was about to do."""


@pytest.fixture(scope="module")
def nodes(pack) -> dict:
    return {node.GET_SCHEMA().node_id: node for node in pack.nodes.NODES}


@pytest.fixture(scope="module")
def studio(pack, comfy_host):
    with torch.inference_mode():
        yield Studio(pack, CASES[0])


def declared() -> list[str]:
    from sampling_nodes import SCHEMAS

    return list(SCHEMAS)


def inputs_of(node) -> dict:
    """Widgets and sockets by their names in a prompt; those of a dynamic combo behind its own."""
    found = {}
    for one in node.GET_SCHEMA().inputs:
        found[one.id] = one
        for option in getattr(one, "options", None) or ():
            for inner in getattr(option, "inputs", ()):
                found[f"{one.id}.{inner.id}"] = inner
    return found


def keys_of(one) -> list:
    """What a combo offers, a plain one or a dynamic one."""
    return [getattr(option, "key", option) for option in getattr(one, "options", None) or ()]


def put(node, values: dict, name: str, value) -> None:
    """Set a widget by its name in a prompt."""
    outer, _, inner = name.partition(".")
    one = inputs_of(node)[outer]
    options = {option.key: option for option in getattr(one, "options", None) or () if hasattr(option, "key")}
    if inner:
        if inner not in values[outer]:
            put(node, values, outer, next(k for k, option in options.items() if inner in [i.id for i in option.inputs]))
        values[outer] = {**values[outer], inner: value}
    elif options:
        first = {i.id: keys_of(i)[0] if keys_of(i) and i.default is None else i.default for i in options[value].inputs}
        values[outer] = {outer: value, **first}
    else:
        values[outer] = value


def held(node, when: dict) -> list:
    """Values of a condition's widget with which it holds: at most two of them."""
    if "one_of" in when:
        found = when["one_of"]
    else:
        found = [key for key in keys_of(inputs_of(node)[when["widget"]]) if key not in when["none_of"]]
    found = [value for value in found if value not in UNFIT]
    assert found
    return [found[0], *found[1:][-1:]]


def another(one, value):
    """Another value that a widget may hold."""
    if keys_of(one):
        return next(key for key in keys_of(one) if key != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return "1" if value != "1" else "0"
    # Half way to an end: two percents must stay in their order.
    between = (value + (one.min if value != one.min else one.max)) / 2
    return between if isinstance(value, float) else int(between)


@pytest.fixture
def sockets(studio, inference):
    """Type, or a socket's own name -> what is connected to it."""
    noise, guider, sampler, sigmas = studio.neighbours(cfg=1.0)
    latent = latent_of(studio.case, filled=True)
    video = latent["samples"]
    larger = torch.nn.functional.interpolate(video[0], scale_factor=2)[None]
    clip = torch.rand(5, 32, 48, 3, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 32, 48)
    mask[:, :16] = 1.0
    return {
        "MODEL": studio.model, "LATENT": latent, "SIGMAS": sigmas, "SAMPLER": sampler, "NOISE": noise, "MASK": mask,
        "GUIDER": guider, "IMAGE": clip, "positive": studio.positive, "negative": studio.negative,
        "CONDITIONING": studio.positive, "reference": clip.flip(0), "second_latent": {"samples": larger},
    }  # fmt: skip


def prepared(node, sockets: dict, row: dict, hidden: str) -> list[dict]:
    """Arguments with which a row holds, for each value of its conditions; the hidden widget is there."""
    known = inputs_of(node)
    values = defaults(node)
    linked = {when["linked"] for when in row["when"] if "linked" in when}
    for name, one in known.items():
        if "." not in name and (not one.optional or name in linked) and (given := sockets.get(name)) is not None:
            values[name] = given
        elif "." not in name and (not one.optional or name in linked) and one.io_type in sockets:
            values[name] = sockets[one.io_type]
        elif keys_of(one) and "." not in name and name not in values:
            put(node, values, name, keys_of(one)[0])
    for name, value in FIRST.items():
        if name in known:
            values[name] = value
    asked = [when for when in row["when"] if "widget" in when]
    found = [values]
    for when in asked:
        found = [{**made, "__": (when["widget"], value)} for made in found for value in held(node, when)]
        for made in found:
            put(node, made, *made.pop("__"))
    for made in found:
        one, outer = known[hidden], hidden.partition(".")[0]
        if "." in hidden and hidden.partition(".")[2] not in made[outer]:
            put(node, made, hidden, one.default)
    return found


def seen(node, studio, row: dict, output) -> list:
    """What a node gave, as far as it can be compared; a MODEL by what it samples and by what ran then."""
    spared, found = {when.get("unused") for when in row["when"]}, []
    for socket, value in zip(node.GET_SCHEMA().outputs, output.args, strict=True):
        if socket.id in spared:
            continue
        if socket.io_type == "MODEL":
            out = studio.sample(latent_of(studio.case, filled=True), model=value, cfg=1.0, steps=2)[0]["samples"]
            report = studio.pack.nodes.host.run_history.find(out)
            found += [*parts(out), [(used.role, used.used, used.calls) for used in report.rows] if report else None]
        elif isinstance(value, dict) and "samples" in value:
            found += parts(value["samples"])
        else:
            found.append(TIMES.sub("", value) if isinstance(value, str) else value)
    return found


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other or (one != one and other != other)


@pytest.mark.parametrize("name", declared())
def test_a_hidden_widget_changes_nothing(name, nodes, studio, sockets, monkeypatch):
    node = nodes[name]
    monkeypatch.setattr(studio.pack.nodes.load.UNETLoader, "load_unet", lambda *_: (studio.model,))

    def stop(sampling, *asked):
        raise Arguments(asked)

    # What it chooses rests on times; what it is asked for does not.
    monkeypatch.setattr(studio.pack.nodes.plan, "calibrate", stop)

    def run(row, values):
        try:
            return seen(node, studio, row, node.execute(**copy.copy(values)))
        except Arguments as asked:
            return list(asked.args)

    for row in node.IDLE:
        for hidden in row["widgets"]:
            for values in prepared(node, sockets, row, hidden):
                outer, _, inner = hidden.partition(".")
                one, before = inputs_of(node)[hidden], values[outer][inner] if inner else values[outer]
                changed = dict(values)
                put(node, changed, hidden, another(one, before))
                assert changed[outer] != values[outer]
                truth, now = run(row, values), run(row, changed)
                assert len(truth) == len(now) and all(map(same, truth, now)), (row, hidden)


def test_rows_name_what_there_is(nodes):
    for node in nodes.values():
        known, outputs = inputs_of(node), {socket.id for socket in node.GET_SCHEMA().outputs}
        for row in node.IDLE:
            assert row["widgets"] and row["when"] and set(row["widgets"]) <= set(known)
            for when in row["when"]:
                assert when.get("widget", when.get("linked")) in known or when.get("unused") in outputs, when
                values = when.get("one_of", when.get("none_of", ()))
                keys = keys_of(known[when["widget"]]) if values else ()
                assert not keys or set(values) <= set(keys), when


def test_a_widget_with_an_effect_is_found_out(nodes, studio, sockets):
    """The comparison above sees what a widget does where it counts."""
    node = nodes["VideoAttentionSampler"]
    row = {"widgets": ["steps"], "when": []}
    (values,) = prepared(node, sockets, row, "steps")
    truth, now = (seen(node, studio, row, node.execute(**{**values, "steps": steps})) for steps in (2, 3))
    assert not all(map(same, truth, now))
