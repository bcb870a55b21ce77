"""Temporal blocks behind the blocks of ComfyUI's own models: what they change, what they refuse, what they leave."""

from __future__ import annotations

import dataclasses
import functools
import re

import pytest
import torch
from tiny import CASES, plain
from tiny.case import Case, parts, sample, watch

from attention import families
from attention.blocks import TemporalBlocks, TemporalConfig, weights
from attention.families.facts import BlockStream

PLAIN = plain()
# Every row of the table that tells where its video passes between its blocks.
FAMILIES = tuple(family.name for family in families.TABLE if isinstance(family.stream, BlockStream))
in_depth = pytest.mark.parametrize("case", (PLAIN["LTXV"], PLAIN["Wan"]), ids=str)


@pytest.fixture(scope="module")
def built(pack):
    """(case) -> its MODEL, made once."""
    return functools.cache(lambda build: build())


@pytest.fixture
def make(pack, tmp_path):
    """(MODEL, trained, **changes of the config) -> a file of blocks that fit it, unless the changes say otherwise."""

    def write(model, trained=True, name="blocks.safetensors", **changes):
        network, family = model.model.diffusion_model, pack.nodes.host.model_family.family_of(model)
        stream = family.stream
        count = len(stream.blocks(network))
        config = TemporalConfig(family.name, stream.channels(network), 2, 8, 16, tuple(range(count)))
        torch.manual_seed(0)
        blocks = TemporalBlocks(dataclasses.replace(config, **changes))
        if trained:
            for block in blocks.blocks.values():
                torch.nn.init.normal_(block.attention.heads.to_out.weight, std=0.5)
                torch.nn.init.normal_(block.feed_forward.outward.weight, std=0.5)
        weights.save(blocks, tmp_path / name)
        return tmp_path / name

    return write


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(parts(a), parts(b), strict=True))


def hooks(model) -> int:
    modules = model.model.diffusion_model.modules()
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in modules)


def test_which_families_take_blocks():
    """By hand, from what their models' forwards do between blocks: a row that forgets its stream is no refusal."""
    assert set(FAMILIES) == {
        "CogVideoX", "Cosmos Predict2", "Flux", "HunyuanVideo", "Kandinsky 5", "LTX-2", "LTXV", "Mochi", "Qwen-Image",
        "Wan",
    }  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_untrained_blocks_change_no_bit_and_trained_ones_do(family, pack, inference, built, make):
    case = PLAIN[family]
    model = built(case.build)
    before = sample(model, case)
    for trained in (False, True):
        patched, _ = pack.nodes.host.temporal_grafts.add_blocks(model, make(model, trained))
        after = sample(patched, case)
        assert same(after, before) is not trained
        assert all(torch.isfinite(part).all() for part in parts(after))
        assert hooks(model) == 0
        assert same(sample(model, case), before), "the input MODEL was changed"


@pytest.mark.parametrize(
    "family", [f for f in families.TABLE if f.name not in FAMILIES and f.name in PLAIN], ids=lambda f: f.name
)
def test_other_families_refuse_in_the_words_of_their_row(family, pack, inference, built):
    name, why = family.name, family.unsupported or family.stream
    why = re.escape(f"no blocks can be added to {name}. They can to {', '.join(FAMILIES)}. {name}: {why}.")
    with pytest.raises(ValueError, match=why):
        pack.nodes.host.temporal_grafts.check_fit(
            built(PLAIN[family.name].build), TemporalConfig("", 8, 2, 8, 16, (0,)), "blocks.safetensors"
        )


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.variant.startswith(("Wan 2.1", "LTX", "HunyuanVideo"))], ids=str
)
def test_every_input_is_placed_or_refused(case: Case, pack, inference, built, make):
    """Guides, references, audio and odd sizes: the blocks find the video's tokens, or say why not."""
    model = built(case.build)
    family = pack.nodes.host.model_family.family_of(model)
    if family.name not in FAMILIES:
        return
    patched, _ = pack.nodes.host.temporal_grafts.add_blocks(model, make(model, trained=False))
    # Where the whole clip has no grid, not where one kind of call has none.
    if case.unplaced and any(words in case.unplaced for words in ("fit the grid", "between the frames")):
        with pytest.raises(ValueError, match=case.unplaced):
            sample(patched, case)
    else:
        assert same(sample(patched, case), sample(model, case))
    assert hooks(model) == 0


# --- what the widgets do ---------------------------------------------------------------------------------------------


@in_depth
def test_strength_and_blocks(case, pack, inference, built, make):
    model, add = built(case.build), pack.nodes.host.temporal_grafts.add_blocks
    path, before = make(model), sample(model, case)
    assert same(sample(add(model, path, strength=0.0)[0], case), before)
    first, chosen = add(model, path, ((0, 0),))
    assert chosen == (0,)
    both, half = add(model, path)[0], add(model, path, strength=0.5)[0]
    outs = [sample(m, case) for m in (model, first, half, both)]
    assert not any(same(a, b) for i, a in enumerate(outs) for b in outs[:i])
    with pytest.raises(ValueError, match="none of them has a temporal block in blocks.safetensors, which has 0, 1"):
        add(model, path, ((7, None),))


@in_depth
def test_two_nodes_in_a_row(case, pack, inference, built, make):
    """One node per half gives what one node gives; neither clone hears of the other."""
    model, add = built(case.build), pack.nodes.host.temporal_grafts.add_blocks
    path = make(model)
    first, _ = add(model, path, ((0, 0),))
    alone = sample(first, case)
    both, _ = add(first, path, ((1, 1),))
    assert same(sample(both, case), sample(add(model, path)[0], case))
    assert same(sample(first, case), alone) and not same(alone, sample(both, case))


@in_depth
def test_nothing_stays_after_errors(case, pack, inference, built, make):
    import comfy.model_management

    model = built(case.build)
    patched, _ = pack.nodes.host.temporal_grafts.add_blocks(model, make(model))
    before = sample(patched, case)

    def stop(*_):
        raise comfy.model_management.InterruptProcessingException

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(patched, case, steps=2, callback=stop)
    assert hooks(model) == 0 and not hasattr(model.model.diffusion_model, pack.nodes.host.hooks.ATTRIBUTE)
    comfy.model_management.unload_all_models()
    assert same(sample(patched.clone(), case), before)


@in_depth
@pytest.mark.parametrize("order", ["backend first", "blocks first"])
def test_backend_and_report_reach_the_blocks(case, order, pack, inference, built, make):
    model, rule = built(case.build), pack.attention.routing.rules.Rule("sdpa math", role="temporal")
    path, add, install = make(model), pack.nodes.host.temporal_grafts.add_blocks, pack.nodes.host.model_rules.add_rule
    both = add(install(model, rule), path)[0] if order == "backend first" else install(add(model, path)[0], rule)
    out = sample(both, case)
    rows = {(row.role, row.used): row.calls for row in pack.nodes.host.run_history.find(out).rows}
    assert rows["temporal", "sdpa math"] == 2
    truth = sample(add(model, path)[0], case)
    assert (out - truth).norm() <= 1e-5 * truth.norm()
    cleared = pack.nodes.host.model_rules.clear(both)
    assert same(sample(cleared, case), truth), "clearing the rules must leave the blocks"
    assert hooks(model) == 0


@in_depth
def test_every_call_of_the_blocks_is_announced(case, pack, inference, built, make):
    model = built(case.build)
    watched, seen = watch(pack.nodes.host.temporal_grafts.add_blocks(model, make(model))[0])
    sample(watched, case)
    calls = [call for call in seen if "vattn.site" in call.options]
    told = [pack.attention.routing.step_context.locate(call.options, call.q_len, call.kv_len) for call in calls]
    assert [(site.role, site.block, video_span.grid) for site, video_span in told] == [
        ("temporal", block, (case.grid[0], 1, 1)) for block in (0, 1)
    ]


def test_an_image_model_gets_frames_as_its_batch(pack, inference, built, make):
    """Three latents are one clip, for each of the two prompts: a frame hears of the others, a prompt of no other."""
    case = PLAIN["Flux"]
    model = built(case.build)
    clip = dataclasses.replace(case, latent=lambda: case.latent().repeat(3, 1, 1, 1))
    patched, _ = pack.nodes.host.temporal_grafts.add_blocks(model, make(model, frames="batch"))
    conditional, both = sample(patched, clip, cfg=1.0), sample(patched, clip, cfg=1.0 + 1e-6)
    assert conditional.shape[0] == 3 and not same(conditional, sample(model, clip))
    assert (both - conditional).norm() <= 1e-4 * conditional.norm(), "the negative prompt leaks into the positive one"
    assert (sample(patched, case)[0] - conditional[0]).norm() > 1e-3 * conditional[0].norm(), "frames ignore each other"


def test_frames_in_the_batch_need_images(pack, inference, built, make):
    model = built(PLAIN["Wan"].build)
    patched, _ = pack.nodes.host.temporal_grafts.add_blocks(model, make(model, frames="batch"))
    with pytest.raises(ValueError, match="a batch of 1 videos of 3 frames"):
        sample(patched, PLAIN["Wan"])
    assert hooks(model) == 0


def test_a_clone_for_another_gpu_has_blocks_of_its_own(pack, inference, make):
    """A second name of the CPU stands for the second GPU."""
    case = PLAIN["Wan"]
    model = case.build()
    model.cached_patcher_init = (case.build, ())
    patched, _ = pack.nodes.host.temporal_grafts.add_blocks(model, make(model))
    alone = sample(patched, case, cfg=3.0)
    second = patched.deepclone_multigpu(torch.device("cpu", 0))
    second.is_multigpu_base_clone = True
    patched.set_additional_models("multigpu", [second])
    patched.match_multigpu_clones()
    out = sample(patched, case, cfg=3.0)
    assert (out - alone).norm() <= 1e-5 * alone.norm() and not same(out, sample(model, case, cfg=3.0))
    (ours,), (theirs,) = (p.get_additional_models_with_key("video_attention.blocks.0") for p in (patched, second))
    assert ours.model is not theirs.model
    assert hooks(patched) == hooks(second) == 0


# --- files that do not fit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"channels": 40}, "b.safetensors has blocks of 40 channels, this model's tokens have 24."),
        ({"blocks": (0, 5)}, "b.safetensors has blocks behind 0, 5, this model has blocks 0 to 1."),
        ({"family": "LTXV"}, "b.safetensors was trained for LTXV, this model is Wan."),
    ],
)
def test_blocks_of_another_model_are_refused(changes, says, pack, inference, built, make):
    model = built(PLAIN["Wan"].build)
    with pytest.raises(ValueError) as error:
        pack.nodes.host.temporal_grafts.add_blocks(model, make(model, name="b.safetensors", **changes))
    assert str(error.value) == says


@pytest.mark.parametrize(("name", "says"), [("SVD", "added to SVD"), ("Cosmos", "added to Cosmos. They can to Cog")])
def test_families_without_streams_are_refused(name, says, pack, inference, built, make):
    path = make(built(PLAIN["Wan"].build))
    with pytest.raises(ValueError, match=f"^model: no blocks can be {says}"):
        pack.nodes.host.temporal_grafts.add_blocks(built(PLAIN[name].build), path)


def test_a_model_of_no_known_family_is_refused(pack, inference, built, make, monkeypatch):
    model = built(PLAIN["Wan"].build)
    path = make(model)
    monkeypatch.setattr(pack.nodes.host.model_family, "family_of", lambda patcher: None)
    with pytest.raises(ValueError, match="^model: no blocks can be added to WanModel"):
        pack.nodes.host.temporal_grafts.add_blocks(model, path)


def test_other_files_are_refused(pack, inference, built, tmp_path):
    from safetensors.torch import save_file

    from attention.blocks import CrossAttention, Dims

    model, path = built(PLAIN["Wan"].build), tmp_path / "c.safetensors"
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="^c.safetensors is no safetensors file: "):
        pack.nodes.host.temporal_grafts.add_blocks(model, path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="^c.safetensors holds no attention blocks: "):
        pack.nodes.host.temporal_grafts.add_blocks(model, path)
    weights.save(CrossAttention(Dims(8, 1, 8)), path)
    with pytest.raises(ValueError, match="^c.safetensors holds CrossAttention, not the temporal blocks of a model.$"):
        pack.nodes.host.temporal_grafts.add_blocks(model, path)


def test_the_node_finds_files_by_name(pack, inference, built, make, monkeypatch):
    import folder_paths

    model, node = built(PLAIN["Wan"].build), pack.nodes.temporal_blocks
    path, grafts = make(model), pack.nodes.host.temporal_grafts
    monkeypatch.setitem(folder_paths.folder_names_and_paths, grafts.FOLDER, ([str(path.parent)], set()))
    assert path.name in grafts.list_files()
    out = node.VideoAttentionTemporalBlocks.execute(model, path.name, blocks="0-")
    assert sample(out.args[0], PLAIN["Wan"]).isfinite().all()
    with pytest.raises(FileNotFoundError, match="no file 'gone.safetensors' in models/video_attention_blocks"):
        grafts.find_file("gone.safetensors")
    assert node.VideoAttentionTemporalBlocks.validate_inputs("0-1") is True
    assert "'x'" in node.VideoAttentionTemporalBlocks.validate_inputs("x")
