"""What the nodes look like from outside: schemas as snapshots, help pages, the workflows that come with the pack."""

from __future__ import annotations

import asyncio
import json

import client
import host
import pytest

SNAPSHOTS = host.ROOT / "tests" / "snapshots"
DOCS = host.ROOT / "web" / "docs"
WORKFLOWS = sorted((host.ROOT / "workflows").glob("*.json"))
NOTES = {"Note", "MarkdownNote"}


@pytest.fixture(scope="module")
def schemas(pack) -> dict:
    async def collect():
        extension = await pack.comfy_entrypoint()
        return await extension.get_node_list()

    found = [node.GET_SCHEMA() for node in asyncio.run(collect())]
    return {schema.node_id: schema for schema in found}


@pytest.fixture(scope="module")
def info(server) -> dict:
    return client.Client(server[0]).object_info()


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


def test_every_node_has_a_help_page(schemas):
    assert {page.stem for page in DOCS.glob("*.md")} == set(schemas)
    for name, schema in schemas.items():
        page = (DOCS / f"{name}.md").read_text(encoding="ascii")
        assert page.startswith(f"# {schema.display_name}\n"), name
        missing = [part.id for part in schema.inputs if f"`{part.id}`" not in page]
        assert not missing, f"{name}: the help page says nothing about {', '.join(missing)}"


# --- workflows -------------------------------------------------------------------------------------------------------


def every_node() -> list:
    return [
        pytest.param(node, id=f"{file.stem}-{node['id']}-{node['type']}")
        for file in WORKFLOWS
        for node in json.loads(file.read_text())["nodes"]
    ]


def test_there_is_a_workflow():
    assert WORKFLOWS


@pytest.mark.parametrize("node", every_node())
def test_a_workflow_uses_what_there_is(info, node):
    if node["type"] in NOTES:
        return
    assert node["type"] in info
    properties = node["properties"]
    if node["type"].startswith("VideoAttention"):
        assert properties["cnr_id"] == "video-attention"
        assert properties["ver"]
    else:
        assert properties["cnr_id"] == "comfy-core"


@pytest.mark.parametrize("node", every_node())
def test_a_workflow_fits_its_widgets(info, node):
    if node["type"] in NOTES:
        return
    spec = info[node["type"]]
    kinds = spec["input"].get("required", {}) | spec["input"].get("optional", {})
    values, count = node.get("widgets_values") or [], 0
    for name in [*spec["input_order"].get("required", ()), *spec["input_order"].get("optional", ())]:
        kind, *options = kinds[name]
        if not (isinstance(kind, list) or kind in client.WIDGETS or kind.startswith("COMFY_DYNAMICCOMBO")):
            continue
        choices = kind if isinstance(kind, list) else options[0].get("options") if options and kind == "COMBO" else None
        if choices and not name.endswith("_name"):
            assert values[count] in choices, name
        count += 1 + bool(options and options[0].get("control_after_generate"))
    assert len(values) == count
