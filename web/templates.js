// This pack's workflows in the list of templates, in the order of workflows.js. ComfyUI lists a folder's files as the disk
// gives them, in any order, and the page keeps that.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { PACK } from "./example.js";
import { ORDER } from "./workflows.js";

const FOLDER = decodeURIComponent(PACK);
const place = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);

app.registerExtension({
  name: "videoattention.templates",
  init() {
    const asked = api.getWorkflowTemplates;
    if (typeof asked !== "function") return;
    api.getWorkflowTemplates = async function (...given) {
      const found = await asked.apply(this, given);
      if (Array.isArray(found?.[FOLDER])) found[FOLDER].sort((a, b) => place(a) - place(b) || a.localeCompare(b));
      return found;
    };
  },
});
