// What the views say, in the page's language. A change of it is seen after a reload, as on the host's own nodes.

import { app } from "../../scripts/app.js";
import { speaker } from "./sentences.js";
import zh from "./sentences/zh.js";

const TABLES = { zh };

function language() {
  return app.extensionManager?.setting?.get("Comfy.Locale") ?? app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? "en";
}

const speakers = new Map();

// The text in the page's language; what is not known in it stays English.
export function translate(text) {
  const table = TABLES[language()];
  if (!table || typeof text !== "string") return text;
  if (!speakers.has(table)) speakers.set(table, speaker(table));
  return speakers.get(table)(text);
}
