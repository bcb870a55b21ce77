"""References in the first frames of Wan's latents: told by the model, or by the values of VACE's control."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from attention.core.tokens import Span, Tokens
from attention.families import wan_references
from attention.families.wan_references import apart

GRID, FRAME = (5, 3, 4), 12


class VaceWanModel(torch.nn.Module):
    pass


class AnimateWanModel(torch.nn.Module):
    pass


def context(references, frames=5, blank=True, given=True, seed=0):
    """(1, 1, 96, T, 6, 8): pictures, what is to change, the mask."""
    made = torch.randn(1, 1, 96, frames, 6, 8, generator=torch.Generator().manual_seed(seed))
    made[:, :, 32:] = 1.0
    if blank:
        made[:, :, 16:32, :references] = torch.randn(16, 1, 1, 1)
    if given:
        made[:, :, 32:, :references] = 0.0
    return made


def laid_out(inputs, kind=VaceWanModel, grid=GRID, **more):
    return apart(kind(), Tokens(grid, **more), inputs)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_references_of_a_control(count):
    found = laid_out({"vace_context": context(count)})
    assert found.grid == (5 - count, 3, 4) and found.prefix == (Span("reference", count * FRAME),) * (count > 0)


@pytest.mark.parametrize("kind", ["not blank", "not given", "all of them", "none at all", "of another kind"])
def test_what_is_no_reference_stays_a_frame(kind):
    made = {
        "not blank": context(1, blank=False), "not given": context(1, given=False), "all of them": context(5),
        "none at all": None, "of another kind": torch.zeros(1, 96, 5, 6, 8),
    }[kind]  # fmt: skip
    assert laid_out({"vace_context": made}) == Tokens(GRID)


def test_of_several_controls_the_one_with_most():
    both = torch.cat([context(0), context(2, seed=1)], 1)
    assert laid_out({"vace_context": both}).grid == (3, 3, 4)


def test_animate_has_one_behind_other_references():
    before = (Span("reference", 7),)
    found = laid_out({}, AnimateWanModel, prefix=before)
    assert found.grid == (4, 3, 4) and found.prefix == (*before, Span("reference", FRAME))
    assert laid_out({}, AnimateWanModel, (1, 3, 4)) == Tokens((1, 3, 4)), "an image has no frame to spare"
    assert laid_out({}, AnimateWanModel, None, unknown="odd") == Tokens(None, unknown="odd")


def test_values_are_read_once_for_the_same_prompts_and_window(monkeypatch):
    monkeypatch.setattr(wan_references, "_COUNTS", {})
    plain, read = wan_references.reference_frames, []
    monkeypatch.setattr(wan_references, "reference_frames", lambda *given: read.append(1) or plain(*given))

    def told(uuids, window=None, references=1):
        options = {"uuids": uuids, "context_window": window and SimpleNamespace(index_list=window)}
        return laid_out({"vace_context": context(references), "transformer_options": options}).grid[0]

    # A GPU would be waited for in each step.
    assert [told(["a"]), told(["a"]), told(["a"], [0, 1]), told(["a"], [2, 3], 0), told(["b"])] == [4, 4, 4, 5, 4]
    assert len(read) == 4 and told(["a"], [2, 3], 0) == 5 and len(read) == 4
    for number in range(2 * wan_references.MOST):
        told([str(number)])
    assert len(wan_references._COUNTS) <= wan_references.MOST
    assert laid_out({"vace_context": context(1)}).grid[0] == 4, "without names they are read"


class Forgets(dict):
    """Counts that another thread clears as soon as one is noted or found."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.clear()

    def __contains__(self, key):
        found = super().__contains__(key)
        self.clear()
        return found


def test_another_thread_may_clear_what_was_read(monkeypatch):
    monkeypatch.setattr(wan_references, "_COUNTS", (counts := Forgets()))
    told = {"vace_context": context(1), "transformer_options": {"uuids": ["a"]}}
    assert laid_out(told).grid[0] == 4 and not counts
    dict.__setitem__(counts, (("a",), (), tuple(told["vace_context"].shape)), 2)
    assert laid_out(told).grid[0] == 3, "what was noted is taken"
