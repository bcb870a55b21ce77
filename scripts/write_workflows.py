"""Writes workflows/*.json as scripts/templates.py lists them, and a thumbnail of each.

    python scripts/write_workflows.py [--comfyui PATH] [--run] [name ...]

Needs requirements-dev.txt and Chromium for the thumbnails. --run samples the workflows of the demo model first, so that
their thumbnails show results: some minutes.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import host

FOLDER = host.ROOT / "workflows"
SHOWN = host.ROOT / "web" / "docs" / "workflow.png"  # the demo after a run, for the README
BASE = host.HOME / "workflows"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZE = (768, 432)
VIEW = {"width": 1720, "height": 1000}
# Clear of the front end's bars and of its log.
CLIP = {"x": 100, "y": 90, "width": 1536, "height": 864}
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
}
FIT = """([x, y, width, height]) => {
    const size = (n) => n.flags.collapsed ? [n._collapsed_width ?? 200, 0] : n.size;
    const box = (n, [x, y] = n.pos, [width, height] = size(n)) => [x, y - 30, x + width, y + height];
    const boxes = app.graph.nodes.map((n) => box(n));
    const least = (i) => Math.min(...boxes.map((b) => b[i])), most = (i) => Math.max(...boxes.map((b) => b[i]));
    const [left, top, right, bottom] = [least(0), least(1), most(2), most(3)];
    const canvas = app.canvas.canvas.getBoundingClientRect();
    const scale = Math.min(width / (right - left), height / (bottom - top)) * 0.96;
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset = [
        (x - canvas.left + (width - (right - left) * scale) / 2) / scale - left,
        (y - canvas.top + (height - (bottom - top) * scale) / 2) / scale - top,
    ];
    app.canvas.setDirty(true, true);
}"""


def version() -> str:
    """The pack's own."""
    return re.search(r'^version = "(.*)"', (host.ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]


def build(name: str, info: dict) -> dict:
    """A workflow, from what /object_info told of the nodes."""
    import newer_nodes
    import templates
    from graph import Graph

    graph = Graph(newer_nodes.known(info), version())
    templates.WORKFLOWS[name](graph)
    return graph.to_workflow()


def to_json(workflow: dict) -> str:
    return json.dumps(workflow, indent=2) + "\n"


def main() -> int:
    parser = host.parser(__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="sample the demo model's workflows for their thumbnails")
    parser.add_argument("names", nargs="*", help="file names without ending; all unless given")
    options = parser.parse_args()
    folder = host.enter_environment(options.comfyui, "write_workflows.py", ("requirements-dev.txt",))
    import client
    import templates

    with host.serve(folder, BASE) as address:
        info = client.Client(address).object_info()
        made = {name: build(name, info) for name in options.names or templates.WORKFLOWS}
        for name, workflow in made.items():
            (FOLDER / f"{name}.json").write_text(to_json(workflow))
            host.say(f"{name}.json")
    prepare(made.values())
    with host.serve(folder, BASE) as address:
        take_pictures(address, list(made), options.run)
    return 0


def prepare(workflows: Iterable[dict], base: Path = BASE) -> None:
    """A base folder in which every file that a workflow names is there, if only as a name: no red frames."""
    named = [entry for w in workflows for node in w["nodes"] for entry in node["properties"].get("models", ())]
    for entry in named:
        place = base / "models" / entry["directory"] / entry["name"]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    (base / "input").mkdir(exist_ok=True)
    shutil.copy(host.ROOT / "art" / "icon.png", base / "input" / "example.png")
    write_clip(base / "input" / "example.mp4")
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(SETTINGS))


def write_clip(file: Path) -> None:
    """A second of a bright square that moves to the right."""
    import av
    import numpy as np

    with av.open(str(file), "w") as container:
        stream = container.add_stream("h264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(16):
            picture = np.full((64, 96, 3), 40, np.uint8)
            picture[20:44, 4 * number : 4 * number + 24] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


@contextlib.contextmanager
def front_end(address: str, view: dict):
    """A page of the front end in Chromium, ready to draw."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not program:
        raise host.SetUpError("No Chromium for the pictures: install it (Debian: apt-get install chromium).")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=view)
        page.goto(address)
        page.wait_for_function("window.app && app.graph && Object.keys(LiteGraph.registered_node_types).length > 500")
        page.wait_for_timeout(3000)
        yield page
        browser.close()


def take_pictures(address: str, names: list[str], run: bool) -> None:
    """A thumbnail of each workflow, as the front end draws it."""
    from PIL import Image

    with front_end(address, VIEW) as page:
        for name in names:
            shot = picture(page, FOLDER / f"{name}.json", run)
            Image.open(io.BytesIO(shot)).convert("RGB").resize(SIZE, Image.LANCZOS).save(
                FOLDER / f"{name}.jpg", quality=82, optimize=True
            )
            if run and name == "Video attention demo":
                Image.open(io.BytesIO(shot)).convert("RGB").quantize(128).save(SHOWN, optimize=True)
            host.say(f"{name}.jpg")


def picture(page, file: Path, run: bool) -> bytes:
    workflow = json.loads(file.read_text())
    page.evaluate("async (w) => { await app.loadGraphData(w); }", workflow)
    page.wait_for_timeout(800)
    page.keyboard.press("Escape")  # the list of models that are not here
    demo = any(value == "video-attention-demo.safetensors" for n in workflow["nodes"] for value in n["widgets_values"])
    if run and demo:
        page.evaluate("window.ended = false; app.api.addEventListener('execution_success', () => { ended = true; })")
        page.evaluate("app.queuePrompt(0)")
        page.wait_for_function("window.ended", timeout=1800000)
        page.wait_for_timeout(9000)  # until the message that it is done has gone
    page.evaluate(FIT, list(CLIP.values()))
    page.wait_for_timeout(1500)
    return page.screenshot(clip=CLIP)


if __name__ == "__main__":
    host.main(main)
