// Shows a node's text on it: ComfyUI sends the text, but draws text on its own PreviewAny alone.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { ComfyWidgets } from "../../scripts/widgets.js";
import { nodeAt, showAgain, traitsOf } from "./find.js";

const NAME = "what ran";
const LINE = 22;

function textWidget(node) {
  const { widget } = ComfyWidgets.STRING(node, NAME, ["STRING", { multiline: true }], app);
  widget.element.readOnly = true;
  // Nodes 2.0 draws a text area of its own and asks here.
  widget.options.read_only = true;
  Object.assign(widget.element.style, { fontFamily: "monospace", whiteSpace: "pre-wrap", overflow: "auto" });
  return widget;
}

function lineWidget(node) {
  // Plain text in a box of its own: both front ends show it once and as wide as the node, and nobody can type in it.
  const line = document.createElement("div");
  line.style.cssText = "font: 11px/14px sans-serif; color: #999; overflow: hidden; padding: 0 6px";
  return node.addDOMWidget(NAME, "line", line, {
    getValue: () => line.textContent,
    setValue: (text) => {
      line.textContent = line.title = text;
    },
    getMinHeight: () => LINE,
    getMaxHeight: () => LINE,
    hideOnZoom: false,
    margin: 4,
  });
}

// text: what nodes/widgets/node.py says of the node: a whole "report", some lines as a "note", or one "line".
function addWidget(node, text) {
  const widget = text === "line" ? lineWidget(node) : textWidget(node);
  // Neither part of the prompt nor of the saved workflow.
  widget.serialize = false;
  widget.options.serialize = false;
  // Of a new node; a loaded workflow brings its sizes. Some lines of a report, not two.
  if (text === "report") {
    node.setSize([Math.max(node.size[0], 460), Math.max(node.size[1], node.computeSize()[1] + 160)]);
  }
}

function show(node, output) {
  const widget = node?.widgets?.find((w) => w.name === NAME);
  if (!widget || !output?.text) return;
  widget.value = [output.text].flat().join("\n");
}

// The server knows which Reports speak of the sampler that runs.
function showProgress({ detail }) {
  for (const path of detail.reports ?? []) show(nodeAt(path), { text: [detail.text] });
}

app.registerExtension({
  name: "videoattention.report",

  setup() {
    api.addEventListener("video_attention.progress", showProgress);
  },

  nodeCreated(node) {
    const { text } = traitsOf(node);
    if (!text) return;
    addWidget(node, text);
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      show(this, output);
    };
  },

  onNodeOutputsUpdated(outputs) {
    showAgain(outputs, show);
  },
});
