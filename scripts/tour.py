"""The tour of scripts/demo.py: one prompt sampled three ways, everything measured, one page with all of it.

Each way is what a user would build in the graph; the page shows what the nodes show.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path

import client
import host
import numpy as np
import side_by_side
import torch
import tour_page
from demo_models import SCENES
from tqdm import tqdm

sys.path.insert(0, str(host.ROOT))

import read_scene

from attention.demo import prompt

FOLDER = host.ROOT / "output" / "demo" / "tour"
PAGE = host.ROOT / "output" / "demo" / "tour.html"
SHOWN = SCENES
SEED, FPS = 7, 25
# Few choices and two seeds: some minutes instead of many. A user's own calibration has more seeds.
QUICK = {
    "candidates": "everything", "budget": "quality", "block_groups": 1, "step_ranges": 2, "seeds": 2,
}  # fmt: skip
DENSE, SPATIAL, PLAN = "dense", "inside each frame", "plan at quality"
PICTURES_EACH = 8  # of a latent frame


class Prompt:
    """A prompt for ComfyUI, node by node; widgets that are not given keep their defaults."""

    def __init__(self, info: dict):
        self.info, self.nodes = info, {}

    def add(self, kind: str, **inputs) -> Node:
        """A node; a Node or one of its outputs links, anything else is the value of a widget."""
        known = self.info[kind]["input"]

        def take(name, kind, options):
            return inputs.get(name, first(kind, options))

        values = {name: value for name, _, _, value in client.walk_widgets(known, take)}
        names = known.get("required", {}).keys() | known.get("optional", {}).keys() | values.keys()
        if unknown := inputs.keys() - names:
            raise KeyError(f"{kind} has no input {', '.join(sorted(unknown))}")
        links = {name: as_link(value) for name, value in inputs.items() if isinstance(value, (Node, tuple))}
        key = str(len(self.nodes) + 1)
        self.nodes[key] = {"class_type": kind, "inputs": values | links}
        return Node(key, self.info[kind]["output_name"])


class Node:
    def __init__(self, key: str, outputs: list[str]):
        self.key, self.outputs = key, outputs

    def __getitem__(self, name: str) -> tuple:
        return self.key, self.outputs.index(name)


def as_link(value) -> list:
    return [value.key, 0] if isinstance(value, Node) else list(value)


def first(kind, options: dict):
    """What a widget holds on a new node."""
    choices = kind if isinstance(kind, list) else options.get("options") or [""]
    start = choices[0]["key"] if isinstance(choices[0], dict) else choices[0]
    return options.get("default", start)


class Tour:
    """Builds one prompt that grows, so that ComfyUI keeps what it has made. shown: name of a way -> what it is."""

    def __init__(self, comfy: client.Client, options, base: Path):
        self.comfy, self.options, self.base = comfy, options, base
        self.prompt, self.shown, self.outputs = Prompt(comfy.object_info()), {}, {}
        asked = {name: getattr(options, name) or value for name, value in SHOWN.words.items()}
        self.colour = asked["colour"]
        self.words = tell(asked)
        add = self.prompt.add
        self.model = add("UNETLoader", unet_name=SHOWN.file)
        self.words_in = add(SHOWN.prompt, **asked)
        self.latent = add(
            "EmptyLTXVLatentVideo", width=SHOWN.side, height=SHOWN.side, length=SHOWN.length, batch_size=1
        )
        self.vae = add("VideoAttentionDemoVAE", clips=SHOWN.clips)
        self.prompts = {"positive": self.words_in["positive"], "negative": self.words_in["negative"]}

    def way(self, name: str, model) -> dict[str, Node]:
        """Samples with `model`, decodes, reports and measures; compares with the dense clip when there is one."""
        add, seed = self.prompt.add, SEED if self.options.seed is None else self.options.seed
        sampler = add(
            "KSampler", model=model, **self.prompts, latent_image=self.latent, seed=seed,
            steps=self.options.steps or SHOWN.steps, cfg=1.0, sampler_name="euler", scheduler="simple",
        )  # fmt: skip
        report = add("VideoAttentionReport", latent=sampler)
        clip = add("VAEDecode", samples=report["latent"], vae=self.vae)
        nodes = {
            "sampler": sampler, "report": report, "clip": clip,
            "clip file": add("SaveAnimatedWEBP", images=clip, filename_prefix="tour/clip", fps=FPS, method="fastest"),
            "report picture": add("SaveImage", images=report["picture"], filename_prefix="tour/report"),
            "metrics": add("VideoAttentionTemporalMetrics", images=clip),
        }  # fmt: skip
        nodes["metrics picture"] = add("SaveImage", images=nodes["metrics"]["chart"], filename_prefix="tour/metrics")
        if self.shown:
            nodes["compare"] = add("VideoAttentionCompare", reference=self.shown[DENSE]["clip"], images=clip)
            worst = nodes["compare"]["worst_frame"]
            nodes["worst frame"] = add("SaveImage", images=worst, filename_prefix="tour/worst")
        self.shown[name] = nodes
        return nodes

    def look(self, x: float, y: float, frame: int) -> None:
        """Where the dense model looks from a point of the clip."""
        add, dense = self.prompt.add, self.shown[DENSE]
        looked = add(
            "VideoAttentionMaps", model=self.model, positive=self.prompts["positive"], latent=dense["sampler"],
            images=dense["clip"], percent=0.6, x=x, y=y, frame=frame,
        )  # fmt: skip
        dense["maps"] = looked
        for name in ("heat", "shares", "token_heat"):
            dense[name] = add("SaveImage", images=looked[name], filename_prefix=f"tour/{name}")

    def run(self, words: str) -> None:
        """Runs what is new in the prompt, with a progress bar."""
        with tqdm(desc=f"{words:<28}", unit="step", file=sys.stdout, dynamic_ncols=True) as bar:

            def show(value: int, total: int) -> None:
                bar.total, bar.n = total, value
                bar.refresh()

            try:
                self.outputs |= self.comfy.run(self.prompt.nodes, show)
            except client.RunFailed as failure:
                raise host.SetUpError(f"ComfyUI: {failure}") from failure

    def files(self, name: str, what: str) -> list[Path]:
        return client.files({"": self.outputs[self.shown[name][what].key]}, self.base)

    def text(self, name: str, what: str) -> str:
        return self.outputs[self.shown[name][what].key]["text"][0]

    def data(self, name: str, what: str, key: str) -> dict:
        return self.outputs[self.shown[name][what].key][key][0]


def run(address: str, options, base: Path = host.HOME / "demo") -> dict[str, Path]:
    """Runs the tour on the server at `address`, whose files are in `base`; label -> file of what it made."""
    tour = Tour(client.Client(address), options, base)
    add = tour.prompt.add
    dense = add("VideoAttentionBackend", model=tour.model, backend="sdpa", timing=True)
    tour.way(DENSE, dense)
    tour.run("Dense attention")
    tour.look(*query(side_by_side.read(tour.files(DENSE, "clip file")[0]), tour.colour))
    tour.run("Where it looks")
    shaped = add(
        "VideoAttentionPattern", model=dense, latent=tour.latent, pattern="spatial", start_percent=0.0, min_tokens=0
    )
    tour.way(SPATIAL, shaped)
    tour.run("Attention inside each frame")
    found = add("VideoAttentionCalibrate", model=tour.model, **tour.prompts, latent=tour.latent, **quick(tour))
    # Covers no call of this model: it only starts the clock.
    timed = add("VideoAttentionBackend", model=found["MODEL"], backend="sdpa", role="audio self", timing=True)
    planned = tour.way(PLAN, timed)
    planned["plan"] = found
    planned["plan picture"] = add("SaveImage", images=found["picture"], filename_prefix="tour/plan")
    tour.run("A plan that keeps 3 %")
    return gather(tour)


def tell(asked: dict[str, str]) -> str:
    """The prompt of two shapes in words."""
    shapes = [f"{asked[n + 'colour']} {asked[n + 'form']} moving {asked[n + 'direction']}" for n in ("", "second_")]
    return ", ".join([*shapes, asked["order"]])


def quick(tour: Tour) -> dict:
    """What a short calibration has in its widgets, as far as the node has them."""
    known = tour.prompt.info["VideoAttentionCalibrate"]["input"]["required"]
    fast = {**QUICK, "end_error": "one choice for each part", "steps": tour.options.steps or SHOWN.steps}
    return {name: value for name, value in fast.items() if name in known}


def query(clip: np.ndarray, colour: str) -> tuple[float, float, int]:
    """A point on the shape of a colour: (x, y) in percent and the latent frame, before the shapes meet.

    clip: (F, H, W, 3), 0 to 255.
    """
    frame = ((SHOWN.length - 1) // PICTURES_EACH + 1) // 3
    # A still clip has one frame once it is saved.
    picture = torch.from_numpy(clip[min(frame * PICTURES_EACH + PICTURES_EACH // 2, len(clip) - 1)]) / 255.0
    seen = (read_scene.sort_pixels(picture[None])[0] == prompt.COLOURS.index(colour)).numpy()
    points = np.argwhere(seen if seen.any() else ~seen)
    # A shape may have a hole.
    y, x = points[np.square(points - points.mean(0)).sum(1).argmin()]
    return 100.0 * (x + 0.5) / seen.shape[1], 100.0 * (y + 0.5) / seen.shape[0], frame


def gather(tour: Tour) -> dict[str, Path]:
    """Copies the files beside the page and writes it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    ways = [gather_way(tour, name) for name in tour.shown]
    (FOLDER / "tour.json").write_text(json.dumps(ways, indent=1))
    PAGE.write_text(tour_page.page(tour.words, ways, machine(tour)), encoding="ascii", errors="xmlcharrefreplace")
    return {"the page": PAGE, "its figures": FOLDER / "tour.json"}


def gather_way(tour: Tour, name: str) -> dict:
    """All that the page says of one way: figures, texts and file names beside the page."""
    way = {"name": name, "report": tour.data(name, "report", "report"), "report text": tour.text(name, "report")}
    way["figures"] = dict(tour.data(name, "metrics", "figures"))
    texts = {"metrics": "metrics", "compare": "compare", "maps": "maps", "plan": "plan"}
    way |= {f"{label} text": tour.text(name, what) for label, what in texts.items() if what in tour.shown[name]}
    if "compare" in tour.shown[name]:
        way["figures"] |= tour.data(name, "compare", "figures")
    if "maps" in tour.shown[name]:
        way["shares data"] = tour.data(name, "maps", "shares")
    for what, node in tour.shown[name].items():
        made = client.files({"": tour.outputs.get(node.key, {})}, tour.base)
        # Only what was saved: nodes also keep pictures of their own for the front end.
        saved = [file for file in made if "tour" in file.parts]
        targets = [FOLDER / f"{name} {what}{f' {i}' if len(saved) > 1 else ''}{f.suffix}" for i, f in enumerate(saved)]
        for source, target in zip(saved, targets):
            shutil.copyfile(source, target)
        if saved:
            way[what] = [f"{FOLDER.name}/{target.name}" for target in targets]
    return way


def machine(tour: Tour) -> str:
    """Where the figures were measured."""
    told = tour.comfy.stats()["system"]
    return (
        f"{processor()}, {told.get('os', platform.system())}; ComfyUI {told['comfyui_version']}, "
        f"torch {told['pytorch_version']}, Python {told['python_version'].split()[0]}"
    )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.machine()
