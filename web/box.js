// Puts a box on every node of this pack that says something, fills it while and after it runs, and again after a change
// of tab or a reload of the page.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { compare } from "./compare.js";
import { el, seconds } from "./dom.js";
import { everyNode, nodeAt, showAgain, traitsOf } from "./find.js";
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
// A line's height in the canvas's units, and how many of them a text may take.
const LINE = 14, LINES = 5;
// Of a new node, in the canvas's units: with a view, a report, some lines.
const SIZES = { view: [560, 300], report: [460, 160] };
const LEAST = { view: 180, report: 60, note: 44 };
const BOXES = new WeakMap();
const FONT = "11px Inter, system-ui, sans-serif";

// Nodes 2.0 keeps a widget's element for the next node with its number, name and type: after a change of tab, an undo.
let made = 0;
const ownType = () => `video_attention_${++made}`;

const pen = document.createElement("canvas").getContext("2d");

function textWidth(text) {
  pen.font = FONT;
  return pen.measureText(text).width;
}

function lineWidget(node) {
  // Plain text in a box of its own: both front ends show it once and as wide as the node, and nobody can type in it.
  const line = el("div.va-line-box", { style: { "--va-lines": LINES, "--va-line-height": `${LINE}px` } });
  // As high as its text needs at the node's width: the text is what came of a run, and is not to be cut.
  const high = () => LINE * Math.min(LINES, Math.max(1, Math.ceil(textWidth(line.textContent) / (node.size[0] - 40)))) + 8;
  return node.addDOMWidget(NAME, ownType(), line, {
    getValue: () => line.textContent,
    setValue: (text) => {
      line.textContent = line.title = translate(text);
      line.style.minHeight = `${high() - 8}px`;
      const needed = node.computeSize()[1];
      if (node.size[1] < needed) node.setSize([node.size[0], needed]);
    },
    getMinHeight: high,
    getMaxHeight: high,
    hideOnZoom: false,
    margin: 4,
  });
}

// A new node offers its example until something is connected to it or it has something to say.
function offer(node, box) {
  const changed = node.onConnectionsChange;
  node.onConnectionsChange = function () {
    changed?.apply(this, arguments);
    if (box.empty) box.draw();
  };
  box.draw();
}

function boxWidget(node, kind, view, example) {
  const box = new Box(node, view, LEAST[kind], example);
  BOXES.set(node, box);
  if (example) offer(node, box);
  return node.addDOMWidget(NAME, ownType(), box.element, {
    getValue: () => box.text,
    setValue: (text) => box.show({ text: [text] }),
    getMinHeight: () => LEAST[kind],
    hideOnZoom: false,
    margin: 6,
  });
}

// text: what nodes/widgets/node.py says of the node: a whole "report", some lines as a "note", or one "line".
function addWidget(node, { text, view, example }) {
  const kind = VIEWS[view] ? "view" : text;
  const widget = text === "line" ? lineWidget(node) : boxWidget(node, kind, VIEWS[view], example);
  // Neither part of the prompt nor of the saved workflow.
  widget.serialize = false;
  widget.options.serialize = false;
  // Of a new node; a loaded workflow brings its sizes.
  const size = SIZES[kind];
  if (size) node.setSize([Math.max(node.size[0], size[0]), Math.max(node.size[1], node.computeSize()[1] + size[1])]);
}

const widgetOf = (node) => node?.widgets?.find((w) => w.name === NAME);

// What was told to a node after a run: it stands until the node runs anew or another run tells something, also where the
// node says again what it said before that run, as after a change of tab or where ComfyUI kept its result.
const TOLD = new WeakMap();
// Where the page keeps it, beside the node's output.
const KEPT = "video_attention_told";

function show(node, output) {
  if (!output || !node) return;
  const box = BOXES.get(node);
  const widget = widgetOf(node);
  if (box) box.show(output);
  else if (widget && output.text && traitsOf(node).text) widget.value = [output.text].flat().join("\n");
  if (output[KEPT]) TOLD.set(node, output[KEPT]);
  if (output[KEPT] && box) box.tell(output[KEPT]);
  else if (output[KEPT] && widget) widget.value = output[KEPT];
}

const keyOf = (node) => (node.graph?.rootGraph === node.graph ? String(node.id) : `${node.graph.id}:${node.id}`);

function tell(node, text) {
  const kept = node && app.nodeOutputs?.[keyOf(node)];
  if (kept) app.nodeOutputs[keyOf(node)] = { ...kept, [KEPT]: text };
  show(node, { ...(kept ?? BOXES.get(node)?.output), [KEPT]: text });
}

// The server knows which Reports speak of the sampler that runs, and which nodes a finished run is told to.
function showProgress({ detail }) {
  for (const path of detail.reports ?? []) {
    if (detail.told) tell(nodeAt(path), detail.text);
    else show(nodeAt(path), { text: [detail.text] });
  }
}

// Nodes whose result ComfyUI keeps in the run that goes on.
let kept = new Set();

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
  for (const [node, output, told] of await lastOutputs()) {
    if (!traitsOf(node).text || widgetOf(node)?.value) continue;
    show(node, { ...output, [KEPT]: told });
  }
}

// ComfyUI shows a line that a node writes while it runs: in the page's language, before it is shown.
function sayProgress({ detail }) {
  const node = nodeAt(detail.nodeId);
  if (node && (traitsOf(node).text || traitsOf(node).samples)) detail.text = translate(detail.text);
}

api.addEventListener("progress_text", sayProgress, { capture: true });

app.registerExtension({
  name: "videoattention.box",

  setup() {
    api.addEventListener("video_attention.progress", showProgress);
    api.addEventListener("progress_state", showCount);
    api.addEventListener("execution_cached", ({ detail }) => {
      kept = new Set((detail.nodes ?? []).map(nodeAt));
    });
  },

  nodeCreated(node) {
    const traits = traitsOf(node);
    if (!traits.text) return;
    addWidget(node, traits);
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      show(this, output);
      if (kept.has(this) && TOLD.has(this)) tell(this, TOLD.get(this));
      else TOLD.delete(this);
    };
  },

  afterConfigureGraph() {
    // Behind what the page itself still knows, which comes first.
    const waits = everyNode().some((node) => traitsOf(node).text && !widgetOf(node)?.value);
    if (waits) setTimeout(() => fillFromHistory().catch(() => {}), 300);
  },

  onNodeOutputsUpdated(outputs) {
    showAgain(outputs, show);
  },
});
