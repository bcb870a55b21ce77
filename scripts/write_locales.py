"""Writes locales/: what the front end shows of our nodes by language, and the words of all languages that find them.

    python scripts/write_locales.py [--comfyui PATH]

English is what the nodes say of themselves. Other languages come from scripts/<language>.json, English text -> its
translation, and from scripts/unchanged.json, what is the same in all. What a language lacks is listed and stays
English there; what no node says any more is taken out. Terms are those of the host's own translations: LATENT stays
Latent in Chinese, noise is what its samplers call it. A search word may have several translations, "; " between them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import host

FOLDER = host.ROOT / "locales"
SCRIPTS = Path(__file__).parent
WORDS = FOLDER / "search_words.json"
LANGUAGES = ("zh", "zh-TW", "ja", "ko", "fr", "ru", "es")


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


def search_words(info: dict) -> dict[str, list[str]]:
    """The English words of each node: what the server gives, without what WORDS added to it."""
    added = json.loads(WORDS.read_text(encoding="utf-8")) if WORDS.exists() else {}
    ours = {name: spec["search_aliases"] for name, spec in info.items() if name.startswith("VideoAttention")}
    return {name: [w for w in words if w not in added.get(name, ())] for name, words in sorted(ours.items())}


def translated_words(words: dict[str, list[str]], catalogues: dict[str, dict]) -> dict[str, list[str]]:
    """The words of each node in all languages but English, each once."""
    found = {}
    for name, english in words.items():
        meant = [catalogue.get(word, "") for catalogue in catalogues.values() for word in english]
        split = [word for text in meant for word in text.split("; ")]
        found[name] = [word for word in dict.fromkeys(split) if word and word not in english]
    return found


def translated(texts, catalogue: dict):
    """The same structure with every text translated; what the catalogue lacks stays."""
    if isinstance(texts, dict):
        return {key: translated(value, catalogue) for key, value in texts.items()}
    return catalogue.get(texts, texts)


def catalogue_of(language: str) -> dict[str, str]:
    return json.loads((SCRIPTS / f"{language}.json").read_text(encoding="utf-8"))


def unchanged() -> set[str]:
    """What is the same in every language: names of methods, formats and packs."""
    return set(json.loads((SCRIPTS / "unchanged.json").read_text(encoding="utf-8")))


def every_text(texts):
    """All texts of such a structure."""
    if isinstance(texts, dict):
        for value in texts.values():
            yield from every_text(value)
    else:
        yield texts


def said(info: dict) -> set[str]:
    """Every English text that a language has to translate, or leave unchanged."""
    words = {word for found in search_words(info).values() for word in found}
    return {*every_text(node_definitions(info)), *categories(info), *words}


def missing(info: dict, language: str) -> list[str]:
    """The texts that a language lacks."""
    return sorted(said(info) - catalogue_of(language).keys() - unchanged())


def tidy(catalogue: dict, info: dict) -> str:
    """The catalogue's file with what the nodes say now, names first."""
    wanted = said(info) - unchanged()
    kept = {text: translation for text, translation in catalogue.items() if text in wanted}
    ordered = dict(sorted(kept.items(), key=lambda item: (" " in item[0], item[0])))
    return json.dumps(ordered, indent=1, ensure_ascii=False) + "\n"


def files(info: dict) -> dict[Path, str]:
    """Every file's text."""
    english = {"nodeDefs": node_definitions(info), "main": {"nodeCategories": categories(info)}}
    catalogues = {language: catalogue_of(language) for language in LANGUAGES}
    made = {
        FOLDER / language / f"{name}.json": translated(texts, catalogue)
        for language, catalogue in {"en": {}, **catalogues}.items()
        for name, texts in english.items()
    }
    made[WORDS] = translated_words(search_words(info), catalogues)
    return {file: json.dumps(said, indent=2, ensure_ascii=False) + "\n" for file, said in made.items()}


def main() -> int:
    folder = host.enter_environment(host.parser(__doc__.splitlines()[0]).parse_args().comfyui, "write_locales.py")
    import client

    # A folder of its own: two checkouts that share .host must not read each other's nodes.
    with tempfile.TemporaryDirectory() as base, host.serve(folder, Path(base)) as address:
        info = client.Client(address).object_info()
    lacking = {language: missing(info, language) for language in LANGUAGES}
    made = files(info)
    for language in LANGUAGES:
        made[SCRIPTS / f"{language}.json"] = tidy(catalogue_of(language), info)
    for file, text in made.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for language, texts in lacking.items():
        for text in texts:
            host.say(f"Not in scripts/{language}.json: {text}")
    return int(any(lacking.values()))


if __name__ == "__main__":
    host.main(main)
