"""Writes workflows/*.json as scripts/templates.py lists them, web/workflows.js, and a thumbnail of each.

    python scripts/write_workflows.py [--comfyui PATH] [--run] [name ...]

--run samples the workflows of the demo model: their thumbnails are what came out, moving. Some minutes, and Chromium
for the picture of the page. The others show what their dial computes in each step. The page asks for NAME.jpg, whatever
is in it, and browsers go by what is in it: a moving one is WebP.
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
ORDER = host.ROOT / "web" / "workflows.js"
DEMO = "Video attention demo"
SHOWN = host.ROOT / "web" / "docs" / "workflow.png"  # the demo after a run, for the README
BASE = host.HOME / "workflows"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
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


def order() -> str:
    """web/workflows.js: what the page sorts by."""
    import templates

    said = "// The workflows of this pack as scripts/templates.py lists them; scripts/write_workflows.py writes this."
    names = "".join(f"  {json.dumps(name)},\n" for name in templates.WORKFLOWS)
    return f"{said}\n\nexport const ORDER = [\n{names}];\n"


def main() -> int:
    parser = host.parser(__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="sample the demo model's workflows for their thumbnails")
    parser.add_argument("names", nargs="*", help="file names without ending; all unless given")
    options = parser.parse_args()
    folder = host.enter_environment(options.comfyui, "write_workflows.py", ("requirements-dev.txt",))
    import client
    import templates

    with host.serve(folder, BASE) as address:
        server = client.Client(address)
        info = server.object_info()
        made = {name: build(name, info) for name in options.names or templates.WORKFLOWS}
        for name, workflow in made.items():
            (FOLDER / f"{name}.json").write_text(to_json(workflow))
            host.say(f"{name}.json")
        ORDER.write_text(order())
        draw_thumbnails(made, server, info, options.run)
    if options.run and DEMO in made:
        prepare([made[DEMO]])
        with host.serve(folder, BASE) as address, front_end(address, VIEW) as page:
            show_run(page, made[DEMO])
    return 0


def draw_thumbnails(made: dict, server, info: dict, run: bool) -> None:
    """Of those of the demo model only where they may be run."""
    import client
    import newer_nodes
    import planned_pictures
    import result_pictures

    for name, workflow in made.items():
        file = FOLDER / f"{name}.jpg"
        if name in result_pictures.PICTURES:
            if not run:
                continue
            result_pictures.draw(name, workflow, server, info, BASE).save(file)
        else:
            prompt = client.to_prompt(workflow, newer_nodes.known(info))
            planned_pictures.draw(name, prompt).save(file, quality=88, optimize=True)
        host.say(file.name)


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
        page.wait_for_function(host.LISTENS)
        page.wait_for_timeout(3000)
        yield page
        browser.close()


def show_run(page, workflow: dict) -> None:
    """SHOWN: the page after a run, all of the graph in it."""
    from PIL import Image

    page.evaluate("async (w) => { await app.loadGraphData(w); }", workflow)
    page.wait_for_timeout(800)
    page.evaluate("window.ended = false; app.api.addEventListener('execution_success', () => { ended = true; })")
    page.evaluate("app.queuePrompt(0)")
    page.wait_for_function("window.ended", timeout=1800000)
    page.wait_for_timeout(9000)  # until the message that it is done has gone
    page.evaluate(FIT, list(CLIP.values()))
    page.wait_for_timeout(1500)
    shown = Image.open(io.BytesIO(page.screenshot(clip=CLIP)))
    shown.convert("RGB").quantize(128).save(SHOWN, optimize=True)
    host.say(SHOWN.name)


if __name__ == "__main__":
    host.main(main)
