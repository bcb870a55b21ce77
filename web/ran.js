// What the pages of a report share: its roles, which of them are looked at, one colour a kernel.

import { coloursOf, el } from "./dom.js";

export const rolesOf = (data) => [...new Set((data.rows ?? []).map((row) => row.role))];
export const chosen = (data, box) => (rolesOf(data).includes(box.chosen.role) ? [box.chosen.role] : rolesOf(data));

export function keysOf(data) {
  const states = (data.cells?.states ?? []).flat().map((ran) => ran.used);
  const steps = (data.timeline ?? []).flatMap((step) => (step.rows ?? []).map((row) => row.used));
  return coloursOf([...(data.rows ?? []).map((row) => row.used), ...states, ...steps]);
}

export const key = (colour) => el("span.va-key", { style: { background: colour } });

export function legend(names, colour) {
  return el("div.va-legend", null, [...new Set(names)].map((name) => el("span", null, key(colour(name)), name)));
}
