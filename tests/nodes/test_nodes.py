"""What the nodes look like from outside: schemas as snapshots, help pages."""

from __future__ import annotations

import asyncio
import inspect
import json
import re

import host
import pytest

SNAPSHOTS = host.ROOT / "tests" / "nodes" / "snapshots"
DOCS = host.ROOT / "web" / "docs"


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
        "outputs": [{"id": o.id, "type": o.io_type, "name": o.display_name} for o in schema.outputs],
    }


def input_picture(i) -> dict:
    fields = {name: getattr(i, name, None) for name in ("default", "min", "max", "step", "advanced", "optional")}
    # Names of model files are each user's own.
    fields["options"] = None if i.id.endswith("_name") else options_picture(getattr(i, "options", None))
    return {"id": i.id, "type": i.io_type} | {k: v for k, v in fields.items() if v not in (None, False)}


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
    """ComfyUI draws a node's text on nodes of its own alone: web/report.js has to name ours."""
    script = (host.ROOT / "web" / "report.js").read_text()
    for topic in pack.nodes.TOPICS:
        for node in topic.NODES:
            if "PreviewText" in inspect.getsource(topic) and "ui=" in inspect.getsource(node):
                assert f'"{node.GET_SCHEMA().node_id}"' in script, node


def test_every_node_has_a_help_page(schemas):
    assert {page.stem for page in DOCS.glob("*.md")} == set(schemas)
    for name, schema in schemas.items():
        page = (DOCS / f"{name}.md").read_text(encoding="ascii")
        assert page.startswith(f"# {schema.display_name}\n"), name
        missing = [part.id for part in schema.inputs if f"`{part.id}`" not in page]
        assert not missing, f"{name}: the help page says nothing about {', '.join(missing)}"


PICTURED = {
    f"VideoAttention{name}"
    for name in (
        "Benchmark",
        "Calibrate",
        "Compare",
        "Info",
        "Maps",
        "Pattern",
        "Report",
        "Schedule",
        "TemporalMetrics",
    )
}


def pictures_of(page) -> list:
    """The files that a Markdown page shows."""
    found = re.findall(r"!\[[^\]]*\]\(<?([^)>]+)>?\)", page.read_text(encoding="ascii"))
    return [page.parent / name for name in found if "://" not in name]


def test_pages_of_what_draws_show_it_and_every_picture_is_there():
    for page in (*DOCS.glob("*.md"), host.ROOT / "README.md", host.ROOT / "models" / "README.md"):
        shown = pictures_of(page)
        assert all(picture.exists() for picture in shown), page.name
        assert shown or page.stem not in PICTURED, f"{page.name} shows no picture: python scripts/doc_pictures.py"


def test_the_readme_names_every_node(schemas):
    lines = (host.ROOT / "README.md").read_text(encoding="ascii").splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| Video Attention ")]
    named = {
        name if name.startswith("Video") else f"Video Attention {name}" for row in rows for name in row.split(", ")
    }
    assert named == {schema.display_name for schema in schemas.values()}
