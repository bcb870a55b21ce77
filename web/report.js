// The Report's pages: what ran, each block at each step, the seconds of each step. One role or all of them.

import { app } from "../../scripts/app.js";
import { button, el, mib, percent, put, seconds, select, table } from "./dom.js";
import { everyNode, nodeAt, traitsOf } from "./find.js";
import { gridPage } from "./grid.js";
import { chosen, key, keysOf, rolesOf } from "./ran.js";
import { timePage } from "./timeline.js";

const ALL = "all roles";

function controls(data, box) {
  const roles = rolesOf(data);
  if (roles.length < 2) return [];
  const choices = [[ALL, ALL], ...roles.map((role) => [role, role])];
  const value = roles.includes(box.chosen.role) ? box.chosen.role : ALL;
  return [
    select("Role of the attention", choices, value, (role) => {
      box.chosen.role = role;
      box.draw();
      box.inner.querySelector("select")?.focus({ preventScroll: true });
    }),
  ];
}

function calls(data, box) {
  const roles = chosen(data, box);
  const rows = (data.rows ?? []).filter((row) => roles.includes(row.role));
  const colour = keysOf(data);
  const timed = (data.seconds ?? 0) > 0;
  const whole = timed ? data.seconds : data.calls || 1;
  const weighed = rows.some((row) => Number.isFinite(row.peak_mib));
  const cells = rows.map((row) => {
    const share = (timed ? row.seconds : row.calls) / whole;
    const bar = el("i", { style: { width: `${100 * share}%`, background: colour(row.used) } });
    const name = el("div", null, el("span", null, key(colour(row.used)), row.used), el("span.va-share", null, bar));
    const shown = timed ? `${seconds(row.seconds)}, ${percent(share)}` : percent(share);
    const memory = weighed ? [mib(row.peak_mib)] : [];
    return [row.role, name, String(row.calls), row.blocks || "unknown", shown, ...memory];
  });
  const page = el("div.va-page", { tabindex: 0, "data-capture-wheel": true });
  page.append(el("p.va-head", null, box.text.split("\n")[0] || data.model || ""), ...turnOn(data));
  const heads = ["role", "ran on", "calls", "blocks", timed ? "time" : "share", ...(weighed ? ["peak MiB"] : [])];
  if (cells.length) page.append(table(heads, cells, [2, 4, 5]));
  if (data.memory_line) page.append(el("p", null, data.memory_line));
  page.append(...reasons(data, roles));
  return page;
}

const timingOf = (node) => traitsOf(node).text && node.widgets?.find((widget) => widget.name === "timing");

// Of the nodes that the run names those that can be timed. ComfyUI shows a kept report again when they have other ids, as
// in a subgraph that they were folded into: then all of the page that can be.
function couldTime(paths) {
  const named = paths.map(nodeAt).filter((node) => node && timingOf(node));
  return named.length || !paths.length ? named : everyNode().filter(timingOf);
}

const idleTimings = (data) =>
  couldTime(data.answer?.turn_on_timing_of ?? [])
    .map((node) => [node, timingOf(node)])
    .filter(([, widget]) => !widget.value);

// Nothing was timed: one click turns timing on in the nodes that could, for the next run.
function turnOn(data) {
  const timings = idleTimings(data);
  if (!timings.length) return [];
  const names = timings.map(([node]) => node.title).join(", ");
  const turn = button("Turn timing on", `Turn timing on in ${names}, for the next run`, () => {
    // Asked again: they may have been folded into a subgraph since.
    for (const [node, widget] of idleTimings(data)) {
      widget.value = true;
      widget.callback?.(true, app.canvas, node);
      node.setDirtyCanvas?.(true, true);
    }
    turn.disabled = true;
    put(turn, "Timing is on: run again");
  });
  return [el("p", null, turn)];
}

function part(title, lines) {
  return lines.length ? [el("p.va-part", null, title), ...lines.map((line) => el("p.va-item", null, line))] : [];
}

function reasons(data, roles) {
  const fell = (data.fallbacks ?? []).filter((one) => roles.includes(one.role));
  const cut = (data.in_chunks ?? []).filter((one) => roles.includes(one.role));
  const away = (data.unplaced ?? []).filter((one) => roles.includes(one.role));
  return [
    ...part("One after the other", data.stages ?? []),
    ...part("Rules", data.rule_lines ?? []),
    ...part("Fell back", fell.map((one) => `${one.calls} calls, ${one.role}, ${one.wanted}: ${one.reason}`)),
    ...part("In chunks", cut.map((one) => `${one.calls} calls, ${one.role}, ${one.used}, ${one.how}`)),
    ...part("Measured by auto", data.measured ?? []),
    ...part("Not on the video's grid", away.map((one) => `${one.calls} calls, ${one.role}: ${one.reason}`)),
    ...part("Not open to auto", (data.passed_over ?? []).map((one) => `${one.backend}: ${one.reason}`)),
    ...part("Notes", data.notes ?? []),
  ];
}

export const report = {
  key: "report",
  controls,
  pages: [
    ["Calls", calls],
    ["Blocks", gridPage],
    ["Time", timePage],
  ],
};
