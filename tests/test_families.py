"""Model families, on module trees with the host's names and nothing else of it."""

from __future__ import annotations

import pytest
import torch

from attention import families
from attention.family import Family
from attention.site import CROSS, ROLES, SELF


class FakeLTXVBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn1, self.attn2, self.ff = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)


class LTXVModel(torch.nn.Module):
    """The attribute names of comfy.ldm.lightricks.model.LTXVModel."""

    def __init__(self, blocks: int):
        super().__init__()
        self.patchify_proj = torch.nn.Linear(4, 4)
        self.transformer_blocks = torch.nn.ModuleList(FakeLTXVBlock() for _ in range(blocks))


@pytest.mark.parametrize("blocks", [0, 1, 28])
def test_ltxv_places_every_attention(blocks):
    model = LTXVModel(blocks)
    family = families.find(type(model).__name__)
    placed = list(family.modules(model))
    expected = [
        (module, role, index)
        for index, block in enumerate(model.transformer_blocks)
        for module, role in ((block.attn1, SELF), (block.attn2, CROSS))
    ]
    assert [(id(m), role, index) for m, role, index in placed] == [(id(m), role, index) for m, role, index in expected]


GRIDS = (
    (torch.zeros(2, 128, 5, 8, 12), (5, 8, 12)),
    (torch.zeros(1, 128, 1, 1, 1), (1, 1, 1)),  # one frame: an image
    (torch.zeros(2, 128, 40), None),  # tokens already: the grid cannot be known
    ([torch.zeros(2, 128, 5, 8, 12)], None),  # LTX-2 passes video and audio as a list
    (None, None),
)


@pytest.mark.parametrize(("x", "grid"), GRIDS, ids=lambda value: str(getattr(value, "shape", value))[:30])
def test_ltxv_grid(x, grid):
    assert families.find("LTXVModel").grid(x) == grid


@pytest.mark.parametrize("name", ["", "ltxvmodel", "LTXVModelX", "WanVAE", "LTXVModel "])
def test_unknown_models_have_no_family(name):
    assert families.find(name) is None


def test_table_rows_are_distinct():
    assert all(isinstance(family, Family) and family.models for family in families.TABLE)
    models = [model for family in families.TABLE for model in family.models]
    assert len(set(models)) == len(models), "find() would reach the first of two rows only"
    assert len({family.name for family in families.TABLE}) == len(families.TABLE)
    assert all(families.find(model) is family for family in families.TABLE for model in family.models)


def test_roles_are_known():
    assert {role for _, role, _ in families.find("LTXVModel").modules(LTXVModel(2))} <= set(ROLES)
