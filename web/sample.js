// Previews of the samplers move: they come as one animated picture, of which ComfyUI's canvas draws the first frame.

import { app } from "../../scripts/app.js";
import { traitsOf } from "./find.js";

app.registerExtension({
  name: "videoattention.sample",

  nodeCreated(node) {
    if (!traitsOf(node).samples) return;
    // The front end sets this from a finished node's output, which samplers have none of; it then shows pictures as
    // elements of the page, which move, and not on the canvas.
    Object.defineProperty(node, "animatedImages", { get: () => true, set: () => {}, configurable: true });
  },
});
