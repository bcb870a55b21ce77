"""Makes the pictures of web/docs that nodes draw: each node runs on a demo model and gives <NodeId>.png.

    python scripts/doc_pictures.py [--comfyui PATH] [NodeId ...]

Each of the nodes that give a picture or have a view has one. A quarter of an hour on two CPU cores; a picture that
takes longer than SECONDS ends it. What is timed in a picture is timed on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import host
from demo_models import ON_A_SHAPE, SCENES, SMALL, DemoModel

FOLDER = host.ROOT / "web" / "docs"
BASE = host.HOME / "pictures"
LONGEST = 1000  # pixels
MOST, ROW = 32, 8
# What one picture may take: some need a minute on two idle cores.
SECONDS = 900
# Nodes that sample so often that the model of scenes would take too long.
SMALL_ONES = {"VideoAttentionCalibrate"}


class Prompt:
    """Nodes of a prompt. Unset widgets take their defaults, links are made by type."""

    def __init__(self, info: dict):
        self.info, self.nodes = info, {}

    def add(self, kind: str, **inputs) -> str:
        """Adds a node; returns its key. A value (key, slot) is a link."""
        import client
        from client import first_value

        def take(name, of, options):
            return inputs[name] if name in inputs else first_value(of, options)

        widgets = {name: value for name, _, _, value in client.walk_widgets(self.info[kind]["input"], take)}
        key = str(len(self.nodes) + 1)
        values = {**widgets, **inputs}
        links = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        self.nodes[key] = {"class_type": kind, "inputs": links}
        return key

    def output(self, key: str, name: str) -> tuple[str, int]:
        return key, self.info[self.nodes[key]["class_type"]]["output_name"].index(name)


class Demo:
    """A demo model and what goes with it, in a prompt. most: frames in a sheet of a clip."""

    most = MOST

    def __init__(self, info: dict, used: DemoModel):
        self.prompt, self.used = Prompt(info), used
        self.model = (self.prompt.add("UNETLoader", unet_name=used.file), 0)
        text = self.prompt.add(used.prompt, **used.words)
        self.texts = {"positive": (text, 0), "negative": (text, 1)}
        self.latent = self.empty(used.length)
        self.vae = (self.prompt.add("VideoAttentionDemoVAE", clips=used.clips), 0)

    def empty(self, length: int) -> tuple[str, int]:
        return self.prompt.add("EmptyLTXVLatentVideo", width=self.used.side, height=self.used.side, length=length), 0

    def sample(self, model, kind="VideoAttentionSampler", **more) -> tuple[str, int]:
        values = {"seed": 7, "cfg": 1.0, "steps": self.used.steps, "scheduler_name": "simple", **more}
        return self.prompt.add(kind, model=model, latent=self.latent, **self.texts, **values), 0

    def frames(self, samples) -> tuple[str, int]:
        return self.prompt.add("VAEDecode", samples=samples, vae=self.vae), 0

    def shaped(self) -> tuple[str, int]:
        """The model with a pattern that changes what it makes."""
        return self.prompt.add("VideoAttentionPattern", model=self.model, pattern="temporal window", min_tokens=0), 0

    def picture(self, found: str | tuple[str, int]) -> tuple[str, int]:
        """The output `found`, or of the node `found` the first picture."""
        if isinstance(found, tuple):
            return found
        return found, self.prompt.info[self.prompt.nodes[found]["class_type"]]["output"].index("IMAGE")


# Node -> what wires it: the key of the node, whose first picture is taken, or the output that is.
PICTURES: dict[str, Callable[[Demo], str | tuple[str, int]]] = {}


def of(name: str):
    """Takes a function into PICTURES."""
    return lambda wire: PICTURES.setdefault(name, wire)


def wanted(info: dict) -> set[str]:
    """The nodes that show something worth a picture: those that give one, and those with a view."""
    ours = {name: spec for name, spec in info.items() if name.startswith("VideoAttention")}
    return {name for name, spec in ours.items() if "IMAGE" in spec["output"] or spec["video_attention"]["view"]}


@of("VideoAttentionReport")
def report(demo: Demo):
    rule = demo.prompt.add("VideoAttentionBackend", model=demo.model, timing=True)
    return demo.prompt.add("VideoAttentionReport", latent=demo.sample((rule, 0)))


@of("VideoAttentionPattern")
def pattern(demo: Demo):
    # Larger than the demo model's own: nothing is sampled, and a window shows.
    latent = (demo.prompt.add("EmptyLTXVLatentVideo", width=768, height=512, length=121), 0)
    more = {"pattern": "sliding tile", "pattern.time": 4.0, "latent": latent}
    return demo.prompt.add("VideoAttentionPattern", model=demo.model, **more)


@of("VideoAttentionInfo")
def info(demo: Demo):
    return demo.prompt.add("VideoAttentionInfo", model=demo.model, latent=demo.latent)


@of("VideoAttentionBenchmark")
def benchmark(demo: Demo):
    more = {"positive": demo.texts["positive"], "latent": demo.latent}
    return demo.prompt.add("VideoAttentionBenchmark", model=demo.model, **more)


@of("VideoAttentionMaps")
def maps(demo: Demo):
    latent = demo.sample(demo.model)
    more = {"positive": demo.texts["positive"], "latent": latent, "images": demo.frames(latent), **ON_A_SHAPE}
    return demo.prompt.add("VideoAttentionMaps", model=demo.model, **more)


@of("VideoAttentionTemporalMetrics")
def metrics(demo: Demo):
    # At full size it would take minutes, and says the same.
    few = {"image": demo.frames(demo.sample(demo.model)), "upscale_method": "area", "scale_by": 0.33}
    return demo.prompt.add("VideoAttentionTemporalMetrics", images=(demo.prompt.add("ImageScaleBy", **few), 0))


@of("VideoAttentionCompare")
def compare(demo: Demo):
    clips = [demo.frames(demo.sample(model)) for model in (demo.model, demo.shaped())]
    return demo.prompt.add("VideoAttentionCompare", reference=clips[0], images=clips[1])


@of("VideoAttentionVerify")
def verify(demo: Demo):
    more = {"latent": demo.latent, "vae": demo.vae, "seed": 7, "cfg": 1.0, "scheduler_name": "simple", **demo.texts}
    key = demo.prompt.add("VideoAttentionVerify", model=demo.shaped(), **more)
    clips = [demo.frames(demo.prompt.output(key, name)) for name in ("exact", "planned")]
    demo.most = ROW
    # A above B, as the node's view has them side by side.
    beside = {"direction": "down", "spacing_width": 8, "spacing_color": "black"}
    return demo.prompt.add("ImageStitch", image1=clips[0], image2=clips[1], **beside), 0


@of("VideoAttentionSchedule")
def schedule(demo: Demo):
    first = demo.prompt.add("VideoAttentionBackend", model=demo.model)
    late = {"pattern": "sliding tile", "blocks": "1-3", "start_percent": 0.3, "min_tokens": 0}
    second = demo.prompt.add("VideoAttentionPattern", model=(first, 0), **late)
    return demo.prompt.add("VideoAttentionSchedule", model=(second, 0), latent=demo.latent)


@of("VideoAttentionCalibrate")
def calibrate(demo: Demo):
    more = {"latent": demo.latent, "candidates": "patterns", **demo.texts}
    return demo.prompt.add("VideoAttentionCalibrate", model=demo.model, **more)


@of("VideoAttentionLongSampler")
def long_sampler(demo: Demo):
    demo.latent = demo.empty(249)
    more = {"unit": "latent frames", "window": 16.0, "overlap": 8.0, "seed": 1}
    return demo.frames(demo.sample(demo.model, "VideoAttentionLongSampler", **more))


def main() -> int:
    parser = host.parser(__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="ids of nodes; all unless given")
    options = parser.parse_args()
    folder = host.enter_environment(options.comfyui, "doc_pictures.py")
    import client

    with host.serve(folder, BASE) as address:
        comfy = client.Client(address)
        known = comfy.object_info()
        lacking = wanted(known) - PICTURES.keys()
        if lacking and not options.names:
            raise host.SetUpError(f"Nothing in PICTURES wires {', '.join(sorted(lacking))}.")
        for name in options.names or PICTURES:
            demo = Demo(known, SMALL if name in SMALL_ONES else SCENES)
            demo.prompt.add("SaveImage", images=demo.picture(PICTURES[name](demo)), filename_prefix=name)
            try:
                outputs = comfy.run(demo.prompt.nodes, seconds=SECONDS)
            except client.RunFailed as error:
                raise host.SetUpError(f"{name}: {error}") from error
            made = [file for file in client.files(outputs, BASE) if file.name.startswith(name)]
            keep(made, FOLDER / f"{name}.png", demo.most)
            host.say(f"{name}.png")
    return 0


def keep(files: list[Path], target: Path, most: int = MOST) -> None:
    """Save one picture as it is; of several, a sheet of up to `most` of them, evenly spread, in rows of ROW."""
    from PIL import Image

    chosen = sorted(files)[:: -(-len(files) // most)]
    shown = [Image.open(file).convert("RGB") for file in chosen]
    if len(shown) > 1:
        row, (width, height) = ROW if len(shown) >= ROW else 4, shown[0].size
        sheet = Image.new("RGB", (row * width, -(-len(shown) // row) * height), "white")
        for number, picture in enumerate(shown):
            sheet.paste(picture, (number % row * width, number // row * height))
        shown = [sheet]
    shown[0].thumbnail((LONGEST, LONGEST), Image.LANCZOS)
    # A chart's mark of a few pixels keeps its colour by coverage alone, a sheet of frames its shades by the median cut.
    method = Image.Quantize.MEDIANCUT if len(files) > 1 else Image.Quantize.MAXCOVERAGE
    shown[0].quantize(256, method).save(target, optimize=True)


if __name__ == "__main__":
    host.main(main)
