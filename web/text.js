// A node's text as a page: its first line as a heading, tables as tables, the rest as it was written.

import { el, table } from "./dom.js";

const NUMBER = /^[-+]?[\d.,]+(e[-+]?\d+)?\s*(%|s|ms|x|dB)?$|^-$|^$/;

const piped = (line) => /^\s*\|.*\|\s*$/.test(line);
const split = (line) => line.trim().slice(1, -1).split("|").map((cell) => cell.trim());
const columns = (line) => (/^\S/.test(line) && !piped(line) ? line.trim().split(/\s{2,}/) : []);

function numeric(rows, width) {
  const at = (i) => rows.map((row) => row[i] ?? "");
  return [...Array(width).keys()].filter((i) => i > 0 && at(i).some((c) => /\d/.test(c)) && at(i).every((c) => NUMBER.test(c)));
}

function asTable([head, ...rows]) {
  return table(head, rows.map((row) => head.map((_, i) => row[i] ?? "")), numeric(rows, head.length));
}

// How many of the lines from `at` on belong to one table, and its rows; null without one.
function tableAt(lines, at) {
  if (piped(lines[at])) {
    let end = at;
    while (end < lines.length && piped(lines[end])) end++;
    const rows = lines.slice(at, end).filter((line) => !/^[\s|:-]+$/.test(line)).map(split);
    return rows.length ? { end, rows } : null;
  }
  const head = columns(lines[at]);
  if (head.length < 2) return null;
  let end = at;
  while (end < lines.length && columns(lines[end]).length > 1 && columns(lines[end]).length <= head.length) end++;
  return end > at + 1 ? { end, rows: lines.slice(at, end).map(columns) } : null;
}

export function textPage(text) {
  const lines = text.split("\n");
  const page = el("div.va-page", { tabindex: 0, "data-capture-wheel": true });
  for (let at = 0; at < lines.length; ) {
    const found = lines[at].trim() ? tableAt(lines, at) : null;
    if (found) page.append(asTable(found.rows));
    else if (lines[at].trim()) {
      const kind = at === 0 && lines.length > 1 ? "p.va-head" : /^\s/.test(lines[at]) ? "p.va-item" : "p";
      // What Markdown writes bold begins a part.
      const bold = lines[at].startsWith("**");
      page.append(el(bold ? "p.va-part" : kind, null, bold ? lines[at].trim().replaceAll("**", "") : lines[at].trim()));
    }
    at = found ? found.end : at + 1;
  }
  return page;
}
