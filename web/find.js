// Where a node is on the page, by the names that ComfyUI gives it, and what nodes/widgets/node.py says of it; every view
// of this pack asks here.

import { app } from "../../scripts/app.js";

const TRAITS = new Map();
// What sentences call a node -> what the page calls it, in its language.
export const NAMES = new Map();
const short = (name) => name.split(/ ?[(\uff08]/)[0];

app.registerExtension({
  name: "videoattention.traits",

  beforeRegisterNodeDef(nodeType, definition) {
    if (!definition.video_attention) return;
    TRAITS.set(definition.name, definition.video_attention);
    NAMES.set(definition.video_attention.name, short(definition.display_name));
  },
});

// { text, samples } of a node of this pack, {} of others.
export function traitsOf(node) {
  return TRAITS.get(node.comfyClass) ?? {};
}

const inGraph = (graph, id) => graph?.getNodeById?.(id) ?? graph?.getNodeById?.(Number(id));

// All nodes of a graph and of the subgraphs in it.
const nodesIn = (graph) => graph.nodes.flatMap((node) => [node, ...(node.subgraph ? nodesIn(node.subgraph) : [])]);

// The nodes of this page, in whatever subgraph they are; once, of a subgraph that is there several times.
export const everyNode = () => [...new Set(nodesIn(app.rootGraph ?? app.graph))];

// path: "6"; "14:6", node 6 of the subgraph that is node 14, as prompts have it, of any depth; "<uuid>:6", node 6 of the
// subgraph defined under that uuid, as outputs have it.
export function nodeAt(path) {
  const root = app.rootGraph ?? app.graph;
  const ids = String(path).split(":");
  let graph = root.subgraphs?.get(ids[0]);
  if (graph) ids.shift();
  else graph = root;
  let node;
  for (const id of ids) {
    node = inGraph(graph, id);
    graph = node?.subgraph;
  }
  return node;
}

// show(node, output) for the nodes of which the page knows outputs again: after a reload or a change of tab.
export function showAgain(outputs, show) {
  for (const [path, output] of Object.entries(outputs ?? {})) show(nodeAt(path), output);
}
