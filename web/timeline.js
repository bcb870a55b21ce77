// The seconds of each step as columns, attention in the colours of its kernels; a step's figures under the pointer or
// the cursor keys.

import { el, percent, place, put, seconds, write } from "./dom.js";
import { chosen, keysOf, legend } from "./ran.js";
import { plot } from "./view.js";

const LEFT = 54, RIGHT = 6, TOP = 10, FOOT = 22;

export const niceStep = (most) => {
  const size = 10 ** Math.floor(Math.log10(most || 1));
  return [0.1, 0.2, 0.5, 1].map((n) => n * size).find((n) => most / n <= 5) ?? size;
};

const rowsOf = (one, roles) => (one.rows ?? []).filter((row) => roles.includes(row.role));
// Steps that were forecast make no attention call.
const kindOf = (one) => one.kind ?? (one.forecast || one.forecasted ? "forecast" : "");

function say(one, roles) {
  const rows = rowsOf(one, roles).map((row) => {
    const time = row.seconds ? `, ${seconds(row.seconds)}, ${percent(row.seconds / (one.seconds || 1))}` : "";
    return `${row.role} on ${row.used}: ${row.calls} call${row.calls > 1 ? "s" : ""}${time}`;
  });
  const error = one.estimated_error ? `, estimated error ${one.estimated_error.toPrecision(2)}` : "";
  const kind = kindOf(one) ? ` (${kindOf(one)}${error})` : "";
  return [el("b", null, `step ${one.step}`), `${kind}, ${seconds(one.seconds)}. ${rows.join("; ")}`];
}

function axes(context, width, floor, most, count, pale) {
  context.font = "11px Inter, system-ui, sans-serif";
  context.textBaseline = "middle";
  const tick = niceStep(most);
  for (let value = 0; value <= most * 1.001; value += tick) {
    const y = floor - ((floor - TOP) * value) / most;
    context.fillStyle = pale;
    context.globalAlpha = 0.3;
    context.fillRect(LEFT, Math.round(y), width - LEFT - RIGHT, 1);
    context.globalAlpha = 1;
    context.textAlign = "right";
    write(context, value ? seconds(value) : "0", LEFT - 6, y);
  }
  const step = (width - LEFT - RIGHT) / count;
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * step >= 24) ?? 1000;
  context.textAlign = "center";
  for (let x = 0; x < count; x += every) context.fillText(String(x + 1), LEFT + (x + 0.5) * step, floor + 12);
  context.textAlign = "right";
  write(context, "step", LEFT - 6, floor + 12);
}

function summary(steps) {
  const [first, ...rest] = steps.map((one) => one.seconds);
  const total = steps.reduce((sum, one) => sum + one.seconds, 0);
  const each = rest.length ? `: the first ${seconds(first)}, then ${seconds((total - first) / rest.length)} each` : "";
  return `${steps.length} step${steps.length > 1 ? "s" : ""} in ${seconds(total)}${each}`;
}

export function timePage(data, box) {
  const steps = data.timeline ?? [];
  const roles = chosen(data, box);
  const page = el("div.va-page.va-fixed");
  if (!steps.length) {
    page.append(el("p.va-pale", null, "Nothing is known of single steps of this run."));
    return page;
  }
  const colour = keysOf(data);
  const timed = steps.some((one) => (one.rows ?? []).some((row) => row.seconds));
  const most = Math.max(1e-9, ...steps.map((one) => one.seconds));
  const said = el("div.va-said", { "aria-live": "polite" });
  let at = -1;

  const { canvas, again, dispose } = plot(
    (context, width, height) => {
      const style = getComputedStyle(canvas);
      const [ink, pale] = [style.color, style.getPropertyValue("caret-color")];
      const floor = height - FOOT;
      const step = (width - LEFT - RIGHT) / steps.length;
      const gap = Math.min(3, step / 5);
      axes(context, width, floor, most, steps.length, pale);
      steps.forEach((one, x) => {
        const left = LEFT + x * step;
        const high = ((floor - TOP) * one.seconds) / most;
        context.fillStyle = pale;
        context.globalAlpha = x === at ? 0.55 : 0.3;
        context.fillRect(left, floor - high, step - gap, high);
        context.globalAlpha = kindOf(one) ? 0.4 : 1;
        let foot = floor;
        for (const row of rowsOf(one, roles)) {
          const part = ((floor - TOP) * (row.seconds ?? 0)) / most;
          context.fillStyle = colour(row.used);
          context.fillRect(left, foot - part, step - gap, part);
          foot -= part;
        }
        context.globalAlpha = 1;
        if (x === at) {
          context.strokeStyle = ink;
          context.strokeRect(left - 0.5, floor - high - 0.5, step - gap + 1, high + 1);
        }
      });
    },
    { tabindex: 0, role: "application", "aria-label": "Seconds of each step; arrow keys move over them", class: "va-ink" },
  );

  function go(step) {
    at = Math.min(steps.length - 1, Math.max(0, step));
    put(said, say(steps[at], roles));
    again();
  }

  canvas.addEventListener("pointermove", (event) => {
    const left = place(event, canvas)[0] * canvas.clientWidth - LEFT;
    const step = Math.floor((left / (canvas.clientWidth - LEFT - RIGHT)) * steps.length);
    if (step >= 0 && step < steps.length && step !== at) go(step);
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -steps.length, End: steps.length }[event.key];
    if (!move) return;
    event.preventDefault();
    go(at + move);
  });
  canvas.addEventListener("focus", () => at < 0 && go(0));

  const used = steps.flatMap((one) => rowsOf(one, roles).map((row) => row.used));
  const note = timed ? legend(used, colour) : el("span.va-pale", null, "Turn timing on in Backend to see attention's part.");
  said.append(el("span.va-pale", null, "Point at a step, or use the arrow keys, to see its figures."));
  page.append(
    el("div.va-row.va-wrap", null, el("b", null, summary(steps)), el("span.va-space"), note),
    el("div.va-plot", null, canvas),
    said,
  );
  page.dispose = dispose;
  return page;
}
