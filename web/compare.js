// Two clips on one screen, parted by a line that can be moved: A, the reference, at its left, B, the other, at its right;
// seconds and decibels of both, decibels over the frames, the worst frame one click away. What there is stands in
// nodes/widgets/compare_view.py.

import { button, el, mib, place, put, seconds, select } from "./dom.js";
import { Player } from "./player.js";
import { plot } from "./view.js";

const MODES = [["split", "A | B"], ["a", "A alone"], ["b", "B alone"], ["difference", "difference"]];
// How many times the difference is lightened: 2 to the power of this.
const LIGHTER = 3;

function drawer(data, state) {
  const { width, height, offset } = data.clips;
  const part = (context, video, second, left = 0, wide = width) =>
    wide > 0 && context.drawImage(video, left, second * offset, wide, height, left, 0, wide, height);
  return (context, video) => {
    context.globalCompositeOperation = "source-over";
    const split = { a: width, b: 0 }[state.mode] ?? Math.round(state.split * width);
    if (state.mode === "difference") {
      part(context, video, 0);
      context.globalCompositeOperation = "difference";
      part(context, video, 1);
      context.globalCompositeOperation = "lighter";
      for (let i = 0; i < LIGHTER; i++) context.drawImage(context.canvas, 0, 0);
      return;
    }
    part(context, video, 0, 0, split);
    part(context, video, 1, split, width - split);
    if (state.mode !== "split") return;
    const line = Math.max(1, width / 300);
    context.fillStyle = "rgb(0 0 0 / 60%)";
    context.fillRect(split - line, 0, 2 * line, height);
    context.fillStyle = "#fff";
    context.fillRect(split - line / 2, 0, line, height);
  };
}

function screenOf(player, state) {
  const tags = [el("span.va-tag", { style: { left: "6px" } }, "A"), el("span.va-tag", { style: { right: "6px" } }, "B")];
  const screen = el(
    "div.va-screen",
    { tabindex: 0, role: "slider", "aria-label": "Where A ends and B begins", "aria-valuemin": 0, "aria-valuemax": 100 },
    player.canvas,
    tags,
  );
  const move = (split) => {
    state.split = Math.min(1, Math.max(0, split));
    screen.setAttribute("aria-valuenow", Math.round(100 * state.split));
    const shown = { a: [1, 0], b: [0, 1], difference: [0, 0] }[state.mode] ?? [state.split > 0.06, state.split < 0.94];
    tags.forEach((tag, i) => (tag.style.visibility = shown[i] ? "visible" : "hidden"));
    player.redraw();
  };
  // The picture stands in the middle of the screen, with bars at two sides.
  const at = (event) => {
    const [wide, high] = [screen.clientWidth, screen.clientHeight];
    const picture = Math.min(wide, (high * player.clips.width) / player.clips.height);
    return (place(event, screen)[0] * wide - (wide - picture) / 2) / picture;
  };
  screen.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || state.mode !== "split") return;
    event.stopPropagation();
    screen.setPointerCapture(event.pointerId);
    move(at(event));
  });
  screen.addEventListener("pointermove", (event) => screen.hasPointerCapture(event.pointerId) && move(at(event)));
  screen.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (step !== undefined) move(state.split + step);
    else if (event.key === " ") player.playing(!player.wanted);
    else return;
    event.preventDefault();
  });
  return { screen, move };
}

const decibels = (value) => (value === null || value === undefined ? "equal" : `${value.toFixed(1)} dB`);

// Decibels over the frames; a click finds one.
function curve(data, player) {
  const values = data.psnr_of ?? [];
  const known = values.filter((value) => value !== null);
  if (values.length < 2 || !known.length) return null;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const y = (value, height) => 4 + (height - 8) * (1 - ((value ?? high) - low) / (high - low || 1));
  const shape = plot(
    (context, width, height) => {
      const style = getComputedStyle(shape.canvas);
      const x = (frame) => 4 + ((width - 8) * frame) / (values.length - 1);
      context.strokeStyle = style.getPropertyValue("caret-color");
      context.lineWidth = 1.5;
      context.beginPath();
      values.forEach((value, frame) => context.lineTo(x(frame), y(value, height)));
      context.stroke();
      const dot = (frame, colour, size) => {
        context.fillStyle = colour;
        context.beginPath();
        context.arc(x(frame), y(values[frame], height), size, 0, 7);
        context.fill();
      };
      dot(data.worst, "#d9822b", 3.5);
      context.fillStyle = style.color;
      context.globalAlpha = 0.5;
      context.fillRect(x(player.frame) - 0.5, 0, 1, height);
      context.globalAlpha = 1;
      dot(player.frame, style.color, 3);
    },
    { class: "va-ink", title: `Decibels of each frame, ${low.toFixed(1)} to ${high.toFixed(1)}: click to see one`,
      style: { cursor: "pointer" } },
  );
  shape.canvas.addEventListener("click", (event) =>
    player.find(Math.round(place(event, shape.canvas)[0] * (values.length - 1))),
  );
  player.onframe.push(() => shape.again());
  return shape;
}

function figures(data) {
  const [a, b] = data.seconds ?? [];
  const [first, second] = data.names ?? ["reference"];
  const said = (name, parts) => {
    const texts = parts.filter(Boolean).flatMap((part, i) => (i ? [", ", part] : [part]));
    return el("span.va-figures", null, el("b", null, `${name}  `), texts);
  };
  // Memory: of the whole run where the device keeps a peak, and of the call that took most.
  const took = (which) => [
    data.seconds?.[which] ? seconds(data.seconds[which]) : "",
    data.peak_mib?.[which] ? `peak ${mib(data.peak_mib[which])} MiB` : "",
    data.call_mib?.[which] ? `a call ${mib(data.call_mib[which])} MiB` : "",
  ];
  const ssim = data.ssim === null || data.ssim === undefined ? "" : `SSIM ${data.ssim.toFixed(4)}`;
  const apart = data.equal ? ["all pixels are equal"] : [decibels(data.psnr), ssim];
  return [
    said("A", [first, ...took(0)]),
    said("B", [second, ...took(1), ...apart, a && b ? `${(a / b).toFixed(2)}x as fast` : ""]),
  ];
}

function comparePage(data, box) {
  const page = el("div.va-page.va-fixed");
  const state = (box.chosen.compare ??= { split: 0.5, mode: "split" });
  const player = new Player(data.clips, drawer(data, state), box);
  const { screen, move } = screenOf(player, state);
  const mode = select("What is shown", MODES, state.mode, (value) => {
    state.mode = value;
    move(state.split);
  });
  const worst = !data.equal && data.clips.frames > 1 &&
    button(`worst: ${data.worst}`, `Show the worst frame, ${data.worst}`, () => player.find(data.worst));
  const line = el("div.va-row.va-wrap", { style: { columnGap: "16px" } }, figures(data));
  const shape = curve(data, player);
  page.append(screen, el("div.va-row", null, player.controls, worst, mode));
  if (shape) {
    const now = el("span.va-figures.va-pale.va-number", { style: { width: "54px" } });
    player.onframe.push((frame) => put(now, decibels(data.psnr_of[frame])));
    page.append(el("div.va-row", { style: { height: "38px" } }, el("div.va-plot.va-full", null, shape.canvas), now));
  }
  page.append(line);
  if (data.verdict) page.append(el("div.va-pale.va-two", { title: data.verdict }, data.verdict));
  move(state.split);
  page.dispose = () => {
    player.dispose();
    shape?.dispose();
  };
  return page;
}

export const compare = { key: "compare", pages: [["Play", comparePage]] };
