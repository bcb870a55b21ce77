// Blocks downwards, steps to the right: what ran in each, by its colour; which kernel, how densely, how long and why
// under the pointer or the cursor keys.

import { el, percent, place, put, seconds, select, write } from "./dom.js";
import { chosen, keysOf, legend } from "./ran.js";
import { plot } from "./view.js";

const LEFT = 58, RIGHT = 6, HEAD = 20, FOOT = 20;
const HEAT = [[42, 27, 87], [123, 36, 120], [207, 74, 90], [243, 156, 74], [247, 224, 139]];

const nameOf = (block) => (block < 0 ? "no number" : `block ${block}`);

// Panels one below the other: { role, blocks, steps, seconds, top, row }.
function panelsOf(cells, roles, height) {
  const shown = roles.filter((role) => cells.roles?.[role]).map((role) => ({ role, ...cells.roles[role] }));
  const rows = shown.reduce((sum, panel) => sum + panel.blocks.length, 0);
  const row = Math.min(22, Math.max(2, (height - FOOT - HEAD * shown.length) / Math.max(1, rows)));
  let top = HEAD;
  for (const panel of shown) {
    Object.assign(panel, { top, row });
    top += row * panel.blocks.length + HEAD;
  }
  return shown;
}

function heat(share) {
  const at = Math.min(0.9999, Math.max(0, share)) * (HEAT.length - 1);
  const [low, high] = [HEAT[Math.floor(at)], HEAT[Math.floor(at) + 1]];
  return `rgb(${low.map((part, i) => Math.round(part + (at % 1) * (high[i] - part))).join(" ")})`;
}

function say(panel, at, states) {
  const number = panel.steps[at.step]?.[at.row] ?? -1;
  const where = `step ${at.step + 1}, ${panel.role} ${nameOf(panel.blocks[at.row])}`;
  if (number < 0) return [el("b", null, where), ": no attention call"];
  const took = panel.seconds?.[at.step]?.[at.row];
  const each = states[number].map((ran) => {
    const dense = ran.density === undefined ? "" : `, computes ${percent(ran.density)} of the pairs`;
    const why = ran.reason ? `; not ${ran.wanted || "what was asked for"}: ${ran.reason}` : "";
    return `${ran.used}, ${ran.calls} call${ran.calls > 1 ? "s" : ""}${dense}${why}`;
  });
  return [el("b", null, where), `: ${each.join("; ")}${took ? `, ${seconds(took)}` : ""}`];
}

function drawCells(context, panel, width, { colour, states, byTime, ink, pale }) {
  const step = (width - LEFT - RIGHT) / Math.max(1, panel.steps.length);
  const most = Math.max(1e-9, ...(panel.seconds ?? []).flat());
  const gap = Math.min(1, panel.row / 6, step / 6);
  context.font = "11px Inter, system-ui, sans-serif";
  context.textBaseline = "middle";
  context.fillStyle = ink;
  context.textAlign = "left";
  context.fillText(panel.role, LEFT, panel.top - 9);
  panel.steps.forEach((row, x) =>
    row.forEach((number, y) => {
      if (number < 0) return;
      const ran = states[number].reduce((one, other) => (other.calls > one.calls ? other : one));
      context.globalAlpha = byTime || ran.density === undefined ? 1 : 0.35 + 0.65 * ran.density;
      context.fillStyle = byTime ? heat((panel.seconds?.[x]?.[y] ?? 0) / most) : colour(ran.used);
      const [left, top] = [LEFT + x * step, panel.top + y * panel.row];
      context.fillRect(left, top, step - gap, panel.row - gap);
      context.globalAlpha = 1;
      if (!byTime && states[number].some((one) => one.reason) && panel.row > 5 && step > 5) {
        context.fillStyle = ink;
        context.fillRect(left + step / 2 - 1.5, top + panel.row / 2 - 1.5, 3, 3);
      }
    }),
  );
  context.fillStyle = pale;
  context.textAlign = "right";
  const every = Math.max(1, Math.ceil(13 / panel.row));
  panel.blocks.forEach((block, y) => {
    if (y % every === 0) write(context, nameOf(block), LEFT - 6, panel.top + (y + 0.5) * panel.row);
  });
}

function drawSteps(context, panels, width) {
  const last = panels.at(-1);
  const count = last.steps.length;
  const step = (width - LEFT - RIGHT) / Math.max(1, count);
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * step >= 24) ?? 1000;
  context.textAlign = "center";
  const y = last.top + last.row * last.blocks.length + 10;
  for (let x = 0; x < count; x += every) context.fillText(String(x + 1), LEFT + (x + 0.5) * step, y);
  context.textAlign = "right";
  write(context, "step", LEFT - 6, y);
}

export function gridPage(data, box) {
  const cells = data.cells ?? { states: [], roles: {} };
  const roles = chosen(data, box);
  const timed = roles.some((role) => cells.roles?.[role]?.seconds);
  const byTime = timed && box.chosen.cells === "time";
  const page = el("div.va-page.va-fixed");
  if (!roles.some((role) => cells.roles?.[role])) {
    page.append(el("p.va-pale", null, "Nothing is known of single steps of this run."));
    return page;
  }
  const colour = keysOf(data);
  const said = el("div.va-said", { "aria-live": "polite" });
  let panels = [];
  let at = { panel: 0, row: 0, step: 0 };
  let told = false;
  const tell = () => panels[at.panel] && put(said, say(panels[at.panel], at, cells.states));

  const { canvas, again, dispose } = plot(
    (context, width, height) => {
      const style = getComputedStyle(canvas);
      const [ink, pale] = [style.color, style.getPropertyValue("caret-color")];
      panels = panelsOf(cells, roles, height);
      for (const panel of panels) drawCells(context, panel, width, { colour, states: cells.states, byTime, ink, pale });
      context.fillStyle = pale;
      drawSteps(context, panels, width);
      mark(context, width, ink);
    },
    { tabindex: 0, role: "application", "aria-label": "Blocks by steps; arrow keys move over them", class: "va-ink" },
  );

  function mark(context, width, ink) {
    const panel = panels[at.panel];
    if (!panel || box.chosen.cursor === undefined) return;
    const step = (width - LEFT - RIGHT) / Math.max(1, panel.steps.length);
    context.strokeStyle = ink;
    context.lineWidth = 1.5;
    context.strokeRect(LEFT + at.step * step - 1, panel.top + at.row * panel.row - 1, step + 1, panel.row + 1);
  }

  function go(next) {
    at = next;
    told = true;
    box.chosen.cursor = next;
    tell();
    again();
  }

  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event, canvas);
    const [left, top] = [x * canvas.clientWidth, y * canvas.clientHeight];
    panels.forEach((panel, number) => {
      const row = Math.floor((top - panel.top) / panel.row);
      const step = Math.floor(((left - LEFT) / (canvas.clientWidth - LEFT - RIGHT)) * panel.steps.length);
      const inside = row >= 0 && row < panel.blocks.length && step >= 0 && step < panel.steps.length;
      if (inside && (number !== at.panel || row !== at.row || step !== at.step || !told)) {
        go({ panel: number, row, step });
      }
    });
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move) return;
    event.preventDefault();
    let { panel, row, step } = at;
    step = Math.min(panels[panel].steps.length - 1, Math.max(0, step + move[1]));
    row += move[0];
    if (row < 0 && panel > 0) row = panels[--panel].blocks.length - 1;
    else if (row >= panels[panel].blocks.length && panel < panels.length - 1) [panel, row] = [panel + 1, 0];
    go({ panel, row: Math.min(panels[panel].blocks.length - 1, Math.max(0, row)), step });
  });
  canvas.addEventListener("focus", () => go(at));

  const names = roles.flatMap((role) => cells.roles?.[role]?.steps.flat() ?? []).filter((number) => number >= 0);
  const used = [...new Set(names)].flatMap((number) => cells.states[number].map((ran) => ran.used));
  const modes = [["kernel", "colour: kernel"], ["time", "colour: time"]];
  const mode = timed && select("What the colours say", modes, byTime ? "time" : "kernel", (value) => {
    box.chosen.cells = value;
    box.draw();
  });
  const keys = byTime ? el("div.va-legend", null, "dark: short, light: long") : legend(used, colour);
  said.append(el("span.va-pale", null, "Point at a cell, or use the arrow keys, to see what ran there."));
  page.append(el("div.va-row", null, keys, el("span.va-space"), mode), el("div.va-plot", null, canvas), said);
  page.dispose = dispose;
  return page;
}
