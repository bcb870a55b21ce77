"""The workflows that come with the pack: written from the nodes as they are, and run on a real server.

Every loader of a diffusion model, a LoRA, an upscaler or a decoder loads a file of the name that the workflow gives: a
small one with random weights, through the host's own class (tests/lib/tiny/files.py). Two things have no small form and
are replaced: text encoders by conditioning of the right shape, and the decoders of Wan 2.2 5B and HunyuanVideo 1.5 by
the same class with fewer channels (tests/lib/stand_in_pack). Sizes, lengths and steps are small.
"""

from __future__ import annotations

import re
import urllib.parse

import av
import client
import graph
import layout
import newer_nodes
import pytest
import result_pictures
import templates
import workflow_runs
import write_workflows
from PIL import Image
from workflow_runs import WORKFLOWS

# What a run must have said, besides that all of its output nodes ran: a node's type -> a pattern of its text.
ALL_CHOSEN = r"Backend [^:\n]+: (\d+) of \1 attention calls\."
SAID = {
    "Video attention demo": {"VideoAttentionReport": ALL_CHOSEN},
    "Is it worth it": {
        "VideoAttentionCompare": "PSNR",
        "VideoAttentionReport": "LTXVModel",
        "VideoAttentionBoost": "^balanced for",
    },
    "Compare attention, A against B": {"VideoAttentionCompare": "PSNR"},
    "Calibrate and share a plan": {"VideoAttentionCalibrate": "budget", "VideoAttentionSavePlan": r"plan\.json"},
    "Long video": {
        "VideoAttentionLongSampler": "windows of 2 latent frames over 3",
        "VideoAttentionTemporalMetrics": "flicker",
    },
    "Inside a model": {
        "VideoAttentionInfo": "LTXV",
        "VideoAttentionBenchmark": "sdpa",
        "VideoAttentionMaps": "same frame",
    },
    "Learn attention in video": {
        "VideoAttentionMaps": "View of the token at frame 1",
        "VideoAttentionSampler": r"Pattern spatial: \d+ of \d+ self-attention calls",
        "VideoAttentionTemporalMetrics": "identity drift",
    },
    "Two shapes": {
        "VideoAttentionCompare": "PSNR",
        "VideoAttentionTemporalMetrics": "flicker",
        "VideoAttentionReport": "LTXVModel, 3 x 2 x 2 tokens.*spatial",
    },
    "MiniMax-H3 text to video": {"VideoAttentionReport": f"MiniMaxH3Model, 7 x 3 x 5 tokens.*{ALL_CHOSEN}"},
    "MiniMax-H3 image to video": {"VideoAttentionReport": f"MiniMaxH3Model, 7 x 3 x 5 tokens.*{ALL_CHOSEN}"},
    "MiniMax-H3 references to video": {"VideoAttentionReport": f"MiniMaxH3Model, 7 x 3 x 5 tokens.*{ALL_CHOSEN}"},
    "FastH3 text to video": {
        "VideoAttentionSampler": "shift 10, set on this model",
        "VideoAttentionReport": f"MiniMaxH3Model.*{ALL_CHOSEN}",
    },
    **{
        f"{release} {source} to video, two stages": {
            "VideoAttentionTwoStageSampler": "From 2 x 4 to 4 x 8 in the latent, by the upscaling model",
            "VideoAttentionReport": f"LTXAVModel.*{ALL_CHOSEN}.*audio to video",
        }
        for release in ("LTX-2.3", "LTX-2.5")
        for source in ("text", "image")
    },
    "LTX-2.3 text to video, one stage, guided": {
        "VideoAttentionSamplerAdvanced": "Noise levels: 4 steps",
        "VideoAttentionReport": f"LTXAVModel.*{ALL_CHOSEN}.*audio to video",
    },
    "Wan-Animate-2 motion of a clip": {"VideoAttentionReport": f"WanAnimate2Model.*{ALL_CHOSEN}.*pose self"},
    "LTX-2.3 long clip with sound": {
        "VideoAttentionLongSampler": "windows of 2 latent frames over 3",
        "VideoAttentionReport": f"LTXAVModel.*{ALL_CHOSEN}.*audio to video",
    },
    "Wan 2.2 5B long clip": {
        "VideoAttentionLongSampler": "windows of 2 latent frames over 3",
        "VideoAttentionReport": f"WanModel.*{ALL_CHOSEN}",
    },
    "Wan 2.2 14B text to video, two experts": {"VideoAttentionTwoStageSampler": "Switch after step 2 of 4"},
    "Wan 2.2 14B image to video, two experts": {"VideoAttentionTwoStageSampler": "Switch after step 2 of 4"},
    "Wan 2.2 5B text and image to video": {"VideoAttentionReport": f"WanModel.*{ALL_CHOSEN}"},
    "HunyuanVideo 1.5 text to video": {"VideoAttentionReport": f"HunyuanVideo.*{ALL_CHOSEN}"},
}
# Models that make sound along with the picture.
SOUND = ("LTX-2", "MiniMax-H3", "FastH3")
# Files that come with the pack.
OURS = {f"video-attention-{name}.safetensors" for name in ("demo", "scenes", "temporal", "scenes-temporal")}
MADE = {".mp4", ".webp", ".png"}


@pytest.fixture(scope="module")
def comfy(server):
    return client.Client(server[0])


@pytest.fixture(scope="module")
def info(comfy):
    return comfy.object_info()


def test_each_workflow_is_tested():
    assert set(SAID) == set(WORKFLOWS)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_file_is_what_the_script_writes(comfy, info, name):
    built = write_workflows.build(name, info)
    if comfy.stats()["system"]["comfyui_version"] == graph.CORE_VERSION:
        assert WORKFLOWS[name].read_text() == write_workflows.to_json(built), "run: python scripts/write_workflows.py"
    assert essence(workflow_runs.load(name), built) == essence(built, workflow_runs.load(name))


def essence(workflow: dict, other: dict) -> tuple:
    """What another ComfyUI may not change: its own nodes gain and lose widgets at the end, and sizes follow."""
    nodes = []
    for node, same in zip(workflow["nodes"], other["nodes"], strict=True):
        values = node["widgets_values"]
        if not node["type"].startswith("VideoAttention"):
            values = values[: len(same["widgets_values"])]
        nodes.append((node["id"], node["type"], node["mode"], node.get("title"), node["properties"], values))
    return nodes, workflow["links"]


def test_the_page_sorts_by_what_the_script_writes():
    assert write_workflows.ORDER.read_text() == write_workflows.order(), "run: python scripts/write_workflows.py"
    assert set(templates.WORKFLOWS) == set(WORKFLOWS)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_managers_can_find_its_nodes(info, name):
    for node in workflow_runs.load(name)["nodes"]:
        if node["type"] != "MarkdownNote":
            ours = node["type"].startswith("VideoAttention")
            assert node["type"] in newer_nodes.known(info)
            assert node["properties"]["cnr_id"] == ("video-attention" if ours else "comfy-core")
            assert re.fullmatch(r"\d+\.\d+\.\d+", node["properties"]["ver"])


def first_note(workflow: dict) -> str:
    """What a newcomer reads first; steps may have notes of their own."""
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    (first,) = (node["widgets_values"][0] for node in notes if node["title"] == layout.FIRST)
    return first


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_needs_a_newer_comfyui_says_so(name):
    workflow = workflow_runs.load(name)
    note = first_note(workflow)
    needed = newer_nodes.needed_by(workflow)
    assert not needed or f"Needs ComfyUI {needed.removesuffix('.0')} or newer" in note.replace("\n", " ")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_has_a_thumbnail_and_a_note(name):
    """What the page loads for each card, whatever is in a file of that name; cards are square."""
    file = WORKFLOWS[name].with_suffix(".jpg")
    with Image.open(file) as picture:
        assert picture.size == (512, 512) and file.stat().st_size <= result_pictures.MOST
        moves = getattr(picture, "n_frames", 1) > 1
        assert picture.format == ("WEBP" if moves else "JPEG")
        assert moves == (name in result_pictures.PICTURES), "what the demo model makes is seen"
    assert first_note(workflow_runs.load(name)).startswith("## ")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_file_it_asks_for_can_be_had(info, name):
    """A loader that names a file tells the front end where it is; the demo models are in the pack."""
    for node in workflow_runs.load(name)["nodes"]:
        offered = {entry["name"] for entry in node["properties"].get("models", ())}
        asked = {v for v in node["widgets_values"] if isinstance(v, str) and v.endswith(".safetensors")}
        assert asked - OURS == offered, node["type"]
        for entry in node["properties"].get("models", ()):
            url = urllib.parse.urlparse(entry["url"])
            assert (url.scheme, url.netloc) == ("https", "huggingface.co") and "/resolve/main/" in url.path
            assert url.path.rsplit("/", 1)[1] == entry["name"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_runs(comfy, info, server, name):
    if lacks := workflow_runs.lacking(name, info):
        pytest.skip(lacks)
    prompt = workflow_runs.small_prompt(name, info)
    outputs = workflow_runs.outputs(comfy, name, info)
    shows = {key for key, node in prompt.items() if info[node["class_type"]]["output_node"]}
    assert shows and shows <= outputs.keys(), "an output node did not run"
    said = {}
    for key, output in outputs.items():
        said.setdefault(prompt[key]["class_type"], []).extend(output.get("text") or ())
    for kind, pattern in SAID[name].items():
        assert re.search(pattern, "\n".join(said[kind]), re.DOTALL), said[kind]
    made = client.files(outputs, server[1])
    assert made and {file.suffix for file in made} <= MADE and all(file.stat().st_size for file in made)
    for file in made:
        if file.suffix == ".mp4":
            check_clip(file, sound=name.startswith(SOUND))


def check_clip(file, sound: bool) -> None:
    with av.open(str(file)) as container:
        assert bool(container.streams.audio) is sound
        assert sum(1 for _ in container.decode(video=0)) >= 9
