"""The picture and the table of what rules do at each step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from studio import Studio
from tiny import wan
from widget_defaults import defaults

from attention.backends.registry import HOST
from attention.core.canvas import NEUTRAL, WIDTH
from attention.guidance.strength import Strength
from attention.inspect.draw_schedule import CHOSEN, draw_schedule
from attention.inspect.kernel_colours import colours_of
from attention.inspect.schedule import ScheduleTable, tabulate, to_text
from attention.routing.rules import Rule, Shape

SITES = [("self", 0), ("self", 1), ("cross", 0), ("cross", 1)]
SIGMAS = [1.0, 0.75, 0.5, 0.25, 0.0]
ALL = (True,) * 4


class Radial:
    name = "radial"


def table_of(*rules, active=None) -> ScheduleTable:
    on = active or [(True,) * len(rules)] * 4
    return tabulate(SITES, rules, on, SIGMAS)


def test_no_rule_is_the_host():
    table = table_of()
    assert table.roles == {role: {0: (HOST,) * 4, 1: (HOST,) * 4} for role in ("self", "cross")}
    assert table.labels == (HOST,)


def test_the_last_rule_wins_where_it_holds():
    first, second = Rule("sdpa"), Rule("sage", role="self", blocks=((1, None),))
    active = [(True, False), (True, True), (True, True), (False, True)]
    table = table_of(first, second, active=active)
    assert table.roles["self"] == {0: ("sdpa", "sdpa", "sdpa", HOST), 1: ("sdpa", "sage", "sage", "sage")}
    assert table.roles["cross"][1] == ("sdpa", "sdpa", "sdpa", HOST)


def test_kinds_do_not_hide_each_other():
    rules = (Rule("sdpa"), Rule(shape=Shape(Radial())), Rule(strength=Strength(0.9), role="cross"))
    table = table_of(*rules)
    assert table.roles["self"][0] == ("radial",) * 4 and table.roles["cross"][0] == ("radial + strength",) * 4


def test_text():
    rules = (Rule("sage", role="self", blocks=((1, 1),)),)
    text = to_text(table_of(*rules, active=[(False,), (True,), (True,), (True,)]))
    assert text.splitlines() == [
        "self:",
        "  step 1 (sigma 1 to 0.75): host default",
        "  steps 2 to 4 (sigma 0.75 to 0): host default in blocks 0, sage in blocks 1",
        "cross:",
        "  steps 1 to 4 (sigma 1 to 0): host default",
    ]


def test_steps_that_are_forecast_are_told_together():
    """One alone too."""
    table = ScheduleTable((1.0, 0.8, 0.6, 0.4, 0.2, 0.0), {}, (*["computed"] * 3, "forecast taylor 1", "computed"))
    said, *lines = to_text(table).splitlines()
    assert said.startswith("4 of 5 steps are computed.")
    assert lines == [
        "  steps 1-3,5 (sigma 1 to 0): computed",
        "  step 4 (sigma 0.4 to 0.2): forecast taylor 1",
    ]


def test_picture_shows_each_cell():
    table = table_of(Rule("sage", role="self"), active=[(False,), (True,), (True,), (False,)])
    pixels = np.asarray(draw_schedule(table))
    sage = (pixels == colours_of(["sage"])["sage"]).all(-1)
    host = (pixels == NEUTRAL).all(-1)
    # The legend's squares begin at 28; panels are right of 96 and 836 wide, two of four steps by half of the blocks.
    cells = np.s_[:, 96:]
    assert sage[cells].sum() / (sage[cells].sum() + host[cells].sum()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    "table", [ScheduleTable((), {}), ScheduleTable((1.0, 0.0), {}), tabulate(SITES, (), [], [1.0])], ids=repr
)
def test_nothing_to_draw(table):
    assert np.asarray(draw_schedule(table)).shape[-1] == 3
    assert isinstance(to_text(table), str)


def test_many_blocks_and_steps_fit():
    sites = [("self", block) for block in range(60)]
    table = tabulate(sites, (), [()] * 100, [1 - i / 100 for i in range(101)])
    assert np.asarray(draw_schedule(table)).shape[1] == WIDTH


# --- the node --------------------------------------------------------------------------------------------------------


@pytest.fixture
def show(pack, inference):
    node = pack.nodes.schedule.VideoAttentionSchedule
    return lambda model, **widgets: node.execute(model, **{**defaults(node), **widgets}).args


def test_the_table_is_what_runs(pack, lab, show):
    """Steps and blocks that the table gives to a kernel are those that the report counts."""
    studio = Studio(pack, wan.TEXT_ONLY[0])
    model = lab.backend(studio.model, backend="reference", role="self", blocks="1", start_percent=0.3, end_percent=0.8)
    _, sigmas, text, *_ = show(model, steps=10)
    line = next(line for line in text.splitlines() if "reference" in line)
    first, last = (int(word) for word in line.split("steps ")[1].split(" (")[0].split(" to "))
    out = studio.sample(model=model, sigmas=sigmas, cfg=1.0)[0]
    rows = {(row.role, row.used): row for row in pack.nodes.host.run_history.find(out["samples"]).rows}
    assert rows["self", "reference"].calls == last - first + 1 and rows["self", "reference"].blocks == {1}


def test_sigmas_are_the_samplers(pack, show):
    studio = Studio(pack, wan.TEXT_ONLY[0])
    picture, sigmas, text, *percents = show(studio.model, steps=4, scheduler_name="karras", denoise=0.5)
    same = pack.nodes.runs.sampling_job.sigmas_of(studio.model, "euler", "karras", 4, 0.5, None)[0]
    assert torch.equal(sigmas, same) and picture.shape[0] == 1 and "karras" in text
    assert percents == [0.0, 1.0]
    own = torch.tensor([0.9, 0.1, 0.0])
    assert torch.equal(show(studio.model, sigmas=own)[1], own)


def test_a_model_of_no_known_family(pack, lab, show, monkeypatch):
    monkeypatch.setattr(pack.nodes.host.model_family, "find", lambda name: None)
    assert "Nothing is known" in show(lab.model)[2]


@pytest.mark.parametrize("scheduler", ["simple", "karras", "beta"])
@pytest.mark.parametrize(("first", "last"), [(1, 3), (4, 6), (7, 7), (9, 10), (1, 99)])
def test_percents_feed_a_backend(pack, lab, show, scheduler, first, last):
    """The chosen steps, and those alone, run on the kernel of the node that is fed."""
    studio = Studio(pack, wan.TEXT_ONLY[0])
    _, sigmas, text, start, end = show(
        studio.model, steps=10, scheduler_name=scheduler, first_step=first, last_step=last
    )
    model = lab.backend(studio.model, backend="reference", role="self", start_percent=start, end_percent=end)
    shown = show(model, sigmas=sigmas)[2]
    last = min(last, len(sigmas) - 1)
    steps = f"step {first} (" if first == last else f"steps {first} to {last} ("
    assert next(line for line in shown.splitlines() if "reference" in line).strip().startswith(steps)
    out = studio.sample(model=model, sigmas=sigmas, cfg=1.0)[0]
    rows = {(row.role, row.used): row for row in pack.nodes.host.run_history.find(out["samples"]).rows}
    blocks = len(rows["self", "reference"].blocks)
    assert rows["self", "reference"].calls == (last - first + 1) * blocks
    assert (f"Steps {first} to {last}: start_percent" in text) == ((first, last) != (1, 10))


def test_chosen_steps_are_marked(pack, show):
    studio = Studio(pack, wan.TEXT_ONLY[0])
    pictures = [show(studio.model, steps=10, first_step=step, last_step=step + 4)[0] for step in (1, 4)]
    marked = [np.where((np.asarray(p[0] * 255).round() == CHOSEN).all(-1).any(0))[0] for p in pictures]
    widths = [columns.max() - columns.min() for columns in marked]
    assert abs(widths[0] - widths[1]) <= 2 and marked[0].min() < marked[1].min()
    with pytest.raises(ValueError, match="first_step: 6 is after last_step"):
        show(studio.model, steps=10, first_step=6, last_step=5)
    with pytest.raises(ValueError, match="first_step: 11 is after"):
        show(studio.model, steps=10, first_step=11)


@pytest.mark.parametrize("levels", [[], [0.7]])
def test_of_no_steps_none_can_be_chosen(pack, show, levels):
    """ComfyUI's schedulers give these where nothing is to be denoised."""
    studio = Studio(pack, wan.TEXT_ONLY[0])
    _, sigmas, _, *percents = show(studio.model, sigmas=torch.tensor(levels))
    assert sigmas.tolist() == pytest.approx(levels) and percents == [0.0, 1.0]
    with pytest.raises(ValueError, match="first_step: 2 is after last_step, 10000, or after all 0 steps"):
        show(studio.model, sigmas=torch.tensor(levels), first_step=2)
