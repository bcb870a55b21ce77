// Shows a node's text on it: ComfyUI sends the text, but draws text on its own PreviewAny alone.

import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

const TYPES = ["VideoAttentionReport", "VideoAttentionBenchmark"];
const NAME = "what ran";

function show(node, output) {
  const widget = node?.widgets?.find((w) => w.name === NAME);
  if (widget && output?.text) widget.value = [output.text].flat().join("\n");
}

app.registerExtension({
  name: "VideoAttention.Report",

  nodeCreated(node) {
    if (!TYPES.includes(node.comfyClass)) return;
    const { widget } = ComfyWidgets.STRING(node, NAME, ["STRING", { multiline: true }], app);
    // Neither part of the prompt nor of the saved workflow.
    widget.serialize = false;
    widget.options.serialize = false;
    widget.element.readOnly = true;
    Object.assign(widget.element.style, { fontFamily: "monospace", whiteSpace: "pre-wrap", overflow: "auto" });
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
      if (TYPES.includes(node?.comfyClass)) show(node, output);
    }
  },
});
