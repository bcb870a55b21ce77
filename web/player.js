// Plays the file of a node's clips on a canvas, all of them in step since they are one picture; finds any frame.

import { api } from "../../scripts/api.js";
import { button, el, select, svg, write } from "./dom.js";

const RATES = [4, 8, 12, 16, 24, 25, 30, 60];

export function fileUrl({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder: subfolder ?? "", type: type ?? "temp" })}`);
}

const icon = (path) =>
  svg("svg", { viewBox: "0 0 12 12", width: 11, height: 11, style: { verticalAlign: "-1px" } },
    svg("path", { d: path, fill: "currentColor" }));
const [PLAY, PAUSE] = ["M2 1v10l9-5z", "M2 1h3v10H2zM7 1h3v10H7z"];

const rateOf = (box, usual) => box.node.properties?.video_attention_rate ?? usual;

// What plays: its buttons, which frame is shown, who is told of it. Its children show a frame in `find`.
class Transport {
  constructor(frames, usual, box) {
    Object.assign(this, { frames, usual, box, frame: 0, onframe: [], wanted: false });
    this.toggle = button(icon(PLAY), "Play or pause", () => this.playing(!this.wanted));
    this.slider = el("input", { type: "range", min: 0, max: frames - 1, step: 1, "aria-label": "Frame" });
    this.slider.value = 0;
    this.slider.addEventListener("input", () => this.find(Number(this.slider.value)));
    this.label = el("span.va-figures.va-pale");
    const rates = [...new Set([...RATES, usual, rateOf(box, usual)])].sort((one, other) => one - other);
    this.rates = select("Frames a second", rates.map((n) => [n, `${n} fps`]), rateOf(box, usual), (value) => {
      (box.node.properties ??= {}).video_attention_rate = Number(value);
      this.rate(Number(value));
    });
    this.controls = [this.toggle, this.slider, this.label, this.rates];
  }

  begin() {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.playing(!still && this.frames > 1 && this.box.chosen.still !== true);
  }

  playing(wanted) {
    this.wanted = wanted;
    this.box.chosen.still = !wanted;
    this.toggle.replaceChildren(icon(wanted ? PAUSE : PLAY));
    this.toggle.setAttribute("aria-pressed", String(wanted));
    this.go();
  }

  within(frame) {
    return Math.min(this.frames - 1, Math.max(0, frame));
  }

  showing(frame) {
    this.frame = this.within(frame);
    this.slider.value = this.frame;
    this.label.textContent = `${this.frame} / ${this.frames - 1}`;
    this.redraw();
    for (const act of this.onframe) act(this.frame);
  }
}

// clips: what nodes/widgets/clip_file.py gives. draw(context, video): again for each frame, in the clip's own pixels.
export class Player extends Transport {
  constructor(clips, draw, box) {
    super(clips.frames, clips.rate, box);
    Object.assign(this, { clips, seen: true });
    this.canvas = el("canvas", { width: clips.width, height: clips.height, "aria-hidden": true });
    this.video = el("video", { muted: true, playsinline: true, loop: true, preload: "auto", src: fileUrl(clips) });
    this.video.muted = true;
    this.redraw = () => this.video.readyState >= 2 && draw(this.canvas.getContext("2d"), this.video);
    this.video.addEventListener("seeked", () => this.shown(this.video.currentTime));
    this.video.addEventListener("loadeddata", () => {
      // A frame may have been asked for before there was a picture: the video has gone there by now.
      this.shown(this.video.currentTime);
      this.begin();
    });
    this.video.addEventListener("error", () => this.missing());
    this.watch = new IntersectionObserver(([entry]) => this.see(entry.isIntersecting));
    this.watch.observe(this.canvas);
    this.rate(rateOf(box, clips.rate));
  }

  missing() {
    const context = this.canvas.getContext("2d");
    context.fillStyle = "#ddd";
    context.font = `${Math.max(12, this.clips.width / 24)}px sans-serif`;
    write(context, "The clip is no longer there: run again.", 8, this.clips.height / 2, this.clips.width - 16);
  }

  rate(value) {
    this.video.defaultPlaybackRate = this.video.playbackRate = value / this.clips.rate;
  }

  // Only what can be seen moves.
  see(seen) {
    this.seen = seen;
    this.go();
  }

  go() {
    if (!(this.wanted && this.seen)) return this.video.pause();
    this.video.play().then(() => this.follow(), () => {});
  }

  follow() {
    if (this.following) return;
    this.following = true;
    const next = this.video.requestVideoFrameCallback
      ? (act) => this.video.requestVideoFrameCallback((now, { mediaTime }) => act(mediaTime))
      : (act) => requestAnimationFrame(() => act(this.video.currentTime));
    const step = (time) => {
      this.shown(time);
      if (this.video.paused) this.following = false;
      else next(step);
    };
    next(step);
  }

  // Shows one frame and stays there.
  find(frame) {
    this.playing(false);
    this.video.currentTime = (this.within(frame) + 0.5) / this.clips.rate;
  }

  shown(time) {
    this.showing(Math.floor(time * this.clips.rate + 0.01));
  }

  dispose() {
    this.watch.disconnect();
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
  }
}

// The same without a file: frames that are drawn. draw(context, frame), on a canvas of these sides.
export class Ticker extends Transport {
  constructor(frames, usual, [width, height], draw, box) {
    super(frames, usual, box);
    this.canvas = el("canvas", { width, height, "aria-hidden": true });
    this.redraw = () => draw(this.canvas.getContext("2d"), this.frame);
    this.pace = rateOf(box, usual);
  }

  rate(value) {
    this.pace = value;
    this.go();
  }

  go() {
    clearInterval(this.timer);
    const next = () => this.canvas.offsetParent && this.showing((this.frame + 1) % this.frames);
    if (this.wanted) this.timer = setInterval(next, 1000 / this.pace);
  }

  find(frame) {
    this.playing(false);
    this.showing(frame);
  }

  dispose() {
    clearInterval(this.timer);
  }
}
