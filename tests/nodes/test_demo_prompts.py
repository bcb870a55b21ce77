"""The prompts of the demo models, as samplers and maps take them."""

from __future__ import annotations

import pytest
import torch

from attention.demo import scene_prompt

WORDS = ("red", "disc", "right", "blue", "square", "up", "second in front")


@pytest.fixture
def node(pack):
    return pack.nodes.demo.VideoAttentionDemoScenePrompt


def test_seven_words_are_seven_tokens(node, pack):
    (tokens, told), (empty, nothing) = (conditioning[0] for conditioning in node.execute(*WORDS).args)
    assert torch.equal(tokens, scene_prompt.encode_numbers(scene_prompt.number_words(WORDS)[None]))
    assert tokens.shape == empty.shape == (1, 7, 64) and empty.abs().sum() == 0
    assert told.pop(pack.nodes.host.prompt_words.WORDS) == WORDS
    for fields in (told, nothing):
        assert fields.pop("attention_mask").tolist() == [[1] * 7] and fields.pop("frame_rate") == 25 and not fields


def test_its_own_values_are_a_prompt(node):
    values = {one.id: one.default for one in node.GET_SCHEMA().inputs}
    assert list(values) == [kind.replace(" ", "_") for kind in scene_prompt.KINDS]
    node.execute(**values)


@pytest.mark.parametrize(("number", "name"), [(0, "second_colour"), (2, "second_direction")])
def test_shapes_that_the_model_cannot_tell_apart_are_refused(node, number, name):
    words = list(WORDS)
    words[number + 3] = words[number]
    with pytest.raises(ValueError, match=f"^{name}: both shapes have '{words[number]}'"):
        node.execute(*words)


def test_two_shapes_of_one_form_are_a_prompt(node):
    node.execute(*WORDS[:4], WORDS[1], *WORDS[5:])
