"""What the nodes look like from outside: schemas as snapshots, help pages."""

from __future__ import annotations

import asyncio
import inspect
import json
import re

import attention_page
import doc_pictures
import host
import pytest

SNAPSHOTS = host.ROOT / "tests" / "nodes" / "snapshots"
DOCS = host.ROOT / "web" / "docs"
README = host.ROOT / "README.md"
# Pages that are no node's.
LESSONS = {attention_page.PAGE.stem}
BOX = ("What", "When", "Wire it so", "Start with", "Change this when")


@pytest.fixture(scope="module")
def schemas(pack) -> dict:
    async def collect():
        extension = await pack.comfy_entrypoint()
        return await extension.get_node_list()

    found = [node.GET_SCHEMA() for node in asyncio.run(collect())]
    return {schema.node_id: schema for schema in found}


def picture(schema) -> dict:
    """What a saved workflow depends on: a change here breaks the workflows that people have."""
    return {
        "id": schema.node_id,
        "display_name": schema.display_name,
        "category": schema.category,
        "output_node": schema.is_output_node,
        "inputs": [input_picture(i) for i in schema.inputs],
        "outputs": [
            {"id": o.id, "type": o.io_type, "name": o.display_name} | ({"tooltip": o.tooltip} if o.tooltip else {})
            for o in schema.outputs
        ],
    }


def input_picture(i) -> dict:
    fields = {name: getattr(i, name, None) for name in ("default", "min", "max", "step", "advanced", "optional")}
    # Names of model files are each user's own.
    fields["options"] = None if i.id.endswith("_name") else options_picture(getattr(i, "options", None))
    # A bound or a default of 0 is one, though 0 == False.
    found = {"id": i.id, "type": i.io_type} | {k: v for k, v in fields.items() if v is not None and v is not False}
    # A widget of the front end's behind the seed: its value is saved too. Without a word it makes one that randomizes.
    control = getattr(i, "control_after_generate", None)
    return found if control is None else {**found, "control_after_generate": control}


def options_picture(options):
    """The options of a combo, those of a dynamic one with their widgets."""
    return options and [o if isinstance(o, str) else {o.key: [input_picture(i) for i in o.inputs]} for o in options]


def test_schemas_are_those_that_workflows_know(schemas, request):
    now = {name: json.loads(json.dumps(picture(schema))) for name, schema in schemas.items()}
    if request.config.getoption("--update-snapshots"):
        SNAPSHOTS.mkdir(exist_ok=True)
        for file in SNAPSHOTS.glob("*.json"):
            file.unlink()
        for name, known in now.items():
            (SNAPSHOTS / f"{name}.json").write_text(json.dumps(known, indent=2) + "\n")
    before = {file.stem: json.loads(file.read_text()) for file in SNAPSHOTS.glob("*.json")}
    assert set(now) == set(before), "if this is wanted: pytest --update-snapshots"
    for name, known in now.items():
        assert known == before[name], "if this change is wanted: pytest --update-snapshots"


def test_ids_do_not_meet_those_of_other_packs(schemas):
    assert all(name.startswith("VideoAttention") for name in schemas)


def test_every_part_explains_itself(schemas):
    for schema in schemas.values():
        assert schema.description and schema.description.endswith("."), schema.node_id
        assert schema.search_aliases, schema.node_id
        assert schema.category.startswith("video attention/"), schema.node_id
        for part in (*schema.inputs, *schema.outputs):
            assert part.tooltip and part.tooltip.rstrip()[-1] in ".", f"{schema.node_id}: {part.id}"


def test_every_text_is_shown(pack):
    """ComfyUI draws a node's text on nodes of its own alone: a node that gives one says how the page shows it."""
    node_base = pack.nodes.widgets.node
    for node in pack.nodes.NODES:
        shows = "ui=" in inspect.getsource(node) or any(f"return {name}(" in inspect.getsource(node) for name in GIVERS)
        assert (node.TEXT in (node_base.REPORT, node_base.NOTE, node_base.LINE)) is shows, node
        assert node.TEXT or node.TEXT is None


# Functions of the topics that give a node's output, with its text, for several nodes.
GIVERS = ("_answer", "_weaken", "_sampled", "_experts", "_larger")


def test_nodes_that_count_are_those_that_give_a_model_with_rules(pack):
    adds = re.compile(r"\b(add_rules?|install(_pass|_negative|_preset|_plan)?|on_several|_weaken)\(")
    for node in pack.nodes.NODES:
        gives = any(output.io_type == "MODEL" for output in node.GET_SCHEMA().outputs)
        assert node.COUNTS_ATTENTION is bool(gives and adds.search(inspect.getsource(node))), node


def test_the_page_is_told_of_each_node(pack):
    known = re.search(r"const VIEWS = \{ (.*) \};", (host.ROOT / "web" / "box.js").read_text())[1].split(", ")
    assert {node.VIEW for node in pack.nodes.NODES} == {None, *known}
    for node in pack.nodes.NODES:
        told = node.GET_NODE_INFO_V1()["video_attention"]
        shown = {"text": node.TEXT, "samples": node.SAMPLES, "view": node.VIEW, "example": node.EXAMPLE}
        name = node.GET_SCHEMA().display_name.split(" (")[0]
        assert told == {**shown, "idle": list(node.IDLE), "name": name}
        assert node.SAMPLES is node.GET_SCHEMA().category.endswith("/sample"), node


def test_examples_have_the_node_and_run_on_the_demo_model(pack):
    """Every node with room for it offers one, where there is a workflow that runs as it is."""
    runs, names = {}, {file.stem: json.loads(file.read_text()) for file in (host.ROOT / "workflows").glob("*.json")}
    for name, workflow in names.items():
        kinds = {node["type"] for node in workflow["nodes"]}
        if "VideoAttentionDemoVAE" in kinds:
            runs[name] = kinds
    for node in pack.nodes.NODES:
        kind, room = node.GET_SCHEMA().node_id, node.TEXT in ("report", "note")
        has = [name for name, kinds in runs.items() if kind in kinds]
        assert node.EXAMPLE in has if room and has else node.EXAMPLE is None, kind


def test_every_node_has_a_help_page(schemas):
    assert {page.stem for page in DOCS.glob("*.md")} == set(schemas) | LESSONS
    for name, schema in schemas.items():
        page = (DOCS / f"{name}.md").read_text(encoding="ascii")
        assert page.startswith(f"# {schema.display_name}\n"), name
        missing = [part.id for part in schema.inputs if f"`{part.id}`" not in page]
        assert not missing, f"{name}: the help page says nothing about {', '.join(missing)}"


def test_every_help_page_begins_with_a_box_and_folds_the_rest(schemas):
    """What, when, how to wire it, values to begin with, when to change them; a picture; the rest behind a click."""
    for name in schemas:
        page = (DOCS / f"{name}.md").read_text(encoding="ascii")
        top, *folded = page.split("<details>\n<summary><b>")
        lines = [line for line in top.splitlines() if line.startswith("- **")]
        assert [line[4:].split(":**")[0] for line in lines] == list(BOX), name
        assert all(model in lines[3] for model in ("LTX", "Wan", "H3")), f"{name}: no value to start with for one"
        assert f"]({name}-wiring.png)" in top, name
        assert not re.search("^## ", page, re.MULTILINE) and page.count("</details>") == len(folded), name


def test_no_link_of_the_readme_and_its_pages_is_broken():
    assert len(README.read_text().splitlines()) <= 150
    for page in (README, *(host.ROOT / "docs").glob("*.md")):
        links = re.findall(r"[^!]\[[^\]]*\]\(([^)#]+)\)", page.read_text(encoding="ascii"))
        assert links or page != README
        for link in links:
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


def pictures_of(page) -> list:
    """The files that a Markdown page shows."""
    found = re.findall(r"!\[[^\]]*\]\(<?([^)>]+)>?\)", page.read_text(encoding="ascii"))
    return [page.parent / name for name in found if "://" not in name]


def test_pages_of_what_draws_show_it_and_every_picture_is_there(pack):
    nodes = [node for topic in pack.nodes.TOPICS for node in topic.NODES]
    assert set(doc_pictures.PICTURES) == doc_pictures.wanted(
        {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in nodes}
    )
    for page in (*DOCS.glob("*.md"), *(host.ROOT / "docs").glob("*.md"), *host.ROOT.glob("*/README.md"), README):
        shown = pictures_of(page)
        assert all(picture.exists() for picture in shown), page.name
        wanted = page.stem in doc_pictures.PICTURES
        assert shown or not wanted, f"{page.name} shows no picture: python scripts/doc_pictures.py"


def test_the_page_of_nodes_names_every_one(schemas):
    lines = (host.ROOT / "docs" / "NODES.md").read_text(encoding="ascii").splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| Video Attention")]
    named = {
        name if name.startswith("Video") else f"Video Attention {name}"
        for row in rows
        for name in re.split(r", (?![^(]*\))", row)
    }
    assert named == {schema.display_name for schema in schemas.values()}
