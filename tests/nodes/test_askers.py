"""ComfyUI keeps a node's MODEL between prompts, and with it our rule: what is said of it goes to the node that has it
in the prompt that runs, whatever its id was before."""

from __future__ import annotations

import json

import pytest
from prompts import backend, node, prompt, report, sampler

MATH = "Backend sdpa math:"


def renamed(chain: dict, **names: str) -> dict:
    """The same nodes under other ids; those that are not in `names` keep theirs."""

    def link(value):
        return [names.get(value[0], value[0]), value[1]] if isinstance(value, list) else value

    return {
        names.get(key, key): {**one, "inputs": {name: link(value) for name, value in one["inputs"].items()}}
        for key, one in chain.items()
    }


def two(seed=1, **widgets) -> dict:
    """A Backend, another on it that is told apart from it, and a sampler."""
    more = backend("backend", "sdpa math", role="cross", **widgets)
    return prompt(more=more, sampler=sampler("more", seed=seed), report=report())


def ran(queue) -> set[str]:
    """Nodes that were executed, not kept."""
    return {data["node"] for event, data in queue.sent if event == "executing" and data["node"]}


@pytest.mark.parametrize(
    "names",
    [
        {"backend": "7", "more": "8"},
        {"backend": "more", "more": "backend"},
        # As the page writes a subgraph, and one in it.
        {"backend": "12:backend", "more": "12:3:more"},
        # What was a Backend's id is a sampler's now, and the other way round.
        {"backend": "sampler", "sampler": "backend"},
    ],
)
def test_what_came_of_a_rule_goes_to_the_node_that_has_it_now(queue, names):
    queue.run(two())
    first = queue.last()
    queue.run(renamed(two(seed=2), **names))
    made, more = (names.get(name, name) for name in ("backend", "more"))
    # ComfyUI kept both models: the rules are those of the first prompt.
    assert not {made, more} & ran(queue)
    last = queue.last()
    assert set(last) == {made, more} and last == {made: first["backend"], more: first["more"]}
    assert MATH in last[more] and MATH not in last[made]
    assert queue.history["prompt"][3]["video_attention"] == last


def test_a_report_of_a_kept_latent_speaks_of_the_nodes_of_its_prompt(queue):
    queue.run(two())
    look = {**two(), "trim": node("StandInTrim", samples=["sampler", 0]), "report": report("trim")}
    data = queue.run(renamed(look, backend="more", more="9"))["report"]["report"][0]
    assert ran(queue) == {"trim", "report"}
    assert data["answer"]["turn_on_timing_of"] == ["more", "9"]
    assert [rule["node"] for rule in data["rules"]] == ["more", "9"]
    assert MATH in data["rule_lines"][1]


def test_what_is_shown_of_a_kept_report_names_no_id(queue):
    """ComfyUI shows it again as it is, when other nodes have other ids."""
    chain = prompt(more=backend("backend", blocks="0"), sampler=sampler("more"), report=report("trim"))
    chain["trim"] = node("StandInTrim", samples=["sampler", 0])
    text = queue.run(chain)["report"]["text"][0]
    assert text.startswith("Not timed: turn timing on in Video Attention Backend to see how much faster ")
    assert "Backend sdpa (1st of 2 nodes): 4 of 4 " in text and "Backend sdpa (2nd of 2 nodes): 4 of 4 " in text
    assert text.endswith("Of StandInSampler.") and "(node" not in text
    again = queue.run(renamed(chain, backend="7", more="8", sampler="12:3", report="9"))
    assert again["9"]["text"][0] == text and not ran(queue)


def test_two_nodes_that_are_the_same_are_each_told_of_their_own_run(queue):
    """ComfyUI executes one of them and gives its output for both."""
    seeds = {f"sampler {name}": sampler(name, seed=seed) for seed, name in enumerate(("backend", "twin"), 1)}
    chain = prompt(twin=backend(), **seeds, first=report("sampler backend"), second=report("sampler twin"))
    queue.run(chain)
    told = [(data["node"], data["reports"]) for event, data in queue.sent if event == "video_attention.progress"
            and data.get("told")]  # fmt: skip
    assert sorted(told) == [("sampler backend", ["backend"]), ("sampler twin", ["twin"])]


def test_two_nodes_that_are_the_same_before_one_sampler_are_both_told(queue, pack):
    """As in a sampler of two models. One run of each; ComfyUI keeps the MODEL, so that there is one rule."""
    askers, graph = pack.nodes.host.askers, _Graph(pack, prompt(twin=backend(), both=node("Two", a=["backend", 0],
                                                                                         b=["twin", 0])))  # fmt: skip
    rules = pack.attention.routing.rules
    asker = rules.Asker("gone", "Backend", signatures=(graph.signature("twin"),))
    found = askers.finder_before(graph, "both")(asker)
    assert found.nodes == ("backend", "twin") and found.title == "Backend (node backend)"


def test_a_node_that_is_in_no_prompt_any_more_is_named_without_an_id(pack):
    """A model may come another way than by links, as from a pack that keeps it by a name."""
    askers, rules = pack.nodes.host.askers, pack.attention.routing.rules
    graph = _Graph(pack, prompt(sampler=sampler("model")))
    find = askers.finder_before(graph, "sampler")
    gone = find(rules.Asker("backend", "Video Attention Backend", signatures=(1,)))
    assert (gone.nodes, gone.title) == ((), "Video Attention Backend")
    # It is there, not before the sampler.
    here = find(rules.Asker("gone", "Video Attention Backend", signatures=(graph.signature("backend"),)))
    assert here.nodes == ("backend",)
    assert find(None) is None


def _Graph(pack, chain: dict):
    from comfy_execution.graph import DynamicPrompt

    return pack.nodes.host.workflow_graph.Graph(DynamicPrompt(chain))


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (0, False)])
def test_a_number_written_otherwise_is_the_same_node(pack, one, other):
    """As ComfyUI compares them; a page writes 1 where a script writes 1.0."""
    signatures = [_Graph(pack, prompt(backend=backend(end_percent=end))).signature("backend") for end in (one, other)]
    assert signatures[0] == signatures[1]


def test_a_rule_of_another_script_and_page(queue):
    queue.run(two(end_percent=1.0))
    queue.run(renamed(two(seed=2, end_percent=1), more="9"))
    assert "9" not in ran(queue) and set(queue.last()) == {"backend", "9"}


def test_an_error_names_the_node_that_asks_now(queue):
    chain = prompt(backend=backend(name="sage", on_unsupported="error"), sampler=sampler("backend"), report=report())
    said = "Video Attention Backend (node backend), backend: 'sage' cannot run the self-attention"
    assert said in queue.error(chain)["exception_message"]
    again = queue.error(renamed(chain, backend="12:3", model="backend"))
    assert "12:3" not in ran(queue)
    assert said.replace("node backend", "node 12:3") in again["exception_message"]


def test_a_warning_goes_to_the_node_that_is_there_now(queue):
    """Another pack's attention runs past our rules, which stands on the nodes that made them."""
    chain = prompt(taker=node("StandInTaker", model=["backend", 0]), sampler=sampler("taker"), report=report())
    queue.run(chain)
    assert {where for text, where in queue.lines if "attention" in text} == {"backend"}
    again = renamed({**chain, "sampler": sampler("taker", seed=2)}, backend="9")
    queue.run(again)
    assert "9" not in ran(queue)
    assert {where for text, where in queue.lines if "attention" in text} == {"9"}


def test_a_node_that_was_expanded_into_ours_is_found_again(queue):
    """What it was expanded into is not in the second prompt, where its result is kept."""
    chain = prompt(made=node("StandInMaker", model=["model", 0]), sampler=sampler("made"), report=report())
    del chain["backend"]
    queue.run(chain)
    assert set(queue.last()) == {"made"}
    queue.run(renamed({**chain, "sampler": sampler("made", seed=2)}, made="9"))
    assert set(queue.last()) == {"9"}
    data = json.loads(json.dumps(queue.history["outputs"]["report"]["report"][0]))
    assert [rule["node"] for rule in data["rules"]] == ["9"]


def test_inputs_of_any_kind_are_compared(pack):
    """Nodes that other nodes expand into may have tuples there, with what cannot be hashed in them."""
    graphs = [
        _Graph(pack, prompt(backend=backend(end_percent=value))) for value in (((1, [2]),), ((1, [2]),), ((1, [3]),))
    ]
    one, same, other = (graph.signature("backend") for graph in graphs)
    assert one == same != other
