"""The share of attention in the best fifth of the key blocks, of attention whose shape is known."""

from __future__ import annotations

import attention_mass
import pytest
import torch
import train_demo
import train_scenes


@pytest.mark.parametrize("length", [320, 300])
def test_even_attention_has_a_fifth_in_a_fifth(length):
    q = torch.zeros(1, 2, length, 8)
    k = torch.randn(1, 2, length, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(attention_mass.measure_mass(q, k), torch.full((2,), 64 / length), atol=1e-5)


def test_attention_to_one_block_is_all_there():
    """One head looks at its own block, the other at nothing."""
    own = torch.eye(5).repeat_interleave(64, 0)
    q = torch.stack((100 * own, 0 * own))[None]
    k = torch.stack((own, own))[None]
    assert attention_mass.measure_mass(q, k).tolist() == pytest.approx([1.0, 0.2], abs=1e-4)


def test_every_block_and_head_is_measured():
    grid = (2, 8, 8)
    model = train_demo.build(0, False, train_scenes.configure(grid, 2), grid)
    noise = torch.randn(1, 128, *grid, generator=torch.Generator().manual_seed(0))
    found = attention_mass.sample_mass(model.eval(), noise, torch.zeros(1, 7, 64), 3, 2)
    assert found.shape == (2, 2, 4) and (found >= 0.5).all() and (found <= 1).all()
