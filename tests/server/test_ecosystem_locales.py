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
# Names of formats and measures, coordinates.
SAME_EVERYWHERE = {"VAE", "CFG", "PSNR", "SSIM", "FreeNoise", "Sigmas", "x", "y", "JSON"}


@pytest.fixture(scope="module")
def info(server):
    return client.Client(server[0]).object_info()


@pytest.fixture(scope="module")
def english(info):
    return write_locales.node_definitions(info)


def test_the_files_are_what_the_nodes_say(info):
    made, missing = write_locales.files(info)
    assert not missing, f"add to scripts/zh.json: {sorted(missing)}"
    for file, text in made.items():
        assert file.exists() and file.read_text(encoding="utf-8") == text, "run: python scripts/write_locales.py"


def test_every_text_is_translated(english):
    file = write_locales.FOLDER / "zh" / "nodeDefs.json"
    chinese = list(every_text(json.loads(file.read_text(encoding="utf-8"))))
    assert chinese and len(chinese) == len(list(every_text(english)))
    plain = {text for text in chinese if not HAN.search(text)}
    assert plain <= SAME_EVERYWHERE, plain - SAME_EVERYWHERE


def test_no_translation_is_left_over(info):
    catalogue = write_locales.catalogue_of("zh")
    assert json.loads(write_locales.tidy(catalogue, info)) == catalogue, "run: python scripts/write_locales.py"


def test_the_front_end_reads_them_as_they_are(english):
    """Its message format gives these characters a meaning of their own."""
    assert not [text for text in every_text(english) if re.search(r"[{}@|]", text)]


def test_they_are_served(server):
    with urllib.request.urlopen(f"{server[0]}/i18n", timeout=30) as answer:
        served = json.load(answer)
    backend = served["zh"]["nodeDefs"]["VideoAttentionBackend"]
    assert HAN.search(backend["display_name"]) and HAN.search(backend["inputs"]["backend"]["tooltip"])
    assert HAN.search(served["zh"]["nodeCategories"]["video attention"])
    assert served["en"]["nodeDefs"]["VideoAttentionBackend"]["display_name"] == "Video Attention Backend"
