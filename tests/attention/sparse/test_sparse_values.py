"""Where a choice ends, how long lists are, what a trial tells: values on which changes to the source went unnoticed."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest
import torch
from source import name_of, sources, tree

from attention import patterns as p
from attention.backends.autotune import HOST_RUN
from attention.core.geometry import describe
from attention.core.tokens import BOTH, Span, VideoSpan
from attention.guidance import strength
from attention.guidance.strength import Strength, combined, cross_frame_intensity
from attention.patterns.blocks import KEYS, QUERIES, pool, select_pooled
from attention.patterns.spec import relation_of
from attention.sparse import autotune as engines
from attention.sparse import engine_registry, gather_blocks, own_triton
from attention.sparse.cached_blocks import CachedBlocks
from attention.sparse.engine import GPU_BYTES, THREAD_BYTES, HostMask, Task, append_context, scratch_bytes

SHARED = {"report.py": 1}


def test_what_rules_and_records_hold_is_unchanging():
    """Clones of a model share these, and keys are made of them: only what a report adds up may change."""
    found = {}
    for path in sources("attention"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                texts = [ast.unparse(one) for one in node.decorator_list]
                loose = [t for t in texts if t.startswith("dataclass") and "frozen=True" not in t]
                found[path.name] = found.get(path.name, 0) + len(loose)
    assert {name: count for name, count in found.items() if count} == SHARED
    assert name_of(sources("attention")[0]).startswith("attention/")
    with pytest.raises(AttributeError):
        Strength().temperature = 2.0
    assert len({Strength(2.0), Strength(2.0), Strength(2.0, 1.0)}) == 2


@pytest.mark.parametrize(
    ("mass", "number"), [(1e-3, 1), (25, 1), (25.1, 2), (50, 2), (50.1, 3), (75, 3), (99, 4), (100, 4)]
)
def test_the_fewest_blocks_that_hold_the_mass(mass, number):
    """Four blocks with a quarter each: a quarter is held by one of them, not by two."""
    scores, lengths = torch.zeros(1, 1, 3, 4), torch.full((4,), 64.0)
    assert p.MassBlocks(mass).select(scores, lengths).sum(-1).eq(number).all()


def test_a_short_block_holds_less_and_the_highest_come_first():
    scores, lengths = torch.tensor([[0.0, 0.0, 0.0, 5.0]]), torch.tensor([64.0, 64.0, 1.0, 64.0])
    weights = (scores + lengths.log()).softmax(-1)[0]
    assert p.MassBlocks(100 * float(weights[3]) - 1e-3).select(scores, lengths).tolist() == [
        [False, False, False, True]
    ]
    assert p.MassBlocks(99.9).select(scores, lengths).tolist() == [[True, True, False, True]]


@pytest.mark.parametrize(
    ("keep", "blocks", "number"),
    [(0.1, 5, 1), (20, 5, 1), (20.1, 5, 2), (25, 8, 2), (1.1, 1000, 11), (1.2, 1000, 12), (99, 3, 3), (100, 7, 7)],
)
def test_so_many_percent_of_the_blocks(keep, blocks, number):
    assert p.TopBlocks(keep).number(blocks) == number
    chosen = p.TopBlocks(keep).select(torch.arange(float(blocks)).flip(0)[None], None)
    assert chosen[0, :number].all() and chosen.sum() == number


def test_a_block_of_queries_sees_its_own_keys_and_no_other_s():
    per = QUERIES // KEYS
    pooled_q, pooled_k = torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3 * per - 1, 4)
    pooled_q[..., 0], pooled_k[0, 0, 0, 0] = 1.0, 9.0
    seen = select_pooled(p.TopBlocks(1.0), pooled_q, pooled_k, None, 1.0)[0, 0]
    for row in range(3):
        own = {block for block in range(row * per, (row + 1) * per) if block < pooled_k.shape[2]}
        assert set(seen[row].nonzero().flatten().tolist()) == {0} | own


@pytest.mark.parametrize("tokens", [64, 65, 128, 200])
def test_means_of_blocks_count_their_own_tokens(tokens):
    x = torch.randn(1, 2, tokens, 4)
    means, lengths = pool(x, KEYS)
    assert lengths.tolist() == [min(KEYS, tokens - i) for i in range(0, tokens, KEYS)]
    for block, length in enumerate(lengths.int().tolist()):
        torch.testing.assert_close(means[:, :, block], x[:, :, block * KEYS : block * KEYS + length].mean(2))


@pytest.mark.parametrize("context_tokens", [0, 64, 70])
@pytest.mark.parametrize("keep", [1.0, 30.0, 55.0])
def test_lists_are_as_long_as_their_longest_row_can_be(context_tokens, keep):
    """The best blocks elsewhere, and a query block's own: told beforehand, since asking the GPU would wait for it."""
    columns, per = 20, QUERIES // KEYS
    number, ahead = p.TopBlocks(keep).number(columns), -(-context_tokens // KEYS)
    kept = torch.zeros(1, 1, columns // per, columns, dtype=torch.bool)
    for row in range(columns // per):
        kept[0, 0, row, row * per : (row + 1) * per] = True
        others = [c for c in range(columns) if not kept[0, 0, row, c]]
        kept[0, 0, row, others[:number]] = True
    made = own_triton.lists_of_selection(p.TopBlocks(keep), kept, columns * KEYS, context_tokens)
    assert made.index.shape[-1] == number + per + ahead and made.count[..., 1].max() == number + per + ahead
    for row in range(columns // per):
        listed = made.index[0, 0, row, : int(made.count[0, 0, row, 1])].sort().values.tolist()
        assert listed == [*range(ahead), *(ahead + c for c in kept[0, 0, row].nonzero().flatten().tolist())]
    by_mass = own_triton.lists_of_selection(p.MassBlocks(50), kept, columns * KEYS, context_tokens)
    assert by_mass.index.shape[-1] == number + per + ahead, "asked of the tensors, where no number says it"


@pytest.mark.parametrize(("context_tokens", "filled"), [(0, 0), (1, KEYS), (KEYS, KEYS), (KEYS + 1, 2 * KEYS)])
def test_context_fills_whole_blocks(context_tokens, filled):
    assert own_triton.padded_context(context_tokens) == filled
    relation = relation_of(p.Temporal(), (2, 2, 2))
    seen, queries, keys = own_triton.with_context(relation, torch.arange(8), context_tokens)
    assert (queries, keys) == (8, filled + 8)
    mask = seen(torch.arange(8)[:, None], torch.arange(keys)[None, :])
    assert mask[:, :context_tokens].all() and not mask[:, context_tokens:filled].any()
    assert torch.equal(mask[:, filled:], relation.mask_mod(0, 0, torch.arange(8)[:, None], torch.arange(8)[None, :]))


GRID, TEXT = (4, 6, 5), 7
PLACE = VideoSpan(GRID, TEXT, BOTH, (Span("text", TEXT),))


def test_a_trial_tells_its_seconds_its_error_and_its_reason(monkeypatch):
    """Of one that is out, no seconds: it was not timed."""
    monkeypatch.setattr(engines, "_CHOSEN", {})
    monkeypatch.setattr(engines, "time_in_turns", lambda runs, device: {name: 2.0 + len(name) for name in runs})
    torch.manual_seed(0)
    tensors = [torch.randn(2, 3, TEXT + 120, 16) for _ in range(3)]
    found = engine_registry.runners(p.Spatial(), PLACE, describe(*tensors))
    (weight, task, engine), *_ = found[0].parts
    wrong = replace(engine, name="wrong", run=lambda video, *rest: engine.run(video, *rest) * 1.5)
    fails = replace(engine, name="fails", run=lambda *rest: 1 / 0)
    runners = (*(replace(found[0], parts=((weight, task, one),)) for one in (wrong, fails)), *found)

    def run(kernel):
        return kernel(*tensors)

    runner, choice, fresh = engines.fastest_engine(("k",), runners, run, lambda: None, lambda: tensors, 0.02)
    assert fresh and runner.label == choice.winner == "slabs" and choice.spent > 0
    by_name = {trial.name: trial for trial in choice.trials}
    assert list(by_name) == [HOST_RUN, "wrong", "fails", "folded", "slabs", "tiles"]
    assert by_name[HOST_RUN].seconds == 2.0 + len(HOST_RUN) and by_name[HOST_RUN].reason is None
    for name in ("folded", "slabs", "tiles"):
        assert by_name[name].seconds == 2.0 + len(name) and 0 < by_name[name].error < 1e-5
    assert by_name["wrong"].seconds == by_name["fails"].seconds == 0.0
    assert by_name["wrong"].error == pytest.approx(0.5, abs=0.1) and "is above 0.02" in by_name["wrong"].reason
    assert by_name["fails"].error == 0.0 and by_name["fails"].reason == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("scratch", [1, 200, 1 << 24])
def test_intensity_does_not_depend_on_how_much_is_held(monkeypatch, scratch):
    monkeypatch.setattr(strength, "SCRATCH", scratch)
    q, k = (torch.randn(2, 3, 4 * 6, 8, dtype=torch.float64) for _ in range(2))
    expected = []
    for b in range(2):
        off = []
        for h in range(3):
            for place in range(6):
                weights = (q[b, h, place::6] @ k[b, h, place::6].T * 0.3).softmax(-1)
                off.append((weights.sum() - weights.diagonal().sum()) / 12)
        expected.append(torch.stack(off).mean())
    torch.testing.assert_close(
        cross_frame_intensity(q, k, (4, 2, 3), 0.3).double(), torch.stack(expected), atol=1e-6, rtol=0
    )


def test_of_several_strengths_the_last_that_changes_something():
    assert combined([Strength(0.5, 3.0), Strength(1.0, 2.0), Strength(2.0, 0.0)]) == Strength(2.0, 2.0)
    x = torch.randn(1, 2, 3)
    assert Strength().sharpen(x) is x and torch.equal(Strength(4.0).sharpen(x), x / 4)


def test_held_choices_stand_for_so_many_evaluations():
    now, made = [0], []
    held = CachedBlocks(3, lambda: now[0])

    def make():
        made.append(len(made))
        return made[-1]

    assert [held(make), held(make)] == [0, 1], "nobody counts: nothing is kept"
    given = []
    for evaluation in range(1, 8):
        now[0] = evaluation
        given.append((held(make), held(make)))
    assert given == [(2, 3)] * 3 + [(4, 5)] * 3 + [(6, 7)]


def test_scratch_and_joined_keys():
    assert scratch_bytes(torch.device("cpu")) == THREAD_BYTES * torch.get_num_threads() < GPU_BYTES
    keys, context_tokens = torch.randn(2, 3, 4, 5), torch.randn(2, 1, 6, 5)
    assert torch.equal(
        append_context(keys, context_tokens), torch.cat([keys, context_tokens.expand(-1, 3, -1, -1)], dim=2)
    )
    assert append_context(keys, context_tokens[:, :, :0]) is keys


@pytest.mark.parametrize("rows", [0, 1, 200])
def test_what_is_gathered_at_once_fits_its_scratch(monkeypatch, rows):
    """Keys and values of each row, and the host's mask of its scores; a row alone may be larger."""
    scratch, tokens, dim, fixed = 1 << 22, 20 * KEYS, 16, 640
    monkeypatch.setattr(gather_blocks, "scratch_bytes", lambda device, size: scratch)
    seen, q = torch.rand(1, 2, 20, 20) < 0.4, torch.zeros(1, 2, tokens, dim)
    seen[..., 0] = True
    mask = HostMask(torch.zeros(1, 1, rows, tokens), torch.zeros(1, 1, rows, fixed)) if rows else None
    told, sizes = [], []
    for some, picked, hidden in gather_blocks.chunks(seen, tokens, dim, fixed, q, mask):
        keys = hidden.shape[1] + fixed
        bias = min(rows, QUERIES) * keys
        sizes.append(len(some) * (2 * keys * dim + bias) * q.element_size())
        assert (len(some) == 1 or sizes[-1] <= scratch) and picked.shape == (len(some), hidden.shape[1] // KEYS)
        told += some.tolist()
    assert sorted(told) == list(range(40)) and len(sizes) > 1
    assert scratch / 8 < max(sizes), "and no less than could be is gathered at once"


def test_a_mask_s_last_token_keeps_its_own_value():
    """The last block of keys is ragged: what fills it up is hidden anyway, what is there has its own bias."""
    tokens = 2 * KEYS + 5
    mask = HostMask(torch.arange(tokens, dtype=torch.float32).view(1, 1, 1, tokens), torch.zeros(1, 1, 1, 0))
    plan, at = gather_blocks.EnginePlan(p.TopBlocks(50), None, None), torch.zeros(1, dtype=torch.long)
    bias = gather_blocks.host_bias(mask, plan, (at, torch.tensor([[0, 2]])), (at, at), torch.zeros(1))
    assert bias.shape[-1] == 2 * KEYS
    assert bias.flatten()[: KEYS + 5].tolist() == [*range(KEYS), *range(2 * KEYS, tokens)]


@pytest.mark.parametrize(
    ("pattern", "together"),
    [(p.Spatial(), "frames"), (p.Temporal(), "places"), (p.Neighbourhood(3), "frames")],
    ids=lambda value: getattr(value, "name", value),
)
def test_tokens_that_see_each_other_share_tiles(pattern, together):
    """By hand: frames in a row for what sees its own frame, places over time for what sees its own place."""
    grid = (8, 16, 16)
    relation, orders = relation_of(pattern, grid), list(own_triton.candidate_orders(grid))
    costs = [own_triton.tile_cost(relation, order) for order in orders]
    best = orders[costs.index(min(costs))]
    places = torch.arange(8) * 256
    assert torch.equal(best[:8], torch.arange(8) if together == "frames" else places)
    if together == "frames" and pattern.name == "spatial":
        # Every second of 16 blocks of queries is looked at; each sees the four blocks of keys of its own frame.
        assert min(costs) == 8 * 4


def test_a_plan_moves_tokens_only_where_that_shares_tiles():
    """Places over time stand together for what sees its own place; for frames, which stand in a row, nothing moves."""
    task = Task(p.Temporal(), VideoSpan((8, 16, 16), 0, BOTH))
    moved = own_triton.plan(task, torch.device("cpu"), torch.float32)
    assert moved.permutation[:8].tolist() == list(range(0, 2048, 256))
    assert torch.equal(moved.permutation[moved.inverse].long(), torch.arange(2048))
    still = own_triton.plan(replace(task, pattern=p.Spatial()), torch.device("cpu"), torch.float32)
    assert still.permutation is None and still.inverse is None and still.lists is not None
