// What the views say, in the page's language. A change of it is seen after a reload, as on the host's own nodes.

import { app } from "../../scripts/app.js";
import { NAMES } from "./find.js";
import { speaker } from "./sentences.js";
import zh from "./sentences/zh.js";

const TABLES = { zh };

export function language() {
  return app.extensionManager?.setting?.get("Comfy.Locale") ?? app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? "en";
}

const speakers = new Map();

// Sentences call nodes by their English names.
function withNames(text) {
  if (!text.includes("Video Attention")) return text;
  const longest = [...NAMES].sort(([one], [other]) => other.length - one.length);
  return longest.reduce((said, [name, own]) => said.replaceAll(name, own), text);
}

// The text in the page's language; what is not known in it stays English.
export function translate(text) {
  const table = TABLES[language()];
  if (!table || typeof text !== "string") return text;
  if (!speakers.has(table)) speakers.set(table, speaker(table));
  return withNames(speakers.get(table)(text));
}
