"""What the page gets of Maps: the words of a prompt, and heat as a file that browsers draw."""

from __future__ import annotations

from types import SimpleNamespace

import torch


class Encoder:
    """A CLIP whose tokenizer writes a word and a half, as T5's does."""

    tokenizer = SimpleNamespace(
        t5xxl=SimpleNamespace(untokenize=lambda pairs: [(pair, f"\u2581{'<img>' if i else 'a'}{i}") for i, pair in
                                                        enumerate(pairs)])
    )  # fmt: skip

    def __init__(self, count: int):
        self.count = count

    def tokenize(self, text):
        return {"l": [[(1, 1.0)] * 77], "t5xxl": [[(n, 1.0) for n in range(self.count)]]}


def test_the_words_of_a_text_encoder(pack, monkeypatch):
    words = pack.nodes.host.prompt_words
    monkeypatch.setattr(words, "_text", lambda hidden: "a dog")
    positive = [[torch.zeros(1, 3, 8), {}]]
    assert words.words_of(None, positive, Encoder(3), 3) == ([" a0", " <img>1", " <img>2"], "")
    found, why = words.words_of(None, positive, Encoder(4), 3)
    assert found is None and why.startswith("The model reads another number of tokens")
    found, why = words.words_of(None, positive, SimpleNamespace(tokenize=None), 3)
    assert found is None and why.startswith("This text encoder does not tell its words: TypeError")
    monkeypatch.setattr(words, "_text", lambda hidden: None)
    assert "no widget" in words.words_of(None, positive, Encoder(3), 3)[1]


def test_heat_of_many_blocks_keeps_within_what_browsers_draw(pack, comfy_host, monkeypatch):
    monkeypatch.setattr(pack.nodes.widgets.heat_file, "TALLEST", 100)
    layers = {f"block {n}": torch.rand(5, 30, 400) for n in range(40)}
    found = pack.nodes.widgets.heat_file.save_heat(layers)
    assert found["columns"] * 400 <= 8192 and 0 < len(found["layers"]) < 40 and found["layers"][0] == "block 0"
