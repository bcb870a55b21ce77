// Calibrate's pages: error against time of everything that was tried, the chosen ringed; the plan part by part.

import { coloursOf, el, mib, percent, place, put, seconds, select, table, write } from "./dom.js";
import { key, legend } from "./ran.js";
import { plot } from "./view.js";

const LEFT = 46, RIGHT = 12, TOP = 10, FOOT = 22;
const ALL = "all parts";
const SMALLEST = 1e-5;

const shortly = (value) => (value === null || value === undefined ? "-" : value === 0 ? "0" : value.toPrecision(2));
const coloursIn = (data) => coloursOf(data.parts.flatMap((part) => part.options.map((option) => option.name)));
const labelOf = (option) => (option.chunks ? `${option.name}, ${option.chunks}` : option.name);
const exactOf = (part) => part.options[0]?.seconds || 1;

// Every option that is looked at: { part, option, chosen, share }.
function dotsOf(data, box) {
  const parts = data.parts.filter((part) => (box.chosen.part ?? ALL) === ALL || part.text === box.chosen.part);
  return parts.flatMap((part) =>
    part.options
      .map((option, number) => ({ part, option, chosen: number === part.chosen, share: option.seconds / exactOf(part) }))
      .filter(({ option }) => option.error !== null),
  );
}

function headline(data) {
  const times = (exact, planned) => `${seconds(planned)} instead of ${seconds(exact)}` +
    (planned ? `, ${(exact / planned).toFixed(2)}x as fast` : "");
  const whole = data.whole_seconds ? `Whole sampling ${times(data.whole_exact_seconds, data.whole_seconds)}; attention` : "Attention";
  const realised = data.realised === null ? "" : `, measured ${shortly(data.realised)}`;
  return `${whole} ${times(data.exact_seconds, data.seconds)}; ` +
    `error ${shortly(data.error)} of ${shortly(data.budget)} allowed${realised}` +
    (data.memory ? `; memory of a call at most ${data.memory} MiB` : "");
}

function say({ part, option, chosen, share }) {
  const more = [
    `error of the final latent ${shortly(option.error)}`,
    option.effect === null ? "" : `of a block ${shortly(option.effect)}`,
    option.local === null ? "" : `of a call ${shortly(option.local)}`,
    Number.isFinite(option.peak_mib) ? `peak ${mib(option.peak_mib)} MiB` : "",
    option.over ? "more than the memory budget" : "",
  ].filter(Boolean);
  const taken = chosen ? " (chosen)" : "";
  return [el("b", null, `${labelOf(option)}${taken}`), `, ${part.text}: ${seconds(option.seconds)}, ${percent(share)} of exact; ${more.join(", ")}`];
}

function scale(dots, width, height) {
  const errors = dots.map(({ option }) => option.error).filter((error) => error > 0);
  const low = Math.floor(Math.log10(Math.max(SMALLEST, Math.min(...errors, 1))));
  const high = Math.ceil(Math.log10(Math.max(...errors, 10 ** (low + 1))));
  const most = Math.max(1, ...dots.map((dot) => dot.share)) * 1.05;
  // Without an error: at the left edge.
  const across = (error) => (error > 0 ? Math.max(0, (Math.log10(error) - low) / (high - low || 1)) : 0);
  return {
    low, high, most,
    x: (error) => LEFT + 8 + (width - LEFT - RIGHT - 8) * Math.min(1, across(error)),
    y: (share) => height - FOOT - (height - FOOT - TOP) * (share / most),
  };
}

function axes(context, at, width, height, budget, pale) {
  context.font = "11px Inter, system-ui, sans-serif";
  context.textBaseline = "middle";
  context.fillStyle = pale;
  const rule = (x, y, wide, high, alpha = 0.25) => {
    context.globalAlpha = alpha;
    context.fillRect(Math.round(x), Math.round(y), wide, high);
    context.globalAlpha = 1;
  };
  context.textAlign = "right";
  for (const share of [0, 0.5, 1].filter((value) => value <= at.most)) {
    rule(LEFT, at.y(share), width - LEFT - RIGHT, 1);
    context.fillText(percent(share), LEFT - 6, at.y(share));
  }
  context.textAlign = "center";
  for (let power = at.low; power <= at.high; power++) {
    rule(at.x(10 ** power), TOP, 1, height - FOOT - TOP);
    context.fillText(power ? `1e${power}` : "1", at.x(10 ** power), height - FOOT + 12);
  }
  if (budget > 0 && Math.log10(budget) >= at.low && Math.log10(budget) <= at.high) {
    context.fillStyle = "#d9822b";
    rule(at.x(budget), TOP, 1.5, height - FOOT - TOP, 0.9);
    context.textAlign = at.x(budget) > width / 2 ? "right" : "left";
    write(context, "budget", at.x(budget) + (at.x(budget) > width / 2 ? -5 : 5), TOP + 6);
  }
}

function dotsPage(data, box) {
  const page = el("div.va-page.va-fixed");
  const dots = dotsOf(data, box);
  const colour = coloursIn(data);
  const said = el("div.va-said", { "aria-live": "polite" });
  let at = null;
  let now = -1;
  const { canvas, again, dispose } = plot(
    (context, width, height) => {
      const style = getComputedStyle(canvas);
      at = scale(dots, width, height);
      axes(context, at, width, height, data.budget, style.getPropertyValue("caret-color"));
      dots.forEach((dot, number) => {
        const [x, y] = [at.x(dot.option.error), at.y(dot.share)];
        context.fillStyle = colour(dot.option.name);
        context.beginPath();
        context.arc(x, y, number === now ? 6 : 4.5, 0, 7);
        context.fill();
        if (!dot.chosen && number !== now) return;
        context.strokeStyle = style.color;
        context.lineWidth = dot.chosen ? 2 : 1;
        context.beginPath();
        context.arc(x, y, dot.chosen ? 8.5 : 7, 0, 7);
        context.stroke();
      });
    },
    { tabindex: 0, role: "application", "aria-label": "Error to the right, time upwards; arrow keys move over the choices",
      class: "va-ink" },
  );
  const go = (number) => {
    now = (number + dots.length) % dots.length;
    put(said, say(dots[now]));
    again();
  };
  canvas.addEventListener("pointermove", (event) => {
    if (!at) return;
    const [x, y] = place(event, canvas);
    const far = dots.map((dot) => Math.hypot(at.x(dot.option.error) - x * canvas.clientWidth, at.y(dot.share) - y * canvas.clientHeight));
    const near = far.indexOf(Math.min(...far));
    if (far[near] < 14 && near !== now) go(near);
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (!move || !dots.length) return;
    event.preventDefault();
    go(now + move);
  });
  said.append(el("span.va-pale", null, "Error of the final latent to the right, time upwards. A ring marks what the plan takes; point at a choice, or use the arrow keys."));
  page.append(
    el("div", null, el("b", null, headline(data))),
    el("div.va-plot", null, canvas),
    legend(dots.map((dot) => dot.option.name), colour),
    said,
  );
  page.dispose = dispose;
  return page;
}

function partsPage(data) {
  const colour = coloursIn(data);
  const weighed = data.parts.some((part) => Number.isFinite(part.options[part.chosen].peak_mib));
  const heads = ["part", "runs on", "error", "time", "of exact", ...(weighed ? ["peak MiB"] : [])];
  const rows = data.parts.map((part) => {
    const option = part.options[part.chosen];
    const name = el("span", null, key(colour(option.name)), labelOf(option));
    const cells = [part.text, name, shortly(option.error), seconds(option.seconds), percent(option.seconds / exactOf(part))];
    return weighed ? [...cells, mib(option.peak_mib)] : cells;
  });
  const page = el("div.va-page", { tabindex: 0, "data-capture-wheel": true });
  page.append(el("p.va-head", null, headline(data)));
  page.append(table(heads, rows, [2, 3, 4, 5]));
  if (data.dropped?.length) page.append(el("p.va-part", null, "Left out"));
  page.append(...(data.dropped ?? []).map(({ what, reason }) => el("p.va-item", null, `${what}: ${reason}`)));
  return page;
}

function controls(data, box, title) {
  if (title !== "Choices" || data.parts.length < 2) return [];
  const names = [ALL, ...data.parts.map((part) => part.text)];
  return [
    select("Part of the model", names.map((name) => [name, name]), box.chosen.part ?? ALL, (part) => {
      box.chosen.part = part;
      box.draw();
      box.inner.querySelector("select")?.focus({ preventScroll: true });
    }),
  ];
}

export const plan = {
  key: "plan",
  controls,
  // While it runs: steps done, and how long the others take.
  counts: true,
  pages: [
    ["Choices", dotsPage],
    ["Parts", partsPage],
  ],
};
