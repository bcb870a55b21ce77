"""The demo model's words: each its own token, and masks as text encoders of the host give them."""

from __future__ import annotations

from itertools import product

import pytest

from attention.demo.prompt import COLOURS, DIRECTIONS, SHAPES, empty_prompt, encode_prompt


def test_every_prompt_is_told_from_every_other():
    prompts = {words: encode_prompt(*words)[0] for words in product(COLOURS, SHAPES, DIRECTIONS)}
    assert all(tokens.shape == (1, 3, 32) and tokens.sum() == 3 for tokens in prompts.values())
    assert len({tuple(tokens.flatten().tolist()) for tokens in prompts.values()}) == 8 * 3 * 8
    # No word shares a channel with one of another kind.
    every = [tokens[0] for tokens in prompts.values()]
    used = [{at for one in every for at in one[part].nonzero().flatten().tolist()} for part in range(3)]
    assert sorted(len(channels) for channels in used) == [3, 8, 8] and len(set.union(*used)) == 19


def test_masks_are_whole_numbers():
    """Of a mask of floating point numbers LTX's model would take each for what is added to the scores."""
    for tokens, mask in (encode_prompt("red", "disc", "up"), empty_prompt()):
        assert mask.tolist() == [[1, 1, 1]] and not mask.is_floating_point() and mask.shape == tokens.shape[:2]
    assert not empty_prompt()[0].any()


@pytest.mark.parametrize(("words", "what"), [(("pink", "disc", "up"), "colour"), (("red", "dot", "up"), "shape")])
def test_other_words_are_refused_with_those_there_are(words, what):
    with pytest.raises(ValueError, match=f"^{what} '(pink|dot)' is not one of .*, "):
        encode_prompt(*words)
