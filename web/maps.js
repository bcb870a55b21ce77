// Heat over the playing clip, a slider over the blocks, a click that sets the next run's query; how each block divides
// its attention; the prompt's words by what they receive.

import { app } from "../../scripts/app.js";
import { asItIs, el, percent, place, put } from "./dom.js";
import { heatPainter } from "./heat.js";
import { Player, Ticker } from "./player.js";
import { key } from "./ran.js";

const PARTS = {
  "same frame": "#4f9fe8", "same place, other frames": "#35b5c0", "elsewhere in other frames": "#8b919c", text: "#eda33b",
};
const OTHERS = ["#e2674f", "#d968a2", "#98b23a", "#a27ee0", "#c48a58"];
// Of a clip without pictures: pixels along the longer side, latent frames a second.
const SIDE = 640, PACE = 4;

const widgetOf = (node, name) => node.widgets?.find((w) => w.name === name);
const valueOf = (node, name) => Number(widgetOf(node, name)?.value ?? 0);

function set(node, name, value) {
  const widget = widgetOf(node, name);
  if (!widget) return;
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
}

const layerOf = (data, box) => Math.max(0, data.heat.layers.indexOf(box.chosen.layer ?? data.heat.layers[0]));

// A slider over the mean and the blocks one by one, with the name of what it stands on.
function layerRow(data, box, changed) {
  const layers = data.heat.layers;
  const name = el("span.va-figures", { style: { minWidth: "92px" } }, layers[layerOf(data, box)]);
  const slider = el("input", { type: "range", min: 0, max: layers.length - 1, step: 1, "aria-label": "Block" });
  slider.value = layerOf(data, box);
  slider.addEventListener("input", () => {
    box.chosen.layer = layers[Number(slider.value)];
    put(name, box.chosen.layer);
    changed();
  });
  return el("div.va-row", null, el("span.va-pale", null, "block"), slider, name);
}

function heatPage(data, box) {
  const { node } = box;
  const [frames, rows, columns] = data.heat.grid;
  const paint = heatPainter(data.heat, () => player.redraw());
  const sides = data.clips ? [data.clips.width, data.clips.height]
    : [columns, rows].map((side) => Math.round((side * SIDE) / Math.max(rows, columns)));
  const latent = (frame) => (data.clips ? Math.min(frames - 1, Math.floor(((frame + 0.5) * frames) / data.clips.frames)) : frame);

  const draw = (context, video) => {
    const at = latent(player.frame);
    const [width, height] = sides;
    if (data.clips) {
      context.filter = "grayscale(80%) brightness(85%)";
      context.drawImage(video, 0, 0, width, height, 0, 0, width, height);
      context.filter = "none";
    } else {
      context.fillStyle = "#000";
      context.fillRect(0, 0, width, height);
    }
    const painted = paint(context, layerOf(data, box), at, width, height, Boolean(data.clips));
    if (painted) Object.assign(screen.dataset, { frame: at, layer: data.heat.layers[layerOf(data, box)] });
    marks(context, at, width, height);
  };

  function marks(context, at, width, height) {
    const unit = Math.max(width, height) / 640;
    for (const token of data.query.tokens.slice(0, 256)) {
      const [frame, row, column] = [Math.floor(token / (rows * columns)), Math.floor(token / columns) % rows, token % columns];
      const single = data.query.tokens.length === 1;
      if (frame !== at && !single) continue;
      const [x, y] = [((column + 0.5) * width) / columns, ((row + 0.5) * height) / rows];
      for (const [colour, wide] of [["#000", 5], ["#fff", frame === at ? 2.5 : 1]]) {
        context.strokeStyle = colour;
        context.lineWidth = wide * unit;
        context.beginPath();
        context.arc(x, y, (single ? 11 : 4) * unit, 0, 7);
        context.stroke();
      }
    }
    if (at !== valueOf(node, "frame")) return;
    const [x, y] = [(valueOf(node, "x") * width) / 100, (valueOf(node, "y") * height) / 100];
    for (const [colour, wide] of [["#000", 5], ["#7fe3ff", 2.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = wide * unit;
      context.beginPath();
      context.moveTo(x - 9 * unit, y);
      context.lineTo(x + 9 * unit, y);
      context.moveTo(x, y - 9 * unit);
      context.lineTo(x, y + 9 * unit);
      context.stroke();
    }
  }

  const player = data.clips ? new Player(data.clips, draw, box) : new Ticker(frames, PACE, sides, draw, box);
  const tag = el("span.va-tag", { style: { left: "6px" } });
  const screen = el(
    "div.va-screen",
    { tabindex: 0, role: "application", style: { cursor: "crosshair" },
      "aria-label": "Heat over the clip; click, or move the cross with the arrow keys, to look from there next" },
    player.canvas,
    tag,
  );
  const look = (x, y) => {
    set(node, "x", Math.round(Math.min(100, Math.max(0, x))));
    set(node, "y", Math.round(Math.min(100, Math.max(0, y))));
    set(node, "frame", latent(player.frame));
    player.redraw();
    put(said, `The next run looks from ${valueOf(node, "x")} %, ${valueOf(node, "y")} % of frame ${valueOf(node, "frame")}.`);
    node.setDirtyCanvas(true, true);
  };
  screen.addEventListener("pointerdown", (event) => event.button === 0 && event.stopPropagation());
  screen.addEventListener("click", (event) => {
    const [wide, high] = [screen.clientWidth, screen.clientHeight];
    const scale = Math.min(wide / sides[0], high / sides[1]);
    const [x, y] = place(event, screen);
    look(
      (100 * (x * wide - (wide - scale * sides[0]) / 2)) / (scale * sides[0]),
      (100 * (y * high - (high - scale * sides[1]) / 2)) / (scale * sides[1]),
    );
  });
  screen.addEventListener("keydown", (event) => {
    const [right, down] = { ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, -2], ArrowDown: [0, 2] }[event.key] ?? [];
    if (right !== undefined) player.playing(false);
    if (right !== undefined) look(valueOf(node, "x") + right, valueOf(node, "y") + down);
    else if (event.key === " ") player.playing(!player.wanted);
    else return;
    event.preventDefault();
  });
  player.onframe.push((frame) => put(tag, `latent frame ${latent(frame)} of 0-${frames - 1}`));
  const said = el("div.va-pale.va-line", { "aria-live": "polite" }, "Ring: where it looked from. Click in the picture to look from there in the next run.");
  const page = el("div.va-page.va-fixed", null, screen, el("div.va-row", null, player.controls),
    layerRow(data, box, () => player.redraw()), said);
  page.dispose = () => player.dispose();
  if (!data.clips) requestAnimationFrame(() => (player.showing(0), player.begin()));
  return page;
}

function sharesPage(data) {
  const { blocks = {}, mean = {}, even = {} } = data.shares ?? {};
  const parts = [...new Set([...Object.values(blocks), even].flatMap(Object.keys))];
  const others = parts.filter((part) => !PARTS[part]);
  const colour = (part) => PARTS[part] ?? OTHERS[others.indexOf(part) % OTHERS.length];
  const bar = (name, shares) =>
    el("div.va-row", { style: { height: "20px" } }, el("span.va-number", { style: { width: "104px" } }, name),
      el("div.va-stack", null, parts.map((part) =>
        el("i", { style: { width: `${100 * (shares[part] ?? 0)}%`, background: colour(part) }, title: `${part}: ${percent(shares[part] ?? 0)}` },
          shares[part] > 0.09 ? percent(shares[part]) : ""))));
  const page = el("div.va-page", { tabindex: 0, "data-capture-wheel": true });
  page.append(el("div.va-legend", { style: { marginBottom: "6px" } }, parts.map((part) => el("span", null, key(colour(part)), part))));
  page.append(...Object.entries(blocks).map(([block, shares]) => bar(`block ${block}`, shares)));
  page.append(el("div", { style: { height: "8px" } }), bar(data.heat.layers[0], mean), bar("if even", even));
  return page;
}

function wordsPage(data, box) {
  const page = el("div.va-page.va-fixed");
  const list = el("div.va-scroll", { tabindex: 0, "data-capture-wheel": true });
  const fill = () => list.replaceChildren(...data.tokens.flatMap((received) => wordsOf(received, data.heat.layers[layerOf(data, box)])));
  page.append(layerRow(data, box, fill), list);
  fill();
  return page;
}

// The words of one kind of tokens, each as strong as what it receives; padding at the end is one word.
function wordsOf(received, layer) {
  const weights = received.weights[layer] ?? received.weights.mean ?? [];
  const most = Math.max(1e-12, ...weights);
  const known = received.words ?? weights.map((_, i) => ` ${i} `);
  const padding = (i) => received.words && /^\s*(<pad>|<\|endoftext\|>|)\s*$/.test(known[i] ?? "");
  let end = weights.length;
  while (end > 0 && padding(end - 1)) end--;
  const rest = weights.slice(end).reduce((sum, weight) => sum + weight, 0);
  const word = (text, weight, title) =>
    el("span.va-word", { title: `${title}: ${percent(weight)}`, style: { "--va-part": `${Math.round(55 * Math.sqrt(weight / most))}%` } },
      text, el("small", null, percent(weight)));
  const shown = weights.slice(0, end).map((weight, i) => word(asItIs((known[i] ?? "").trim() || "\u00b7"), weight, `token ${i}`));
  if (rest > 0) shown.push(word(`padding x ${weights.length - end}`, rest, "all of them"));
  const head = [received.kind, `, ${received.count} tokens, read by ${received.role}-attention`];
  return [
    el("p.va-part", null, head),
    ...(received.why ? [el("p.va-pale", null, received.why)] : []),
    el("div.va-words", null, shown),
  ];
}

export const maps = {
  key: "maps",
  pages: [
    ["Heat", heatPage],
    ["Blocks", sharesPage],
    ["Words", wordsPage],
  ],
};
