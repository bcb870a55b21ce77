"""Writes locales/<language>/nodeDefs.json and main.json: what the front end shows of our nodes, by language.

    python scripts/write_locales.py [--comfyui PATH]

English is what the nodes say of themselves. Other languages come from scripts/<language>.json, English text -> its
translation: what is missing there is listed, what no node says any more is taken out.
"""

from __future__ import annotations

import json
from pathlib import Path

import host

FOLDER = host.ROOT / "locales"
LANGUAGES = ("zh",)


def node_definitions(info: dict) -> dict:
    """Names and tooltips of our nodes, from /object_info, as the front end looks them up."""
    ours = {name: spec for name, spec in info.items() if name.startswith("VideoAttention")}
    return {name: node(ours[name]) for name in sorted(ours)}


def node(spec: dict) -> dict:
    given = spec["input"]
    inputs = dict(inputs_of(given.get("required", {}) | given.get("optional", {})))
    outputs = {
        str(i): told(name, tooltip)
        for i, (name, tooltip) in enumerate(zip(spec["output_name"], spec["output_tooltips"], strict=True))
    }
    return {
        "display_name": spec["display_name"],
        "description": spec["description"],
        **({"inputs": inputs} if inputs else {}),
        "outputs": outputs,
    }


def inputs_of(inputs: dict, prefix: str = ""):
    """(key, texts) of each input. Inputs of one name under several options of a dynamic combo share a key: the first
    one's tooltip stands."""
    seen = set()
    for name, (_, *more) in inputs.items():
        options = more[0] if more else {}
        yield prefix + name, told(options.get("display_name", name), options.get("tooltip"))
        for option in options.get("options", ()):
            if isinstance(option, dict):
                below = option["inputs"].get("required", {}) | option["inputs"].get("optional", {})
                for key, texts in inputs_of(below, f"{prefix}{name}_"):
                    if key not in seen:
                        seen.add(key)
                        yield key, texts


def told(name: str, tooltip: str | None) -> dict:
    return {"name": name} | ({"tooltip": tooltip} if tooltip else {})


def categories(info: dict) -> dict:
    parts = {
        part for name, spec in info.items() if name.startswith("VideoAttention") for part in spec["category"].split("/")
    }
    return {part: part for part in sorted(parts)}


def translated(texts, catalogue: dict, missing: set):
    """The same structure with every text translated; what the catalogue lacks stays and goes to `missing`."""
    if isinstance(texts, dict):
        return {key: translated(value, catalogue, missing) for key, value in texts.items()}
    if texts not in catalogue:
        missing.add(texts)
    return catalogue.get(texts, texts)


def catalogue_of(language: str) -> dict:
    return json.loads((Path(__file__).parent / f"{language}.json").read_text(encoding="utf-8"))


def every_text(texts):
    """All texts of such a structure."""
    if isinstance(texts, dict):
        for value in texts.values():
            yield from every_text(value)
    else:
        yield texts


def tidy(catalogue: dict, info: dict) -> str:
    """The catalogue's file with what the nodes say now, names first."""
    said = {*every_text(node_definitions(info)), *categories(info)}
    kept = {text: translation for text, translation in catalogue.items() if text in said}
    ordered = dict(sorted(kept.items(), key=lambda item: (" " in item[0], item[0])))
    return json.dumps(ordered, indent=1, ensure_ascii=False) + "\n"


def files(info: dict) -> tuple[dict[Path, str], set]:
    """Every file's text, and the English texts that some language lacks."""
    english = {"nodeDefs": node_definitions(info), "main": {"nodeCategories": categories(info)}}
    made, missing = {}, set()
    for language in ("en", *LANGUAGES):
        for name, texts in english.items():
            said = texts if language == "en" else translated(texts, catalogue_of(language), missing)
            made[FOLDER / language / f"{name}.json"] = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
    return made, missing


def main() -> int:
    folder = host.enter_environment(host.parser(__doc__.splitlines()[0]).parse_args().comfyui, "write_locales.py")
    import client

    with host.serve(folder, host.HOME / "locales") as address:
        info = client.Client(address).object_info()
    made, missing = files(info)
    for language in LANGUAGES:
        made[Path(__file__).parent / f"{language}.json"] = tidy(catalogue_of(language), info)
    for file, text in made.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for text in sorted(missing):
        host.say(f"Not translated: {text}")
    return int(bool(missing))


if __name__ == "__main__":
    host.main(main)
