"""What torch's CUDA operators are handed, on any machine: masks as they demand them, and all else of a call."""

from __future__ import annotations

import pytest
import torch
import truth
from torch.utils._python_dispatch import TorchDispatchMode

from attention.backends import sdpa
from attention.core import torch_sdpa


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("keys", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (1, 3, 5), (2, 3, 5)])
def test_rows_of_a_mask_begin_on_steps_of_16_bytes(shape, keys, dtype):
    mask = torch.randn(*shape, keys).to(dtype)
    q, k = torch.empty(2, 3, 5, 8), torch.empty(2, 3, keys, 8)
    made = sdpa.aligned(mask, q, k)
    assert made.shape == (2, 3, 5, keys) and torch.equal(made, mask.expand(2, 3, 5, keys))
    assert made.stride(-1) == 1 and all(step * made.element_size() % 16 == 0 for step in made.stride()[:-1])


def test_no_mask_stays_none():
    assert sdpa.aligned(None, torch.empty(1, 1, 2, 8), torch.empty(1, 1, 2, 8)) is None


def test_a_mask_of_bools_becomes_what_is_added():
    q, mask = torch.empty(1, 1, 2, 8, dtype=torch.float16), torch.tensor([[[[True, False, True]]]])
    made = sdpa.additive(mask, q)
    assert made.dtype == q.dtype and made.flatten().tolist() == [0.0, -torch.inf, 0.0]
    numbers = torch.randn(1, 1, 1, 3)
    assert sdpa.additive(numbers, q) is numbers and sdpa.additive(None, q) is None


class ByName(TorchDispatchMode):
    """Computes what an operator for GPUs is asked for, by what torch calls its arguments.

    scale: of the last call.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "_scaled_dot_product_" not in func.name():
            return func(*args, **kwargs or {})
        declared = func._schema.arguments
        given = {one.name: one.default_value for one in declared if one.has_default_value()}
        given |= dict(zip((one.name for one in declared), args)) | (kwargs or {})
        assert given["dropout_p"] == 0.0 and given["is_causal"] is False
        q, k, v = (given[name] for name in ("query", "key", "value"))
        out = torch_sdpa.sdpa(q, k, v, attn_mask=given.get("attn_bias"), scale=given["scale"])
        self.scale = given["scale"]
        # Nobody looks at the others.
        return tuple(out if str(one.type) == "Tensor" else 0 for one in func._schema.returns)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("kind", ["none", "bool", "added"])
@pytest.mark.parametrize("operator", [sdpa.cudnn, sdpa.efficient])
def test_an_operator_is_handed_all_of_a_call(operator, kind, scale):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, length, 16) for length in (5, 9, 9))
    mask = {"none": None, "bool": torch.rand(2, 1, 5, 9) < 0.7, "added": torch.randn(1, 3, 1, 9)}[kind]
    if kind == "bool":
        mask[..., 0] = True
    with ByName():
        out = operator(q, k, v, mask, scale)
    assert truth.excess(out, truth.attention(q, k, v, mask, scale)) < 1


def test_flash_attention_on_a_gpu_is_handed_the_scale():
    """Tensors without numbers: on a CPU it is another operator."""
    x = torch.empty(1, 2, 8, 16, device="meta")
    with ByName() as asked:
        assert sdpa.flash(x, x, x, scale=0.3).shape == x.shape
    assert asked.scale == 0.3
