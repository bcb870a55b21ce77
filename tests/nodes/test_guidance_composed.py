"""Guidance together with CFG, other guidance, kernels and patterns; what stops it, and what it leaves behind."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from guiding import PLAIN, error, guided, prompted, run, same
from tiny.case import SLOT, parts, prompt, sample
from widget_defaults import defaults

HOOKS = "_video_attention_hooks"


@pytest.fixture(scope="module")
def built(pack):
    return functools.cache(lambda name: PLAIN[name].build())


def hooks(model) -> int:
    return sum(
        len(m._forward_pre_hooks) + len(m._forward_hooks) + hasattr(m, HOOKS)
        for m in model.model.diffusion_model.modules()
    )


# --- a negative prompt with CFG, without one, of another length -------------------------------------------------------


@pytest.mark.parametrize("name", ["LTX-2", "Wan", "LTXV"])
def test_only_positive_rows_of_a_batch_are_guided(name, pack, built, inference):
    """With CFG the host puts both prompts into one batch: the negative one must come out as without guidance."""
    case, model = PLAIN[name], built(name)
    positive, negative = prompt(case, 1), prompt(case, 2)
    on = guided(pack, "nag", model)
    out = prompted(on, case, positive, negative, cfg=3.0)
    strong, weak = prompted(on, case, positive, negative), prompted(model, case, negative)
    plain = prompted(model, case, positive, negative, cfg=3.0)
    for got, s, w, p in zip(parts(out), parts(strong), parts(weak), parts(plain), strict=True):
        expected = w + 3.0 * (s - w)
        assert error(got, expected) <= max(0.01 * error(p, expected), 2e-6) and error(p, expected) > 1e-4


def test_the_prompt_connected_to_the_node_comes_first(pack, built, inference):
    """Also where it is longer than the prompt, and where one of them has a mask."""
    case, model = PLAIN["LTXV"], built("LTXV")
    positive, other = prompt(case, 1), prompt(case, 2)
    random = torch.Generator().manual_seed(5)
    tokens, mask = torch.randn(1, 11, 16, generator=random), torch.ones(1, 11, dtype=torch.long)
    mask[:, 8:] = 0
    longer = [[tokens, {**case.conditioning(), "attention_mask": mask}]]
    cut = [[tokens[:, :8], {**case.conditioning(), "attention_mask": mask[:, :8]}]]
    outs = [prompted(guided(pack, "nag", model, negative=n), case, positive, other) for n in (longer, cut, other)]
    assert error(outs[0], outs[1]) < 2e-6 < 1e-4 < error(outs[0], outs[2])
    assert same(outs[2], prompted(guided(pack, "nag", model), case, positive, other))


def test_it_says_when_there_is_no_negative_prompt(pack, built, inference):
    import comfy.samplers

    case, model = PLAIN["Wan"], built("Wan")
    plain = []
    for each in (model, guided(pack, "nag", model)):
        guider = comfy.samplers.CFGGuider(each)
        guider.inner_set_conds({"positive": prompt(case, 1)})
        noise = torch.randn(case.latent().shape, generator=torch.Generator().manual_seed(0))
        sigmas = torch.tensor([1.0, 0.0])
        plain.append(guider.sample(noise, case.latent(), comfy.samplers.sampler_object("euler"), sigmas, seed=1))
    assert same(*plain)
    notes = pack.nodes.host.run_history.find(plain[1]).notes
    assert notes == ("Normalised attention guidance had no negative prompt: connect one to its node.",)


def test_it_stays_off_under_another_override(pack, built, inference):
    """What does not split the two prompts would attend to both: never lengthen the prompt for it."""
    case, model = PLAIN["Wan"], built("Wan")

    def foreign(func, *args, **kwargs):
        return func(*args, **kwargs)

    covered = guided(pack, "nag", model).clone()
    covered.model_options["transformer_options"][SLOT] = foreign
    out = sample(covered, case, cfg=3.0)
    (line, *_) = pack.nodes.host.run_history.find(out).notes
    assert same(out, sample(model, case, cfg=3.0))
    assert line == (
        "Normalised attention guidance is off: another node set its own attention behind it: place Video Attention's "
        "nodes last."
    )


@pytest.mark.parametrize("name", ["Wan", "LTX-2"])
def test_only_the_named_calls_to_the_prompt_are_doubled(name, pack, built, inference):
    case, model, seen = PLAIN[name], built(name).clone(), []

    def look(func, q, k, v, heads, *args, **kwargs):
        site = kwargs["transformer_options"]["vattn.site"]
        seen.append((site.role, site.block, k.shape[-2]))
        return func(q, k, v, heads, *args, **kwargs)

    model.model_options["transformer_options"][SLOT] = look
    sample(guided(pack, "nag", model, blocks="1", audio=False), case)
    assert seen.count(("cross", 0, 7)) == 1 and seen.count(("cross", 1, 7)) == 2
    assert all(seen.count(call) == 1 for call in seen if call[:2] != ("cross", 1))


# --- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LTX-2", "Wan"])
def test_any_order_with_kernels_and_patterns(name, pack, built, inference):
    case, model, nodes = PLAIN[name], built(name), pack.nodes

    def widgets(node, **given):
        return defaults(node) | given

    def kernel(m):
        node = nodes.backend.VideoAttentionBackend
        return node.execute(m, **widgets(node, backend="reference")).args[0]

    def pattern(m):
        node = nodes.pattern.VideoAttentionPattern
        given = widgets(node, start_percent=0.0, min_tokens=0, auto_choice="table order")
        return node.execute(m, pattern={"pattern": "spatial"}, **given).args[0]

    def warmer(m):
        return nodes.pattern.VideoAttentionStrength.execute(m, 0.7, 0.0, "self", "", 0.0, 1.0).args[0]

    steps = {
        "stg": lambda m: guided(pack, "stg", m, blocks="1", scale=2.0),
        "nag": lambda m: guided(pack, "nag", m),
        "enhance": lambda m: guided(pack, "enhance", m),
        "kernel": kernel, "pattern": pattern, "warmer": warmer,
    }  # fmt: skip
    orders = [list(steps), list(reversed(steps)), ["nag", "kernel", "stg", "warmer", "pattern", "enhance"]]
    outs = [sample(functools.reduce(lambda m, s: steps[s](m), order, model), case, cfg=3.0) for order in orders]
    report = pack.nodes.host.run_history.find(outs[0])
    used = {(row.role, row.used.split(" (")[0]) for row in report.rows}
    assert {
        ("self", "spatial"),
        ("cross", "reference"),
        ("self", "Spatiotemporal guidance: values as they are"),
    } <= used
    assert error(outs[1], outs[0]) < 1e-6 and error(outs[2], outs[0]) < 1e-6
    for missing in steps:
        rest = functools.reduce(lambda m, s: m if s == missing else steps[s](m), steps, model)
        apart = error(sample(rest, case, cfg=3.0), outs[0])
        assert (apart < 1e-5) if missing == "kernel" else apart > 1e-5, f"{missing} takes part"


def test_two_strengths_in_a_row_both_hold(pack, built, inference):
    case, model = PLAIN["LTXV"], built("LTXV")

    def strength(m, temperature, cross_frame):
        node = pack.nodes.pattern.VideoAttentionStrength
        return node.execute(m, temperature, cross_frame, "self", "", 0.0, 1.0).args[0]

    once = sample(strength(model, 0.5, 50.0), case)
    assert same(sample(strength(guided(pack, "enhance", model), 0.5, 0.0), case), once)
    assert same(sample(guided(pack, "enhance", strength(model, 0.5, 0.0)), case), once)


# --- beside what others do --------------------------------------------------------------------------------------------


def test_every_window_has_its_own_pass(pack, built, inference):
    """ComfyUI's context windows: two of one latent frame each, so two calls, and each away from its own."""
    import comfy.context_windows as windows

    model = built("LTXV").clone()
    model.model_options["context_handler"] = windows.IndexListContextHandler(
        context_schedule=windows.get_matching_context_schedule(windows.ContextSchedules.STATIC_STANDARD),
        fuse_method=windows.get_matching_fuse_method(windows.ContextFuseMethods.PYRAMID),
        context_length=1, context_overlap=0, dim=2,
    )  # fmt: skip
    case = PLAIN["LTXV"]
    frames = case.latent().shape[2]
    out = sample(guided(pack, "stg", model, blocks="1"), case)
    assert pack.nodes.host.run_history.find(out).notes == (f"Spatiotemporal guidance: {frames} model calls more.",)
    assert error(sample(model, case), out) > 1e-4


def test_easycache_tells_the_passes_apart(pack, built, inference):
    from comfy_extras.nodes_easycache import EasyCacheNode

    case, seen = PLAIN["Wan"], []
    model = built("Wan").clone()

    def look(func, *args, **kwargs):
        options = kwargs["transformer_options"]
        seen.append((options["vattn.context"].perturbation, *options["uuids"]))
        return func(*args, **kwargs)

    model.model_options["transformer_options"][SLOT] = look
    on = guided(pack, "pag", guided(pack, "stg", model, scale=1.0), scale=1.0)
    sample(on, case, steps=3)
    names = {extra: {call[1:] for call in seen if call[0] is extra} for extra, *_ in seen}
    assert len(names) == 3 and all(len(found) == 1 for found in names.values()), "one name for all steps"
    assert len(set.union(*names.values())) == 3
    cached = EasyCacheNode.execute(on, 3.0, 0.0, 1.0, False).args[0]
    assert torch.isfinite(sample(cached, case, steps=8)).all()


# --- RIFLEx ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Wan", "HunyuanVideo"])
def test_positions_of_longer_clips_turn_slower(name, pack, built, inference):
    case, model = PLAIN[name], built(name)
    inner, tables = model.model.diffusion_model, []
    embedder = inner.rope_embedder if name == "Wan" else inner.pe_embedder
    on = guided(pack, "riflex", model)

    def look(module, args, out):
        tables.append((args[0], out))

    plain = sample(model, case)
    on.add_callback_with_key("on_pre_run", "look", lambda patcher: patcher.model_options.update(
        look=embedder.register_forward_hook(look)))  # fmt: skip
    out = sample(on, case)
    on.model_options.pop("look").remove()
    ids, table = tables[0]
    original = embedder(ids)
    angle = ids[..., 0].float() * 0.9 * 2 * torch.pi / case.grid[0]
    assert torch.allclose(table[0, 0, :, 0, 0, 0], angle[0].cos(), atol=1e-6)
    assert torch.allclose(table[0, 0, :, 0, 1, 0], angle[0].sin(), atol=1e-6)
    assert torch.equal(table[..., 1:, :, :], original[..., 1:, :, :]) and not torch.equal(table, original)
    assert not same(out, plain)
    assert hooks(model) == 0
    short = guided(pack, "riflex", model, trained_frames=9)
    assert same(sample(short, case), plain), "a clip of trained length"


def test_positions_of_cogvideox(pack, built, inference):
    case, model = PLAIN["CogVideoX"], built("CogVideoX")
    inner, on = model.model.diffusion_model, guided(pack, "riflex", model)
    tables = []
    on.add_callback_with_key("on_pre_run", "look", lambda p: tables.append(inner._get_rotary_emb(2, 3, 5, "cpu")))
    sample(on, case)
    assert "_get_rotary_emb" not in vars(inner)
    for got, plain, make in zip(tables[0], inner._get_rotary_emb(2, 3, 5, "cpu"), (torch.cos, torch.sin), strict=True):
        frames = torch.arange(30) // 6
        assert torch.allclose(got[:, 0], make(frames * 0.9 * 2 * torch.pi / 5), atol=1e-6)
        assert torch.equal(got[:, 1:], plain[:, 1:])


REFUSED = (
    ("riflex", "LTX-2", {}, "model: RIFLEx cannot lengthen the clips of LTX-2: its frequencies over time differ from "),
    ("riflex", "Wan", {"frequency": 0}, "frequency: 6 is more than the 2 that Wan has over time."),
    ("nag", "HunyuanVideo", {}, "model: HunyuanVideo has no cross-attention to guide. Bypass this node."),
    ("nag", "Kandinsky 5", {}, "model: Normalised attention guidance cannot guide Kandinsky 5: its prompt's tokens "),
    ("nag", "SVD", {}, "model: Normalised attention guidance cannot guide SVD: it takes an image for its prompt"),
    ("stg", "Wan", {"blocks": "7-9"}, "blocks: '7-9' names none of this model's blocks, which are 0-1."),
    ("pag", "Wan", {"start_percent": 0.5, "end_percent": 0.5}, "start_percent: 0.5 must be below end_percent"),
)


@pytest.mark.parametrize(("kind", "name", "widgets", "sentence"), REFUSED)
def test_what_cannot_be_says_so_at_once(kind, name, widgets, sentence, pack, built, inference):
    with pytest.raises(ValueError) as told:
        guided(pack, kind, built(name), **widgets)
    assert str(told.value).startswith(sentence)


def test_lengths_that_are_known(pack, built, inference):
    model = built("Wan")
    assert "clips of more than 81 frames" in run(pack, "riflex", model, trained_frames=0)[1]
    assert "clips of more than 121 frames" in run(pack, "riflex", model, trained_frames=121)[1]
    assert "clips of more than 129 frames" in run(pack, "riflex", built("HunyuanVideo"), trained_frames=0)[1]


# --- nothing stays ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [*itertools.combinations(("stg", "nag", "riflex"), 2), ("nag", "riflex", "stg")])
def test_nothing_is_left_after_an_error(kinds, pack, built, inference):
    case, model = PLAIN["Wan"], built("Wan")
    truth = sample(model, case, steps=2, cfg=3.0)
    on = functools.reduce(lambda m, kind: guided(pack, kind, m), kinds, model)

    def stop(*args):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        sample(on, case, steps=2, cfg=3.0, callback=stop)
    assert hooks(model) == 0
    assert not same(sample(on, case, steps=2, cfg=3.0), truth)
    assert hooks(model) == 0 and same(sample(model, case, steps=2, cfg=3.0), truth)
