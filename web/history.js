// What the server still knows of the last run of a workflow, for nodes that show nothing yet: after the page is loaded
// again. What was told to a node after the run (nodes/host/told_lines.py) comes before what it said itself.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeAt } from "./find.js";

// Runs that are looked through.
const MOST = 24;

const order = (run) => Number(run.prompt?.[0] ?? run.prompt?.priority ?? 0);
const nodesOf = (run) => run.prompt?.[2] ?? {};
const workflowOf = (run) => run.prompt?.[3]?.extra_pnginfo?.workflow;
const toldIn = (run) => run.prompt?.[3]?.video_attention ?? {};

// Of a workflow that was made from a prompt alone, as API files are.
const NO_ID = "00000000-0000-0000-0000-000000000000";

function isOfPage(run, id) {
  if (id !== NO_ID) return workflowOf(run)?.id === id;
  const nodes = Object.entries(nodesOf(run));
  return nodes.length > 0 && nodes.every(([path, { class_type }]) => nodeAt(path)?.comfyClass === class_type);
}

// [node, output, told] of the newest run of this very workflow in which the node had an output, and what was told to it
// in the newest in which it was: a run whose sampler's result was kept tells nothing.
export async function lastOutputs() {
  const id = (app.rootGraph ?? app.graph)?.id;
  if (!id) return [];
  const answer = await api.fetchApi(`/history?max_items=${MOST}`);
  if (!answer.ok) return [];
  const runs = Object.values(await answer.json()).filter((run) => isOfPage(run, id));
  const outputs = new Map();
  const told = new Map();
  const fill = (found, run, entries) => {
    for (const [path, value] of Object.entries(entries ?? {})) {
      const node = nodeAt(path);
      if (node && !found.has(node) && nodesOf(run)[path]?.class_type === node.comfyClass) found.set(node, value);
    }
  };
  runs.sort((one, other) => order(other) - order(one));
  const asked = (run, path) => JSON.stringify(nodesOf(run)[path]?.inputs);
  const newest = (path) => runs.find((run) => path in nodesOf(run));
  for (const run of runs) {
    fill(outputs, run, run.outputs);
    // Not to another node that has this id since.
    const same = Object.entries(toldIn(run)).filter(([path]) => asked(run, path) === asked(newest(path) ?? run, path));
    fill(told, run, Object.fromEntries(same));
  }
  return [...new Set([...outputs.keys(), ...told.keys()])].map((node) => [node, outputs.get(node) ?? {}, told.get(node)]);
}
