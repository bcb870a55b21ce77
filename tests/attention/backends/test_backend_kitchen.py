"""comfy-kitchen's INT8 attention in two stages: a stand-in with its contract shows what it is given and what is freed.

The contract, from comfy-kitchen 0.2.40: `prequantize_int8_attention(q, k, v, *, scale, attn_mask)` keeps none of q, k
and v, `int8_attention_from_prequantized(packed)` gives what `int8_attention` would, bit for bit. The kernel itself
needs a GPU and does not run here.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from kitchen_library import SDPA, Library

from attention.backends import kitchen

torch.set_num_threads(1)


def draw(shape=(2, 3, 8, 16)):
    return [torch.randn(shape) for _ in range(3)]


@pytest.mark.parametrize("masked", [False, True])
def test_two_stages_give_the_same(masked):
    q, k, v = draw()
    mask = torch.rand(2, 1, 1, 8) < 0.7 if masked else None
    library = Library()
    run = kitchen.kernel(library)
    expected = run(q, k, v, mask=mask, scale=0.3)
    assert torch.equal(expected, SDPA(q, k, v, attn_mask=mask, scale=0.3))
    assert torch.equal(run.consume([q, k, v], mask=mask, scale=0.3), expected)


def test_inputs_are_free_before_the_second_stage():
    library, given = Library(), draw()
    kitchen.kernel(library).consume(given)
    assert library.alive == [False, False, False] and given == []


def test_who_else_holds_an_input_keeps_it():
    # Else the test above could pass with a stand-in that sees nothing.
    library, given = Library(), draw()
    kept = given[1]
    kitchen.kernel(library).consume(given)
    assert library.alive == [False, True, False] and kept.shape == (2, 3, 8, 16)


def test_an_error_while_quantising_leaves_the_inputs():
    given = draw()
    before = [t.clone() for t in given]
    with pytest.raises(torch.OutOfMemoryError):
        kitchen.kernel(Library("first")).consume(given)
    assert len(given) == 3 and all(torch.equal(a, b) for a, b in zip(given, before))


def test_an_older_library_has_one_stage():
    library = SimpleNamespace(int8_attention=lambda q, k, v, *, scale=None, attn_mask=None: q)
    assert not hasattr(kitchen.kernel(library), "consume")


ODD = {
    "base": lambda t: torch.cat((t.new_zeros(1), t.flatten()))[1:].view(t.shape),
    "row": lambda t: torch.nn.functional.pad(t, (0, 1))[..., :-1],
    "last axis": lambda t: torch.stack((t, t), dim=-1)[..., 0],
}


@pytest.mark.parametrize("odd", ODD)
def test_rows_off_the_step_of_four_are_copied(odd):
    q, k, v = draw()
    with pytest.raises(RuntimeError, match="4-element alignment"):
        Library().int8_attention(ODD[odd](q), k, v)
    run = kitchen.kernel(Library())
    for index in range(3):
        given = [ODD[odd](t) if i == index else t for i, t in enumerate((q, k, v))]
        assert torch.equal(run(*given), SDPA(q, k, v))
        assert torch.equal(run.consume(given), SDPA(q, k, v))


def test_rows_on_the_step_are_not():
    """A view of MiniMax's (L, H, D) and of a fused q, k, v: no copy of a gigabyte for nothing."""
    fused = torch.randn(20, 3, 4, 16)
    views = [fused[:, i].transpose(0, 1).unsqueeze(0) for i in range(3)]
    assert all(a is b for a, b in zip(kitchen.aligned(*views), views))
