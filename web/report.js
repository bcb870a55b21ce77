// Shows a node's text on it: ComfyUI sends the text, but draws text on its own PreviewAny alone.

import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

// Whole reports, and one line on nodes that patch a model.
const REPORTS = [
  "VideoAttentionReport",
  "VideoAttentionBenchmark",
  "VideoAttentionInfo",
  "VideoAttentionMaps",
  "VideoAttentionTemporalMetrics",
  "VideoAttentionCompare",
  "VideoAttentionCalibrate",
  "VideoAttentionLoadPlan",
];
const LINES = [
  "VideoAttentionBackend",
  "VideoAttentionLoadModel",
  "VideoAttentionPattern",
  "VideoAttentionStrength",
];
const NAME = "what ran";

function textWidget(node) {
  const { widget } = ComfyWidgets.STRING(node, NAME, ["STRING", { multiline: true }], app);
  widget.element.readOnly = true;
  Object.assign(widget.element.style, { fontFamily: "monospace", whiteSpace: "pre-wrap", overflow: "auto" });
  return widget;
}

function lineWidget(node) {
  const widget = node.addWidget("text", NAME, "", () => {});
  // Drawn as a label in grey: a disabled widget shows no value.
  widget.label = " ";
  widget.disabled = true;
  return widget;
}

function addWidget(node) {
  const widget = REPORTS.includes(node.comfyClass) ? textWidget(node) : lineWidget(node);
  // Neither part of the prompt nor of the saved workflow.
  widget.serialize = false;
  widget.options.serialize = false;
}

function show(node, output) {
  const widget = node?.widgets?.find((w) => w.name === NAME);
  if (!widget || !output?.text) return;
  widget.value = [output.text].flat().join("\n");
  if (LINES.includes(node.comfyClass)) widget.label = widget.value;
}

app.registerExtension({
  name: "VideoAttention.Report",

  nodeCreated(node) {
    if (![...REPORTS, ...LINES].includes(node.comfyClass)) return;
    addWidget(node);
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.apply(this, arguments);
      show(this, output);
    };
  },

  // After a reload or a change of tab.
  onNodeOutputsUpdated(outputs) {
    for (const [id, output] of Object.entries(outputs)) {
      const node = app.graph.getNodeById(id) ?? app.graph.getNodeById(Number(id));
      show(node, output);
    }
  },
});
