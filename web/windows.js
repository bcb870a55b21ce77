// The Long Sampler's windows over time, one below the other: what they share, and how visible each joint is.

import { el, place, put, seconds, write } from "./dom.js";
import { plot } from "./view.js";

const LEFT = 62, RIGHT = 14, TOP = 8, FOOT = 24;
// What attention/sampling/seams.py calls a joint that may be seen.
const SEEN = 1.5;

// Seconds at which a latent frame begins: the first one of these codecs is one picture, unless the node says how many
// pictures are before each.
function timeOf(data, frame) {
  if (data.begins && data.rate) return data.begins[frame] / data.rate;
  return data.ratio && data.rate ? (frame > 0 ? 1 + (frame - 1) * data.ratio : 0) / data.rate : null;
}

function whole(data) {
  const time = timeOf(data, data.frames);
  return `${data.frames} latent frames${time === null ? "" : `, ${seconds(time)}`}`;
}

function sayWindow(data, number) {
  const [first, end] = data.spans[number];
  const after = data.spans[number + 1];
  const shared = after ? Math.max(0, end - after[0]) : 0;
  const from = timeOf(data, first);
  const time = from === null ? "" : `, ${seconds(from) || "0 s"} to ${seconds(timeOf(data, end))}`;
  const next = after ? `; shares ${shared} with the next` : "";
  return [el("b", null, `window ${number + 1}`), `: latent frames ${first} to ${end - 1}${time}${next}`];
}

function saySeams(data) {
  const text = (seam) => `${seam.ratio === null ? "endless" : seam.ratio.toFixed(2)} at ${seam.frame}`;
  const parts = [["Seams", data.seams], ["of the sound", data.sound]].filter(([, seams]) => seams?.length);
  if (!parts.length) return "One window: no seam.";
  return `${parts.map(([name, seams]) => `${name} ${seams.map(text).join(", ")}`).join("; ")}. About 1 is none, above ${SEEN} may be seen.`;
}

function page(data) {
  const made = el("div.va-page.va-fixed");
  const said = el("div.va-said", { "aria-live": "polite" });
  let now = -1;
  const rows = data.spans.length;
  const { canvas, again, dispose } = plot(
    (context, width, height) => {
      const style = getComputedStyle(canvas);
      const [ink, pale] = [style.color, style.getPropertyValue("caret-color")];
      const x = (frame) => LEFT + ((width - LEFT - RIGHT) * frame) / data.frames;
      const floor = height - FOOT;
      const row = Math.min(26, (floor - TOP) / Math.max(1, rows));
      const bottom = TOP + row * rows;
      context.font = "11px Inter, system-ui, sans-serif";
      context.textBaseline = "middle";
      const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => ((width - LEFT) * n) / data.frames >= 44) ?? 1000;
      context.textAlign = "center";
      for (let frame = 0; frame <= data.frames; frame += step) {
        context.fillStyle = pale;
        context.globalAlpha = 0.25;
        context.fillRect(Math.round(x(frame)), TOP, 1, bottom - TOP);
        context.globalAlpha = 1;
        const time = timeOf(data, frame);
        write(context, time === null ? String(frame) : `${time.toFixed(1)} s`, x(frame), bottom + 13);
      }
      data.spans.forEach(([first, end], number) => {
        const top = TOP + number * row;
        const bar = Math.max(2, row - Math.min(4, row / 4));
        context.fillStyle = "#4f9fe8";
        context.globalAlpha = number === now ? 1 : 0.75;
        context.fillRect(x(first), top, x(end) - x(first), bar);
        // What it shares with its neighbours is paler.
        context.fillStyle = "#a8d1f7";
        for (const other of [data.spans[number - 1], data.spans[number + 1]].filter(Boolean)) {
          const [low, high] = [Math.max(first, other[0]), Math.min(end, other[1])];
          if (high > low) context.fillRect(x(low), top, x(high) - x(low), bar);
        }
        context.globalAlpha = 1;
        if (row < 10 && number % Math.ceil(12 / row)) return;
        context.fillStyle = number === now ? ink : pale;
        context.textAlign = "right";
        write(context, row < 8 ? String(number + 1) : `window ${number + 1}`, LEFT - 6, top + bar / 2);
      });
      for (const seam of data.seams ?? []) {
        context.fillStyle = seam.ratio === null || seam.ratio > SEEN ? "#e2674f" : "#45b07c";
        context.fillRect(x(seam.frame) - 1, TOP, 2, bottom - TOP);
      }
      if (data.done < data.frames) {
        context.fillStyle = pale;
        context.globalAlpha = 0.35;
        context.fillRect(x(data.done), TOP, x(data.frames) - x(data.done), bottom - TOP);
        context.globalAlpha = 1;
      }
    },
    { tabindex: 0, role: "application", "aria-label": "Windows over time; arrow keys move over them", class: "va-ink" },
  );
  const go = (number) => {
    now = Math.min(rows - 1, Math.max(0, number));
    put(said, sayWindow(data, now));
    again();
  };
  canvas.addEventListener("pointermove", (event) => {
    const row = Math.min(26, (canvas.clientHeight - FOOT - TOP) / Math.max(1, rows));
    const number = Math.floor((place(event, canvas)[1] * canvas.clientHeight - TOP) / row);
    if (number >= 0 && number < rows && number !== now) go(number);
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, Home: -rows, End: rows }[event.key];
    if (!move) return;
    event.preventDefault();
    go(now + move);
  });
  const worst = Math.max(0, ...[...(data.seams ?? []), ...(data.sound ?? [])].map((seam) => seam.ratio ?? Infinity));
  const count = `${rows} window${rows === 1 ? "" : "s"} over ${whole(data)}`;
  const judged = worst ? `, most visible seam ${Number.isFinite(worst) ? worst.toFixed(2) : "endless"}` : "";
  said.append(el("span.va-pale", null, "Pale: frames that two windows share. Point at a window, or use the arrow keys."));
  made.append(
    el("div", null, el("b", null, count), el(worst > SEEN ? "span.va-warn" : "span", null, judged)),
    el("div.va-plot", null, canvas),
    el("div.va-pale", null, saySeams(data)),
    said,
  );
  made.dispose = dispose;
  return made;
}

export const windows = { key: "windows", pages: [["Windows", page]] };
