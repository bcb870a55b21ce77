// Small makers of elements, which say their texts in the page's language. Whatever a model's file, a prompt or a plan is
// called stays text: nothing here reads HTML.

import { translate } from "./translate.js";

const SVG = "http://www.w3.org/2000/svg";

function setStyle(element, name, value) {
  if (name.startsWith("--")) element.style.setProperty(name, value);
  else element.style[name] = value;
}

// What of an element is read by people.
const SAID = new Set(["title", "aria-label"]);

// A text that is not ours, as a prompt's word: it stays as it is.
export const asItIs = (text) => document.createTextNode(text);

function fill(element, options, children) {
  for (const [name, value] of Object.entries(options ?? {})) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("aria-")) element.setAttribute(name, SAID.has(name) ? translate(String(value)) : String(value));
    else if (value === false) continue;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [of, said] of Object.entries(value)) setStyle(element, of, said);
    else element.setAttribute(name, value === true ? "" : SAID.has(name) ? translate(String(value)) : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false).map(translate));
  return element;
}

// The element with other children.
export function put(element, ...children) {
  element.replaceChildren();
  return fill(element, null, children);
}

// A text on a canvas.
export function write(context, text, ...where) {
  context.fillText(translate(text), ...where);
}

// el("div.name", { title, onclick, style }, child, "text", ...)
export function el(kind, options, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  return fill(element, options, children);
}

// As el, of a drawing: svg, rect, circle, path, text.
export function svg(tag, options, ...children) {
  return fill(document.createElementNS(SVG, tag), options, children);
}

// A button that says what it does to screen readers, too.
export function button(text, label, onclick, more) {
  return el("button.va-button", { type: "button", "aria-label": label, title: label, onclick, ...more }, text);
}

// A choice of a few texts. choices: [[value, text]].
export function select(label, choices, value, onchange) {
  const options = choices.map(([of, text]) => el("option", { value: of, selected: of === value }, text));
  const box = el("select.va-select", { "aria-label": label, title: label }, options);
  box.value = value;
  box.addEventListener("change", () => onchange(box.value));
  return box;
}

export function table(head, rows, numeric = []) {
  const cells = (row, tag) => row.map((cell, i) => el(numeric.includes(i) ? `${tag}.va-number` : tag, null, cell));
  return el(
    "table.va-table",
    null,
    el("thead", null, el("tr", null, cells(head, "th"))),
    el("tbody", null, rows.map((row) => el("tr", null, cells(row, "td")))),
  );
}

// Where a pointer is in an element, 0 to 1 each way, whatever the zoom of the canvas.
export function place(event, element) {
  const box = element.getBoundingClientRect();
  const part = (at, start, size) => Math.min(1, Math.max(0, (at - start) / (size || 1)));
  return [part(event.clientX, box.left, box.width), part(event.clientY, box.top, box.height)];
}

const COLOURS = [
  "#4f9fe8", "#eda33b", "#45b07c", "#e2674f", "#a27ee0", "#35b5c0", "#d968a2", "#98b23a", "#c48a58", "#7a8fdc",
];
export const NEUTRAL = "#8b919c";

// name -> colour, the same in all of a node's pages. What ComfyUI itself runs is grey.
export function coloursOf(names) {
  const others = [...new Set(names)].filter((name) => !isHost(name));
  return (name) => (isHost(name) ? NEUTRAL : COLOURS[Math.max(0, others.indexOf(name)) % COLOURS.length]);
}

function isHost(name) {
  return /^(host|other override|exact)\b/.test(name);
}

export function seconds(value) {
  if (!Number.isFinite(value)) return "";
  if (value >= 90) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  if (value >= 1) return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  return `${(value * 1000).toFixed(value < 0.01 ? 2 : 0)} ms`;
}

export function percent(share) {
  return `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
}

// MiB as the server writes them, without a unit; `-` for what nobody counted.
export function mib(value) {
  return Number.isFinite(value) ? value.toFixed(value < 10 ? 2 : 0) : "-";
}
