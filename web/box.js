// Puts a box on every node of this pack that says something, fills it while and after it runs, and again after a change
// of tab or a reload of the page.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { compare } from "./compare.js";
import { el, seconds } from "./dom.js";
import { nodeAt, showAgain, traitsOf } from "./find.js";
import { lastOutputs } from "./history.js";
import { maps } from "./maps.js";
import { plan } from "./plan.js";
import { report } from "./report.js";
import { Box } from "./view.js";
import { translate } from "./translate.js";
import { windows } from "./windows.js";

// What nodes/widgets/node.py calls a node's view.
const VIEWS = { compare, maps, plan, report, windows };
const NAME = "what ran";
const LINE = 22;
// Of a new node, in the canvas's units: with a view, a report, some lines.
const SIZES = { view: [560, 300], report: [460, 160] };
const LEAST = { view: 180, report: 60, note: 44 };
const BOXES = new WeakMap();

// Nodes 2.0 keeps a widget's element for the next node with its number, name and type: after a change of tab, an undo.
let made = 0;
const ownType = () => `video_attention_${++made}`;

function lineWidget(node) {
  // Plain text in a box of its own: both front ends show it once and as wide as the node, and nobody can type in it.
  const line = el("div");
  line.style.cssText = "font: 11px/14px sans-serif; color: #999; overflow: hidden; padding: 0 6px";
  return node.addDOMWidget(NAME, ownType(), line, {
    getValue: () => line.textContent,
    setValue: (text) => {
      line.textContent = line.title = translate(text);
    },
    getMinHeight: () => LINE,
    getMaxHeight: () => LINE,
    hideOnZoom: false,
    margin: 4,
  });
}

function boxWidget(node, kind, view) {
  const box = new Box(node, view, LEAST[kind]);
  BOXES.set(node, box);
  return node.addDOMWidget(NAME, ownType(), box.element, {
    getValue: () => box.text,
    setValue: (text) => box.show({ text: [text] }),
    getMinHeight: () => LEAST[kind],
    hideOnZoom: false,
    margin: 6,
  });
}

// text: what nodes/widgets/node.py says of the node: a whole "report", some lines as a "note", or one "line".
function addWidget(node, { text, view }) {
  const kind = VIEWS[view] ? "view" : text;
  const widget = text === "line" ? lineWidget(node) : boxWidget(node, kind, VIEWS[view]);
  // Neither part of the prompt nor of the saved workflow.
  widget.serialize = false;
  widget.options.serialize = false;
  // Of a new node; a loaded workflow brings its sizes.
  const size = SIZES[kind];
  if (size) node.setSize([Math.max(node.size[0], size[0]), Math.max(node.size[1], node.computeSize()[1] + size[1])]);
}

const widgetOf = (node) => node?.widgets?.find((w) => w.name === NAME);

function show(node, output) {
  const box = BOXES.get(node);
  if (box && output) return box.show(output);
  const widget = widgetOf(node);
  if (widget && output?.text && traitsOf(node).text) widget.value = [output.text].flat().join("\n");
}

// The server knows which Reports speak of the sampler that runs.
function showProgress({ detail }) {
  for (const path of detail.reports ?? []) show(nodeAt(path), { text: [detail.text] });
}

// When a node was first heard of in the run that goes on: [prompt, value, milliseconds].
const BEGUN = new WeakMap();

// Steps done of a node that measures, and how long the others take at the pace so far.
function showCount({ detail }) {
  for (const [path, { state, value, max }] of Object.entries(detail.nodes ?? {})) {
    const node = state === "running" ? nodeAt(path) : null;
    if (!VIEWS[traitsOf(node ?? {}).view]?.counts || !(max > 1)) continue;
    const now = performance.now();
    if (BEGUN.get(node)?.[0] !== detail.prompt_id) BEGUN.set(node, [detail.prompt_id, value, now]);
    const [, first, begun] = BEGUN.get(node);
    const left = value > first ? ((max - value) * (now - begun)) / (value - first) / 1000 : NaN;
    show(node, { text: [`Step ${value} of ${max}${left > 0 ? `, about ${seconds(left)} left` : ""}.`] });
  }
}

async function fillFromHistory() {
  for (const [node, output] of await lastOutputs()) {
    if (traitsOf(node).text && !widgetOf(node)?.value) show(node, output);
  }
}

// ComfyUI shows a line that a node writes while it runs: in the page's language, before it is shown.
function sayProgress({ detail }) {
  const node = nodeAt(detail.nodeId);
  if (node && (traitsOf(node).text || traitsOf(node).samples)) detail.text = translate(detail.text);
}

api.addEventListener("progress_text", sayProgress, { capture: true });

const nodesIn = (graph) => graph.nodes.flatMap((node) => [node, ...(node.subgraph ? nodesIn(node.subgraph) : [])]);

app.registerExtension({
  name: "videoattention.box",

  setup() {
    api.addEventListener("video_attention.progress", showProgress);
    api.addEventListener("progress_state", showCount);
  },

  nodeCreated(node) {
    const traits = traitsOf(node);
    if (!traits.text) return;
    addWidget(node, traits);
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      show(this, output);
    };
  },

  afterConfigureGraph() {
    // Behind what the page itself still knows, which comes first.
    const waits = nodesIn(app.rootGraph ?? app.graph).some((node) => traitsOf(node).text && !widgetOf(node)?.value);
    if (waits) setTimeout(() => fillFromHistory().catch(() => {}), 300);
  },

  onNodeOutputsUpdated(outputs) {
    showAgain(outputs, show);
  },
});
