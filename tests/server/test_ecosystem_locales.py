"""What the front end shows of the nodes in other languages: complete, and what the nodes say now."""

from __future__ import annotations

import json
import re
import urllib.request

import client
import pytest
import write_locales
from write_locales import every_text

HAN = re.compile(r"[\u4e00-\u9fff]")
# What a sentence of a language is written in, and no other.
LETTERS = {
    "zh": HAN,
    "zh-TW": HAN,
    "ja": re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]"),
    "ko": re.compile(r"[\uac00-\ud7af]"),
    "ru": re.compile(r"[\u0400-\u04ff]"),
    "fr": re.compile(r"[a-z]"),
    "es": re.compile(r"[a-z]"),
}


@pytest.fixture(scope="module")
def info(server):
    return client.Client(server[0]).object_info()


@pytest.fixture(scope="module")
def english(info):
    return write_locales.node_definitions(info)


def test_the_files_are_what_the_nodes_say(info):
    for file, text in write_locales.files(info).items():
        assert file.exists() and file.read_text(encoding="utf-8") == text, "run: python scripts/write_locales.py"


@pytest.mark.parametrize("language", write_locales.LANGUAGES)
def test_every_text_is_translated(info, language):
    missing = write_locales.missing(info, language)
    assert not missing, f"add to scripts/{language}.json: {missing}"


@pytest.mark.parametrize("language", write_locales.LANGUAGES)
def test_no_translation_is_left_over_or_english(info, language):
    catalogue = write_locales.catalogue_of(language)
    assert json.loads(write_locales.tidy(catalogue, info)) == catalogue, "run: python scripts/write_locales.py"
    sentences = {text: said for text, said in catalogue.items() if " " in text}
    wrong = [text for text, said in sentences.items() if text == said or not LETTERS[language].search(said)]
    assert not wrong, f"belongs into scripts/unchanged.json, or is not translated: {wrong}"
    # The front end's message format gives these characters a meaning of their own.
    assert not [said for said in catalogue.values() if not said or re.search(r"[{}@|]", said)]


@pytest.mark.parametrize("language", write_locales.LANGUAGES)
def test_two_inputs_of_a_node_have_two_names(info, language):
    """Nor do a node and its neighbour in the list share one."""
    folder = write_locales.FOLDER / language
    nodes = json.loads((folder / "nodeDefs.json").read_text(encoding="utf-8"))
    assert len({node["display_name"] for node in nodes.values()}) == len(nodes)
    for name, node in nodes.items():
        names = [part["name"] for part in node.get("inputs", {}).values()]
        assert len(set(names)) == len(names), f"{name}: {sorted(n for n in names if names.count(n) > 1)}"


def test_words_of_every_language_find_a_node(info):
    """The page translates no search words: all stand in one list, each once, the English ones first."""
    english = write_locales.search_words(info)
    for name, words in english.items():
        served = info[name]["search_aliases"]
        assert served[: len(words)] == words and len(set(served)) == len(served), name
    for language in write_locales.LANGUAGES:
        word = write_locales.catalogue_of(language)["faster"].split("; ")[0]
        assert word in info["VideoAttentionBackend"]["search_aliases"], language


def test_the_front_end_reads_them_as_they_are(english):
    """Its message format gives these characters a meaning of their own."""
    assert not [text for text in every_text(english) if re.search(r"[{}@|]", text)]


def test_they_are_served(server):
    with urllib.request.urlopen(f"{server[0]}/i18n", timeout=30) as answer:
        served = json.load(answer)
    backend = served["zh"]["nodeDefs"]["VideoAttentionBackend"]
    assert HAN.search(backend["display_name"]) and HAN.search(backend["inputs"]["backend"]["tooltip"])
    assert HAN.search(served["zh"]["nodeCategories"]["video attention"])
    assert served["en"]["nodeDefs"]["VideoAttentionBackend"]["display_name"].startswith("Video Attention Backend (")
