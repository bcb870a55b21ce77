// Which widgets stand on a node: not those that have no effect as it is set, as nodes/widgets/idle.py says, and on the
// classic canvas the advanced ones behind a button, as Nodes 2.0 has them by itself. Values stay: a hidden widget is
// saved and queued as ever.

import { app } from "../../scripts/app.js";
import { everyNode, traitsOf } from "./find.js";
import { label } from "./labels.js";
import { translate } from "./translate.js";

const MORE = "advanced inputs";
const VUE = "Comfy.VueNodes.Enabled";
const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets";
const HEARD = new WeakSet();

const setting = (name) => app.extensionManager?.setting?.get(name);
const isAdvanced = (widget) => Boolean(widget.advanced ?? widget.options?.advanced);
const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);

function isLinked(node, name) {
  const slot = node.inputs?.findIndex((input) => input.name === name || input.widget?.name === name) ?? -1;
  return slot >= 0 && node.isInputConnected(slot);
}

function isUnused(node, name) {
  const slot = node.outputs?.findIndex((output) => output.name === name) ?? -1;
  return slot >= 0 && !node.isOutputConnected(slot);
}

// A widget whose value another node gives holds anything.
function holds(node, { widget, one_of, none_of, linked, unused }) {
  if (linked) return isLinked(node, linked);
  if (unused) return isUnused(node, unused);
  const found = widgetOf(node, widget);
  if (!found || isLinked(node, widget)) return false;
  return one_of ? one_of.includes(found.value) : !none_of.includes(found.value);
}

// Nodes 2.0 looks at the options that it keeps, and draws anew when those change. The canvas looks at the widget.
function setHidden(widget, idle, folded) {
  const kept = widget._state?.options ?? widget.options;
  if (kept && Boolean(kept.hidden) !== idle) kept.hidden = idle;
  const hidden = idle || folded;
  const changed = hidden !== Boolean(widget.hidden);
  if (changed) widget.hidden = hidden;
  return changed;
}

// fit: the node becomes so much lower or higher; a workflow that is loaded brings its sizes.
function update(node, fit) {
  const rows = traitsOf(node).idle ?? [];
  const idle = new Set(rows.filter(({ when }) => when.every((each) => holds(node, each))).flatMap((row) => row.widgets));
  const canvas = !setting(VUE);
  const folds = canvas && !node.showAdvanced && !setting(ALWAYS);
  const before = node.computeSize()[1];
  let [changed, advanced] = [false, 0];
  const more = widgetOf(node, MORE);
  for (const widget of node.widgets ?? []) {
    if (widget === more) continue;
    if (widget.type === "combo") label(widget._state?.options ?? widget.options);
    // A link shows where it ends, whatever it changes.
    const linked = isLinked(node, widget.name);
    const [off, behind] = [!linked && idle.has(widget.name), !linked && isAdvanced(widget)];
    if (behind && !off) advanced++;
    changed = setHidden(widget, off, folds && behind) || changed;
  }
  if (more) {
    const inputs = advanced === 1 ? "advanced input" : MORE;
    more.label = translate(`${node.showAdvanced ? "Hide" : "Show"} ${advanced} ${inputs}`);
    changed = setHidden(more, false, !advanced || !canvas || Boolean(setting(ALWAYS))) || changed;
  }
  listen(node, rows);
  if (!changed) return;
  const least = node.computeSize()[1];
  if (fit) node.setSize([node.size[0], Math.max(least, node.size[1] + least - before)]);
  app.canvas?.setDirty(true, true);
}

// Dynamic combos make their widgets anew: every time those are heard that are new.
function listen(node, rows) {
  const asked = new Set(rows.flatMap(({ when }) => when.map((each) => each.widget)));
  for (const widget of node.widgets ?? []) {
    if (!asked.has(widget.name) || HEARD.has(widget)) continue;
    HEARD.add(widget);
    const callback = widget.callback;
    widget.callback = function () {
      const answer = callback?.apply(this, arguments);
      update(node, true);
      return answer;
    };
  }
}

function addButton(node) {
  const turn = () => {
    node.showAdvanced = !node.showAdvanced;
    update(node, true);
  };
  // Neither part of the prompt nor of the saved workflow. Nodes 2.0 has a button of its own.
  const button = node.addWidget("button", MORE, null, turn, { serialize: false, canvasOnly: true });
  button.serialize = false;
}

const isOurs = (node) => traitsOf(node).idle !== undefined;
function updateAll() {
  for (const node of everyNode()) if (isOurs(node)) update(node, false);
}

app.registerExtension({
  name: "videoattention.idle",

  setup() {
    for (const name of [VUE, ALWAYS]) app.ui.settings.addEventListener(`${name}.change`, () => setTimeout(updateAll));
  },

  nodeCreated(node) {
    if (!isOurs(node)) return;
    if (node.widgets?.some(isAdvanced)) addButton(node);
    update(node, true);
    const changed = node.onConnectionsChange;
    node.onConnectionsChange = function () {
      const answer = changed?.apply(this, arguments);
      if (!app.configuringGraph) update(this, true);
      return answer;
    };
    const configured = node.onConfigure;
    node.onConfigure = function (saved) {
      const answer = configured?.apply(this, arguments);
      update(this, false);
      // A dynamic combo has just given the node a size for all its widgets.
      if (saved?.size) this.setSize([saved.size[0], Math.max(saved.size[1], this.computeSize()[1])]);
      return answer;
    };
  },

  // Only now every link is there.
  afterConfigureGraph: updateAll,
});
