"""Makes web/docs/<NodeId>-wiring.png: each node between those it is wired to, as the real front end draws it.

    python scripts/wiring_pictures.py [--comfyui PATH] [NodeId ...]

What stands before and behind a node follows from the types of its sockets. Needs requirements-dev.txt and Chromium.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import host
import write_workflows

FOLDER = host.ROOT / "web" / "docs"
PREFIX = "VideoAttention"
VIEW = {"width": 1800, "height": 1400}
COLOURS = 96

# Type of an input -> the node before it.
BEFORE = {
    "MODEL": "UNETLoader",
    "LATENT": "EmptyLTXVLatentVideo",
    "CONDITIONING": "CLIPTextEncode",
    "IMAGE": "VAEDecode",
    "VAE": "VAELoader",
    "NOISE": "RandomNoise",
    "GUIDER": "CFGGuider",
    "SAMPLER": "KSamplerSelect",
    "SIGMAS": "BasicScheduler",
    "VIDEO_ATTENTION_PLAN": "VideoAttentionCalibrate",
}
# Type of an output -> the node behind it and the input there.
BEHIND = {
    "MODEL": ("KSampler", "model"),
    "LATENT": ("VAEDecode", "samples"),
    "IMAGE": ("PreviewImage", "images"),
    "CONDITIONING": ("KSampler", "positive"),
    "VAE": ("VAEDecode", "vae"),
    "VIDEO_ATTENTION_PLAN": ("VideoAttentionSavePlan", "plan"),
}
# An optional input is wired too where it shows more.
TELLING = ("latent", "images", "vae", "model_low")
# Nodes that look at what a sampler made.
AFTER_SAMPLING = {("VideoAttentionReport", "latent"), ("VideoAttentionMaps", "latent")}
# What a folded node says: the page cuts its title after 20 letters.
SHORT = {
    "VideoAttentionBackend": "Backend (ours)",
    "VideoAttentionCalibrate": "Calibrate (ours)",
    "VideoAttentionSavePlan": "Save Plan (ours)",
    "EmptyLTXVLatentVideo": "Empty Latent Video",
    "positive": "Prompt",
    "negative": "Negative prompt",
}

DRAW = """([kind, before, behind, short]) => {
    app.graph.clear();
    // The page keeps values of widgets by a node's number and name: numbers that nobody had.
    window.drawn = (window.drawn ?? 0) + 1000;
    app.graph.last_node_id = window.drawn;
    const make = (type, x, y) => {
        const node = LiteGraph.createNode(type);
        node.pos = [x, y];
        app.graph.add(node);
        return node;
    };
    const ink = app.canvas.canvas.getContext('2d');
    ink.font = '16px Inter, Arial';
    const small = (node, name, right) => {
        node.title = short[name] ?? short[node.type] ?? node.title;
        node.collapse(true);
        // Close to what it is wired to: help is read in a narrow panel.
        if (right !== undefined) node.pos[0] = right - ink.measureText(node.title).width - 54;
        return node;
    };
    const input = (node, name) => node.inputs.findIndex((i) => i.name === name);
    const output = (node, type) => Math.max(0, node.outputs.findIndex((o) => o.type === type));
    const node = make(kind, 0, 0), STEP = 40;
    node.title = node.title.replace(/ \\(.*\\)$/, "");
    node.size = node.computeSize();
    node.setSize([Math.max(300, ink.measureText(node.title).width + 60), node.size[1]]);
    // Help is read in a panel that is 400 pixels wide: what comes before stands beside it, what comes behind below.
    let y = node.inputs.length ? node.getConnectionPos(true, 0)[1] - 10 : 0;
    const place = (type, name) => small(make(type, 0, (y += STEP) - STEP), name, -30);
    for (const [type, chain, name] of before) {
        const first = chain[1] && place(chain[1]);
        const last = place(chain[0], name);
        last.connect(output(last, type), node, input(node, name));
        first?.connect(output(first, type), last, Math.max(0, last.inputs.findIndex((s) => s.type === type)));
    }
    y = node.computeSize()[1] + 50;
    for (const [type, target, name] of behind) {
        const next = small(make(target, 0, (y += STEP) - STEP), undefined, node.size[0]);
        node.connect(node.outputs.findIndex((o) => o.type === type), next, input(next, name));
    }
    node.setSize([node.size[0], node.computeSize()[1]]);
}"""
# The page moves its view some time after a graph is cleared.
LOOK = """() => {
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [760, 160];
    app.canvas.deselectAll?.();
    app.canvas.draw(true, true);
}"""
BOX = """() => {
    const view = app.canvas.canvas.getBoundingClientRect(), s = app.canvas.ds.scale, o = app.canvas.ds.offset;
    const boxes = app.graph.nodes.map((n) => {
        const box = n.getBounding ? [...n.getBounding()] : [n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30];
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]];
    });
    const least = (i) => Math.min(...boxes.map((b) => b[i])), most = (i) => Math.max(...boxes.map((b) => b[i]));
    const [x, y] = [(least(0) + o[0]) * s + view.left - 14, (least(1) + o[1]) * s + view.top - 14];
    return { x, y, width: (most(2) - least(0)) * s + 44, height: (most(3) - least(1)) * s + 28 };
}"""


def wiring(name: str, spec: dict) -> tuple[str, list, list]:
    """(node, [type, nodes before it from the nearest on, input], [type, node behind, its input])."""
    behind, seen = [], set()
    for kind in spec["output"]:
        if kind in BEHIND and kind not in seen and BEHIND[kind][0] != name:
            seen.add(kind)
            behind.append([kind, *BEHIND[kind]])
    required, optional = (spec["input"].get(part, {}) for part in ("required", "optional"))
    wanted = {**required, **{key: value for key, value in optional.items() if key in TELLING}}
    before = []
    for key, (kind, *_) in wanted.items():
        if isinstance(kind, str) and kind in BEFORE:
            before.append([kind, chain(name, key, kind, "MODEL" in spec["output"]), key])
    return name, before, behind


def chain(name: str, key: str, kind: str, gives_model: bool) -> list[str]:
    """The nodes before an input, the nearest first."""
    if (name, key) in AFTER_SAMPLING:
        return ["KSampler"]
    if kind == "MODEL" and not gives_model:
        return ["VideoAttentionBackend", "UNETLoader"]
    return [BEFORE[kind]]


def main() -> int:
    parser = host.parser(__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="ids of nodes; all unless given")
    options = parser.parse_args()
    folder = host.enter_environment(options.comfyui, "wiring_pictures.py", ("requirements-dev.txt",))
    import client

    with tempfile.TemporaryDirectory() as base:
        write_workflows.prepare((), Path(base))
        with host.serve(folder, Path(base)) as address:
            info = client.Client(address).object_info()
            names = options.names or sorted(name for name in info if name.startswith(PREFIX))
            take(address, [wiring(name, info[name]) for name in names])
    return 0


def take(address: str, wirings: list[tuple]) -> None:
    with write_workflows.front_end(address, VIEW) as page:
        for wired in wirings:
            page.evaluate(DRAW, [*wired, SHORT])
            page.wait_for_timeout(600)
            page.evaluate(LOOK)
            page.wait_for_timeout(300)
            keep(page.screenshot(clip=page.evaluate(BOX)), FOLDER / f"{wired[0]}-wiring.png")
            host.say(f"{wired[0]}-wiring.png")


def keep(shot: bytes, target: Path) -> None:
    from PIL import Image

    Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    host.main(main)
