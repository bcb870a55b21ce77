// Paints the tiles of a heat map's file: grey levels along a ramp that also reads in grey, over a clip or alone.

import { el } from "./dom.js";
import { fileUrl } from "./player.js";

// As in attention/inspect/draw_maps.py.
const RAMP = [[6, 4, 24], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]];

function colour(level) {
  const at = Math.min(0.9999, level) * (RAMP.length - 1);
  const [low, high] = [RAMP[Math.floor(at)], RAMP[Math.floor(at) + 1]];
  return low.map((part, i) => part + (at % 1) * (high[i] - part));
}

const TABLE = Array.from({ length: 256 }, (_, grey) => colour(grey / 255));

// heat: what nodes/widgets/heat_file.py gives. loaded: told when it is there. Gives paint(context, layer, frame, width,
// height, over), which tells whether it could.
export function heatPainter(heat, loaded) {
  const [frames, rows, columns] = heat.grid;
  const tile = el("canvas", { width: columns, height: rows });
  const context = tile.getContext("2d", { willReadFrequently: true });
  const image = new Image();
  image.addEventListener("load", loaded);
  image.src = fileUrl(heat);
  let kept = "";

  function fill(layer, frame, over) {
    const name = `${layer} ${frame} ${over}`;
    if (kept === name) return;
    kept = name;
    const number = layer * frames + frame;
    const [left, top] = [(number % heat.columns) * columns, Math.floor(number / heat.columns) * rows];
    context.clearRect(0, 0, columns, rows);
    context.drawImage(image, left, top, columns, rows, 0, 0, columns, rows);
    const pixels = context.getImageData(0, 0, columns, rows);
    for (let i = 0; i < pixels.data.length; i += 4) {
      const grey = pixels.data[i];
      pixels.data.set(TABLE[grey], i);
      // Over a clip the stronger the more solid.
      pixels.data[i + 3] = over ? 242 * Math.min(1, Math.max(0, (grey / 255 - 0.2) / 0.5)) : 255;
    }
    context.putImageData(pixels, 0, 0);
  }

  return (onto, layer, frame, width, height, over) => {
    if (!image.complete || !image.naturalWidth) return false;
    fill(layer, frame, over);
    onto.imageSmoothingQuality = "high";
    onto.drawImage(tile, 0, 0, columns, rows, 0, 0, width, height);
    return true;
  };
}
