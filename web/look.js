// The heat maps on their node, one picture for each frame: a click on a picture is the next query point.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { showAgain } from "./find.js";

const NODE = "VideoAttentionMaps";
const NAME = "look from";
const HINT = "Run once, then click a place in a frame to look from there.";

function widgetOf(node, name) {
  return node.widgets?.find((w) => w.name === name);
}

function set(node, name, value) {
  const widget = widgetOf(node, name);
  if (!widget) return;
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
}

function choose(node, frame, event) {
  const box = event.currentTarget.getBoundingClientRect();
  const part = (at, start, size) => Math.round(Math.min(100, Math.max(0, (100 * (at - start)) / size)));
  set(node, "x", part(event.clientX, box.left, box.width));
  set(node, "y", part(event.clientY, box.top, box.height));
  set(node, "frame", frame);
  mark(node);
  node.setDirtyCanvas(true, true);
}

// A cross where the next run looks from.
function mark(node) {
  const box = widgetOf(node, NAME).element;
  for (const cell of box.querySelectorAll("[data-frame]")) {
    const cross = cell.querySelector("span");
    cross.hidden = Number(cell.dataset.frame) !== Number(widgetOf(node, "frame").value);
    cross.style.left = `${widgetOf(node, "x").value}%`;
    cross.style.top = `${widgetOf(node, "y").value}%`;
  }
}

function cell(node, picture) {
  const box = document.createElement("div");
  box.dataset.frame = picture.frame;
  box.title = `frame ${picture.frame}: click to look from here`;
  Object.assign(box.style, { position: "relative", cursor: "crosshair", borderRadius: "4px", overflow: "hidden" });
  const image = document.createElement("img");
  const { filename, subfolder, type } = picture;
  image.src = api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
  image.draggable = false;
  Object.assign(image.style, { width: "100%", display: "block" });
  const cross = document.createElement("span");
  cross.textContent = "+";
  Object.assign(cross.style, {
    position: "absolute", transform: "translate(-50%, -50%)", font: "bold 22px sans-serif", color: "#7fe3ff",
    textShadow: "0 0 3px #000, 0 0 3px #000", pointerEvents: "none",
  });
  const label = document.createElement("small");
  label.textContent = picture.frame;
  Object.assign(label.style, {
    position: "absolute", left: "4px", top: "2px", font: "11px sans-serif", color: "#fff",
    textShadow: "0 0 3px #000", pointerEvents: "none",
  });
  box.append(image, cross, label);
  box.addEventListener("pointerdown", (event) => event.stopPropagation());
  box.addEventListener("click", (event) => choose(node, picture.frame, event));
  return box;
}

function show(node, output) {
  const box = node && widgetOf(node, NAME)?.element;
  if (!box || !output?.heat?.length) return;
  const columns = Math.min(output.heat.length, Math.max(2, Math.ceil(Math.sqrt(output.heat.length * 1.4))));
  box.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
  box.replaceChildren(...output.heat.map((picture) => cell(node, picture)));
  mark(node);
}

function addPicker(node) {
  const box = document.createElement("div");
  box.textContent = HINT;
  Object.assign(box.style, {
    display: "grid", gap: "3px", alignContent: "start", overflow: "auto", font: "12px sans-serif", color: "#999",
  });
  const widget = node.addDOMWidget(NAME, "video_attention_heat", box, {
    serialize: false,
    hideOnZoom: false,
    getValue: () => "",
    setValue: () => {},
    getMinHeight: () => 220,
  });
  widget.serialize = false;
  for (const name of ["x", "y", "frame"]) {
    const typed = widgetOf(node, name);
    const before = typed?.callback;
    if (typed)
      typed.callback = function () {
        const out = before?.apply(this, arguments);
        mark(node);
        return out;
      };
  }
  node.setSize([Math.max(node.size[0], 460), Math.max(node.size[1], node.computeSize()[1] + 160)]);
}

app.registerExtension({
  name: "videoattention.look",

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    addPicker(node);
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
