"""What the front end shows of the nodes in other languages: complete, and what the nodes say now."""

from __future__ import annotations

import json
import re
import urllib.request

import client
import pytest
import write_locales

HAN = re.compile(r"[\u4e00-\u9fff]")
# Names of formats and measures, coordinates, file types.
SAME_EVERYWHERE = {"VAE", "CFG", "PSNR", "SSIM", "FreeNoise", "Sigmas", "x", "y", "JSON"}


@pytest.fixture(scope="module")
def info(server):
    return client.Client(server[0]).object_info()


def test_the_files_are_what_the_nodes_say(info):
    made, missing = write_locales.files(info)
    assert not missing, f"add to scripts/zh.json: {sorted(missing)}"
    for file, text in made.items():
        assert file.exists() and file.read_text(encoding="utf-8") == text, "run: python scripts/write_locales.py"


def test_every_text_is_translated(info):
    english = write_locales.node_definitions(info)
    chinese = json.loads((write_locales.FOLDER / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert list(write_locales.every_text(chinese)) and len(list(write_locales.every_text(chinese))) == len(
        list(write_locales.every_text(english))
    )
    plain = {text for text in write_locales.every_text(chinese) if not HAN.search(text)}
    assert plain <= SAME_EVERYWHERE, plain - SAME_EVERYWHERE


def test_no_translation_is_left_over(info):
    english = {*write_locales.every_text(write_locales.node_definitions(info)), *write_locales.categories(info)}
    unused = set(locales.catalogue_of("zh")) - english
    assert not unused, unused


def test_the_front_end_reads_them_as_they_are(info):
    """Its message format gives these a meaning of their own."""
    assert not [
        text for text in write_locales.every_text(write_locales.node_definitions(info)) if re.search(r"[{}@|]", text)
    ]


def test_they_are_served(server):
    with urllib.request.urlopen(f"{server[0]}/i18n", timeout=30) as answer:
        served = json.load(answer)
    backend = served["zh"]["nodeDefs"]["VideoAttentionBackend"]
    assert HAN.search(backend["display_name"]) and HAN.search(backend["inputs"]["backend"]["tooltip"])
    assert HAN.search(served["zh"]["nodeCategories"]["video attention"])
    assert served["en"]["nodeDefs"]["VideoAttentionBackend"]["display_name"] == "Video Attention Backend"
