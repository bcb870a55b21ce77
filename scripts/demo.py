"""Samples a real video diffusion transformer in a real ComfyUI, with its attention swapped.

    python scripts/demo.py [--colour red] [--form square] [--direction right] [--backend auto] [--comfyui PATH]
    python scripts/demo.py --tour     dense, inside each frame, and a plan: measured, on one page

Needs nothing but Python 3.10 to 3.13 and, the first time, the network for pip. No weights are downloaded.
"""

from __future__ import annotations

import json
import shutil
import sys
import time

import host
from demo_models import SCENES

WORKFLOW = host.ROOT / "workflows" / "Video attention demo.json"
RESULTS = host.ROOT / "output" / "demo"
BYPASS = 4  # LiteGraph's node mode
WIDGET_OPTIONS = (*SCENES.words, "backend")


def arguments():
    parser = host.parser(__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, help="port of the server; a free one unless given")
    for name in WIDGET_OPTIONS:
        # A shape's form was called so.
        called = (f"--{name.replace('_', '-')}", *(["--shape"] if name == "form" else []))
        parser.add_argument(*called, help="as in the node's widget; the workflow's own value unless given")
    parser.add_argument("--tour", action="store_true", help="three ways to attend, one page with all that was measured")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", type=int)
    return parser.parse_args()


def main() -> int:
    options = arguments()
    folder = host.enter_environment(options.comfyui, "demo.py")
    started = time.monotonic()
    host.say(f"Starting ComfyUI ({folder}) ...")
    with host.serve(folder, host.HOME / "demo", options.port) as address:
        results = (tour if options.tour else sample)(address, options)
    host.say(f"\n{results['headline']}\n")
    for label, path in results["files"].items():
        host.say(f"{label:>20}: {path}")
    host.say(f"\nDone in {time.monotonic() - started:.0f} s.")
    return 0


def tour(address: str, options) -> dict:
    """One prompt sampled three ways, and a page about it."""
    import tour

    return {"headline": "Open the page in a browser.", "files": tour.run(address, options)}


def sample(address: str, options) -> dict:
    """Runs the workflow twice, with our node and without it, and gathers what it made."""
    import client
    import side_by_side
    from tqdm import tqdm

    comfy = client.Client(address)
    workflow = json.loads(WORKFLOW.read_text())
    info = comfy.object_info()
    missing = {node["type"] for node in workflow["nodes"]} - set(info) - {"Note", "MarkdownNote"}
    if missing:
        raise host.SetUpError(
            f"ComfyUI has no node {', '.join(sorted(missing))}; look into {host.HOME / 'demo' / 'server.log'}."
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    runs = {}
    for label in ("Video Attention Backend", "ComfyUI's own attention"):
        prompt = client.to_prompt(with_node(workflow, label == "Video Attention Backend"), info)
        apply_options(prompt, options)
        with tqdm(desc=f"Sampling, {label}", unit="step", file=sys.stdout, dynamic_ncols=True) as bar:
            try:
                outputs = comfy.run(prompt, lambda value, total, bar=bar: show(bar, value, total))
            except client.RunFailed as failure:
                raise host.SetUpError(f"ComfyUI: {failure}") from failure
        runs[label] = client.files(outputs, host.HOME / "demo"), outputs
    return gather(runs, side_by_side)


def with_node(workflow: dict, active: bool) -> dict:
    """The workflow as it is, or with our nodes bypassed, as Ctrl+B does, and the report's preview left out."""
    if active:
        return workflow
    bypassed = ("VideoAttentionBackend", "VideoAttentionReport")
    nodes = [node for node in workflow["nodes"] if node["type"] != "PreviewImage"]
    return {**workflow, "nodes": [{**n, "mode": BYPASS} if n["type"] in bypassed else n for n in nodes]}


def apply_options(prompt: dict, options) -> None:
    """Command-line values into whichever node has a widget of that name."""
    for name in (*WIDGET_OPTIONS, "seed", "steps"):
        value = getattr(options, name)
        for node in prompt.values():
            if value is not None and name in node["inputs"] and not isinstance(node["inputs"][name], list):
                node["inputs"][name] = value


def show(bar, value: int, total: int) -> None:
    bar.total, bar.n = total, value
    bar.refresh()


def gather(runs: dict, side_by_side) -> dict:
    """Copies the results to output/demo and draws the comparison."""
    made, outputs = runs["Video Attention Backend"]
    text = next(o["text"][0] for o in outputs.values() if "attention calls" in o.get("text", ("",))[0])
    kept = {"clip, MP4": ".mp4", "clip, animated WebP": ".webp", "attention report": ".png"}
    found = {label: next(f for f in made if f.suffix == suffix) for label, suffix in kept.items()}
    files = {}
    for label, source in found.items():
        files[label] = RESULTS / (("attention report" if label == "attention report" else "clip") + source.suffix)
        shutil.copyfile(source, files[label])
    files["attention report, text"] = RESULTS / "attention report.txt"
    files["attention report, text"].write_text(text + "\n")
    clips = {label: next(f for f in made if f.suffix == ".webp") for label, (made, _) in runs.items()}
    files["side by side"] = RESULTS / "side by side.png"
    side_by_side.draw(clips, files["side by side"])
    return {"headline": text, "files": files}


if __name__ == "__main__":
    host.main(main)
