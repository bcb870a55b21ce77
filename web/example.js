// What stands on a node to which nothing is connected yet: one click opens a workflow that runs as it is.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { button, el } from "./dom.js";

// The folder of the pack, whatever it is called: extensions/<folder>/example.js.
export const PACK = new URL(import.meta.url).pathname.split("/").at(-2);

async function open(name) {
  const answer = await api.fetchApi(`/workflow_templates/${PACK}/${encodeURIComponent(name)}.json`);
  if (!answer.ok) throw new Error(`ComfyUI answered ${answer.status}`);
  // In a tab of its own: what is open stays.
  await app.loadGraphData(await answer.json(), true, true, name);
}

export const isAlone = (node) => (node.inputs ?? []).every((input) => input.link === null || input.link === undefined);

export function startPage(name) {
  const said = el("p.va-pale", null, "Nothing is connected yet.");
  const page = el("div.va-page", { tabindex: 0 }, said);
  const start = async (event) => {
    event.currentTarget.disabled = true;
    try {
      await open(name);
    } catch (error) {
      said.textContent = `"${name}" could not be opened: ${error.message}.`;
    }
  };
  page.append(button("Open an example that runs", `Open the workflow "${name}" in a new tab; it needs no download`, start));
  return page;
}
