// The box on a node in which it shows its text and its views: theme, pages, keys, wheel.

import { app } from "../../scripts/app.js";
import { el } from "./dom.js";
import { isAlone, startPage } from "./example.js";
import { textPage } from "./text.js";
import { translate } from "./translate.js";

const PAGE = "video_attention_page";
// Keys that do something in a view and something else on the canvas.
const OURS = new Set([" ", "Enter", "Home", "End", "PageUp", "PageDown", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]);

const sheet = el("link", { rel: "stylesheet", href: new URL("./view.css", import.meta.url).href });
document.head.append(sheet);

// A wheel that no focused list takes belongs to the canvas, as over any other part of a node.
function onWheel(event) {
  const list = event.target.closest?.('[data-capture-wheel="true"], .va-page');
  event.stopPropagation();
  if (list?.contains(document.activeElement) && list.scrollHeight > list.clientHeight && !event.ctrlKey) return;
  event.preventDefault();
  const { clientX, clientY, deltaX, deltaY, ctrlKey, metaKey, shiftKey } = event;
  const again = { clientX, clientY, deltaX, deltaY, ctrlKey, metaKey, shiftKey };
  app.canvas.canvas.dispatchEvent(new WheelEvent("wheel", again));
}

// view: { key, pages: [[title, build]], controls }, see VIEWS in box.js; none: the text alone.
//   key: of the node's output in which the view's data is.
//   build(data, box): makes an element; its `dispose` is called when it goes.
//   controls(data, box): elements that stand beside the titles.
// example: the name of a workflow that a node without connections offers.
export class Box {
  constructor(node, view, least, example) {
    Object.assign(this, { node, view, example, text: "", data: null, chosen: {}, page: null });
    this.inner = el("div.va-inner");
    this.element = el("div.va-view", { style: { minHeight: `${least}px` } }, this.inner);
    this.element.style.setProperty("--va-least", `${least}px`);
    this.element.addEventListener("wheel", onWheel, { passive: false });
    this.element.addEventListener("keydown", (event) => OURS.has(event.key) && !event.ctrlKey && event.stopPropagation());
  }

  get empty() {
    return !this.text && this.data === null;
  }

  // output: of a run, { text: [...], [key]: [...] }; while it runs the text alone.
  show(output) {
    if (output.text !== undefined) this.text = [output.text].flat().join("\n");
    this.data = output[this.view?.key]?.[0] ?? null;
    this.output = output;
    this.draw();
  }

  // What came of the node after it ran: above its text where that belongs to a view, else in its place.
  tell(text) {
    this.text = this.data === null ? text : `${text}\n\n${this.text}`;
    this.draw();
  }

  get titles() {
    const pages = this.data === null || !this.view ? [] : this.view.pages.map(([title]) => title);
    return [...pages, ...(this.text || !pages.length ? ["Text"] : [])];
  }

  draw() {
    this.page?.dispose?.();
    const titles = this.titles;
    const kept = this.node.properties?.[PAGE];
    const title = titles.includes(kept) ? kept : titles[0];
    const build = this.view?.pages.find(([of]) => of === title)?.[1];
    if (title !== "Text" && build) this.page = build(this.data, this);
    else this.page = this.empty && this.example && isAlone(this.node) ? startPage(this.example) : textPage(this.text);
    this.page.setAttribute("role", "tabpanel");
    this.page.setAttribute("aria-label", translate(title));
    this.inner.replaceChildren(...(titles.length > 1 ? [this.bar(titles, title)] : []), this.page);
  }

  bar(titles, current) {
    const tabs = titles.map((title) =>
      el(
        "button.va-tab",
        { type: "button", role: "tab", "aria-selected": title === current, tabindex: title === current ? 0 : -1,
          onclick: () => this.turn(title) },
        title,
      ),
    );
    const list = el("div.va-row", { role: "tablist", style: { gap: "0" }, onkeydown: (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) this.turn(titles[(titles.indexOf(current) + step + titles.length) % titles.length], true);
    } }, tabs);
    const more = current === "Text" ? [] : this.view?.controls?.(this.data, this, current) ?? [];
    return el("div.va-bar", null, list, el("span.va-space"), more);
  }

  turn(title, focus = true) {
    (this.node.properties ??= {})[PAGE] = title;
    this.draw();
    if (focus) this.inner.querySelector('[role="tab"][aria-selected="true"]')?.focus({ preventScroll: true });
  }
}

// A canvas of the page as sharp as the screen. draw(context, width, height) in its own pixels, again when it is resized.
export function plot(draw, options) {
  const canvas = el("canvas", options);
  const again = () => {
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    const fine = Math.max(2, window.devicePixelRatio || 1);
    canvas.width = Math.round(width * fine);
    canvas.height = Math.round(height * fine);
    const context = canvas.getContext("2d");
    context.scale(fine, fine);
    draw(context, width, height);
  };
  const watch = new ResizeObserver(again);
  watch.observe(canvas);
  return { canvas, again, dispose: () => watch.disconnect() };
}
