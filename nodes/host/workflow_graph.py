"""A prompt as a graph: which node made a latent, which nodes are the same as in an earlier prompt, who reads a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from comfy_execution.progress import get_progress_state

from nodes import NODE_CLASS_MAPPINGS

REPORT, CLEAR = "VideoAttentionReport", "VideoAttentionClear"
# Of the classes of this pack's nodes whose MODEL counts its attention calls.
COUNTS = "COUNTS_ATTENTION"
# Outputs whose type depends on what is connected: they may carry a latent, or a model.
ANY = {"*", "COMFY_MATCHTYPE_V3"}
# Of each prompt: node -> its signature. Nodes stay as they are while a prompt runs; a prompt has many runs.
_SIGNATURES: WeakKeyDictionary = WeakKeyDictionary()
# Models that are not sampled.
HELPERS = ("UPSCALE", "CLIP", "VISION", "STYLE", "PATCH", "CONTROL", "DETECT", "INTERP")


class Owner(NamedTuple):
    """A node, and what its result depends on.

    node: its id.
    signature: as of Graph.signature; None where it is not known.
    """

    node: str
    signature: int | None


class Graph:
    """The nodes of a prompt while it runs.

    dynprompt: the host's DynamicPrompt, which grows where nodes expand.
    reached: the nodes that ran or had their result kept, once that is known: what a switch did not choose is not among
        them.
    Its methods take and give ids of nodes.
    """

    def __init__(self, dynprompt, reached=()):
        self._dynprompt, self._reached = dynprompt, reached
        self._signatures: dict[str, int] = _SIGNATURES.setdefault(dynprompt, {})

    def node(self, key: str) -> dict | None:
        """Gives {class_type, inputs} of a node; None for one that is not there."""
        return self._dynprompt.get_node(key) if self._dynprompt.has_node(key) else None

    def links(self, key: str) -> list[tuple[str, str, int]]:
        """Lists (input, node, output) of everything connected to a node."""
        inputs = (self.node(key) or {}).get("inputs", {})
        return [(name, str(value[0]), value[1]) for name, value in inputs.items() if _is_link(value)]

    def title(self, key: str) -> str:
        """Writes a node's name: `KSampler (node 5)`."""
        return f"{(self.node(key) or {}).get('class_type', 'a node')} (node {key})"

    def inside(self, key: str) -> list[str]:
        """Lists the nodes that a node was expanded into, in this prompt."""
        found = []
        for each in self._dynprompt.ephemeral_prompt:
            parent = self._dynprompt.get_parent_node_id(each)
            while parent is not None and parent != key:
                parent = self._dynprompt.get_parent_node_id(parent)
            found += [each] if parent == key else []
        return found

    def around(self, key: str) -> list[str]:
        """Lists the node, the one that it was expanded from, and so on."""
        found = [key]
        while (parent := self._dynprompt.get_parent_node_id(found[-1])) is not None:
            found.append(parent)
        return found

    def all(self) -> list[str]:
        """Lists all nodes."""
        return list(self._dynprompt.all_node_ids())

    def up_from(self, key: str) -> list[str]:
        """Lists a node and all that it comes from, the nearest first, with what they were expanded into."""
        found, waiting, into = {}, [key], {}
        for each in self._dynprompt.ephemeral_prompt:
            into.setdefault(self._dynprompt.get_parent_node_id(each), []).append(each)
        for each in waiting:
            if each not in found and self.node(each) is not None:
                found[each] = None
                waiting += [node for _, node, _ in self.links(each)] + into.get(each, [])
        return list(found)

    def depth(self, key: str) -> int:
        """Counts what a node comes from, itself too: more than for any of those, so that it sorts nodes as they ran."""
        return len(self.up_from(key))

    def reports(self) -> list[str]:
        """Lists the Report nodes among them."""
        return [key for key in sorted(self._dynprompt.all_node_ids()) if self.node(key)["class_type"] == REPORT]

    def shown(self, key: str) -> str:
        """Finds the node on which the page shows this one."""
        return self._dynprompt.get_display_node_id(key)

    def signature(self, key: str) -> int | None:
        """Computes a number that is equal for nodes whose class and inputs are equal, everything upstream included.

        As ComfyUI's own cache compares them. None for a node that is not there.
        """
        waiting, entered = [key], set()
        while waiting:
            each = waiting[-1]
            entered.add(each)
            above = [node for _, node, _ in self.links(each) if node not in self._signatures and node not in entered]
            waiting += above
            if not above and self.node(waiting.pop()) is not None:
                self._signatures.setdefault(each, self._sign(each))
        return None if self.node(key) is None else self._signatures[key]

    def _sign(self, key: str) -> int:
        node = self.node(key)
        links = {name: (self._signatures.get(source, 0), output) for name, source, output in self.links(key)}
        inputs = {name: _comparable(value) for name, value in node.get("inputs", {}).items()} | links
        return hash((node["class_type"], tuple((name, inputs[name]) for name in sorted(inputs))))

    def kind(self, key: str, name: str, source: str, output: int) -> str:
        """Finds the type of a link: as the node declares its input, else as the source declares its output.

        name: of the input.
        source: node that is connected to it.
        output: number of the source's output.
        """
        declared, _ = _input(NODE_CLASS_MAPPINGS.get((self.node(key) or {}).get("class_type")), name)
        if declared and declared not in ANY:
            return declared
        types = getattr(NODE_CLASS_MAPPINGS.get((self.node(source) or {}).get("class_type")), "RETURN_TYPES", ())
        return str(types[output]) if output < len(types) else "*"

    def samples(self, key: str) -> bool:
        """Tells whether a node looks like a sampler: it gets a guider, a model and prompts, or all in a pipe."""
        kinds = {self.kind(key, *link) for link in self.links(key)}
        models = {kind for kind in kinds if kind.endswith("MODEL") and not any(word in kind for word in HELPERS)}
        piped = any("PIPE" in kind for kind in kinds)
        return "GUIDER" in kinds or piped or bool(models - {"MODEL"}) or {"MODEL", "CONDITIONING"} <= kinds

    def latents(self, key: str) -> list[tuple[str, int]]:
        """Lists the latents that a node gets, as (node, output); of a switch the chosen one, where it can be told."""
        found = [link for link in self.links(key) if {"LATENT", *ANY} & set(self.kind(key, *link).split(","))]
        class_type = (self.node(key) or {}).get("class_type")
        lazy = [link for link in found if _input(NODE_CLASS_MAPPINGS.get(class_type), link[0])[1].get("lazy")]
        # What the cache kept is not reached either: then the latent itself must tell.
        chosen = [link for link in lazy if link[1] in self._reached] or lazy
        return [link[1:] for link in found if link not in lazy or link in chosen]

    def is_counted(self, key: str) -> bool:
        """Tells whether the model of a sampler comes through a node that counts its calls, not cleared again."""
        latents, seen = self.latents(key), set()
        waiting = [source for _, source, output in self.links(key) if (source, output) not in latents]
        while waiting:
            each = waiting.pop()
            kind = (self.node(each) or {}).get("class_type")
            if getattr(NODE_CLASS_MAPPINGS.get(kind), COUNTS, False):
                return True
            if each not in seen and kind != CLEAR:
                seen.add(each)
                waiting += [source for _, source, _ in self.links(each)]
        return False


class Trail(NamedTuple):
    """Where a latent comes from.

    found: (node, what was found there).
    uncounted: samplers of which nothing was found.
    between: nodes on the way that only passed the latent on.
    """

    found: list
    uncounted: list[str]
    between: list[str]


def follow(graph: Graph, reader: str, find: Callable) -> Trail:
    """Follows every latent from the node `reader` up to the first nodes of which something is found.

    find: (node, output) -> what is found; something empty where the search goes on.
    """
    trail, seen, waiting = Trail([], [], []), set(), graph.latents(reader)
    while waiting:
        link = waiting.pop(0)
        if link in seen or graph.node(link[0]) is None:
            continue
        seen.add(link)
        node = link[0]
        if found := find(*link):
            trail.found.append((node, found))
        elif graph.samples(node):
            trail.uncounted.append(node)
        else:
            trail.between.append(node)
            waiting += graph.latents(node)
    return trail


def before(graph: Graph, nodes: list[str], find: Callable) -> Trail:
    """Follows the latents of samplers up through all samplers that they come from, one after the other.

    nodes: the samplers; neither they are found again nor what the page shows on the same nodes, as turns of a loop.
    find: as of `follow`.
    Gives what is found in the order in which it ran, as of Graph.depth.
    """
    trail, waiting = Trail([], [], []), list(nodes)
    known = {graph.shown(node) for node in nodes}
    while waiting:
        above = follow(graph, waiting.pop(0), find)
        new = {node: found for node, found in above.found if graph.shown(node) not in known}
        missed = [node for node in above.uncounted if graph.shown(node) not in known]
        known |= {graph.shown(node) for node in (*new, *missed)}
        trail.found[:0] = new.items()
        trail.uncounted[:0] = missed
        waiting += [*new, *missed]
    # The nearest first is not enough: one may be reached past another that comes from it.
    trail.found.sort(key=lambda pair: graph.depth(pair[0]))
    trail.uncounted.sort(key=graph.depth)
    return trail


def running(prompt: str) -> Graph | None:
    """Gives the Graph of the prompt that runs; None when it is another one."""
    state = get_progress_state()
    return Graph(state.dynprompt) if state.prompt_id == prompt else None


def behind(prompt: str, dynprompt) -> Graph:
    """Gives the Graph of the prompt for a node that runs in it, so that everything before the node has been reached."""
    state = get_progress_state()
    return Graph(dynprompt, set(state.nodes) if state.prompt_id == prompt else ())


def owners(prompt: str, node: str) -> tuple[tuple[Owner, ...], str]:
    """Finds the node and those that it was expanded from, and the one that the page shows."""
    graph = running(prompt)
    if graph is None or graph.node(node) is None:
        return (Owner(node, None),), node
    return tuple(Owner(each, graph.signature(each)) for each in graph.around(node)), graph.shown(node)


def readers(prompt: str, node: str) -> list[str]:
    """Finds the Report nodes of the prompt whose latent comes from `node`, as the page names them."""
    graph = running(prompt)
    if graph is None or graph.node(node) is None:
        return []
    here = {*graph.around(node), graph.shown(node)}

    def is_here(source: str, output: int) -> bool:
        return source in here

    def reads(report: str) -> bool:
        trail = follow(graph, report, is_here)
        # Behind it there may be more samplers; of one that nobody counts its Report says nothing else.
        later = [each for each in trail.uncounted if graph.is_counted(each)]
        return bool(trail.found or before(graph, later, is_here).found)

    return list(dict.fromkeys(graph.shown(key) for key in graph.reports() if reads(key)))


def _input(kind, name: str) -> tuple[str | None, dict]:
    """Finds the declared type and options of an input of a node's class; None and nothing where it is not declared."""
    try:
        groups = kind.INPUT_TYPES().values()
    except Exception:  # a class that is not there, or of another pack: a report must not cost a render
        return None, {}
    for inputs in groups:
        if isinstance(inputs, dict) and isinstance(inputs.get(name), tuple | list) and inputs[name]:
            declared, options = inputs[name][0], inputs[name][1:]
            named = declared if isinstance(declared, str) else None
            return named, options[0] if options and isinstance(options[0], dict) else {}
    return None, {}


def _comparable(value):
    """Gives what is equal for values that ComfyUI takes for equal: a page writes 1 where a script writes 1.0."""
    return value if isinstance(value, int | float | str) else repr(value)


def _is_link(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int) and isinstance(value[0], str | int)
