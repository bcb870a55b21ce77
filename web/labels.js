// What combos hold, in the page's language beside the value itself, which tooltips and help pages speak of and workflows
// keep. The host's locale files have names and tooltips alone.

import { language } from "./translate.js";
import zh from "./options/zh.js";

const TABLES = { zh };

// Names of kernels and the like are the same in every language: a combo of those stays as it is.
const isOfWords = (values, table) => values.filter((value) => table[value]).length * 2 > values.length;

// options: of a combo widget of ours.
export function label(options) {
  const table = TABLES[language()];
  if (!table || options.getOptionLabel || !Array.isArray(options.values) || !isOfWords(options.values, table)) return;
  options.getOptionLabel = (value) => (table[value] ? `${table[value]} (${value})` : String(value ?? ""));
}
