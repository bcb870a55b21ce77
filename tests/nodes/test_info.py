"""What Video Attention Model Info says, beside what the host's own models really compute."""

from __future__ import annotations

import dataclasses
import functools
import math
from types import SimpleNamespace

import pytest
import torch
from tiny import CASES, plain
from tiny.case import parts, sample
from widget_defaults import defaults

from attention.core.site import SELF
from attention.inspect import info

# The plain case of each family whose share can be told.
PLAIN = {name: case for name, case in plain().items() if SELF in case.calls and case.unplaced is None}


@pytest.fixture(scope="module")
def built(pack):
    return functools.cache(lambda build: build())


def examined(pack, model, tokens=None):
    family = pack.nodes.host.model_family.family_of(model)
    return pack.attention.inspect.info.examine(model.model.diffusion_model, family, tokens)


def multiplications(model, case, roots) -> int:
    """Of all linear layers inside the blocks `roots`, in one model evaluation."""
    total, hooks = [], []
    for name, module in model.model.diffusion_model.named_modules():
        weight = getattr(module, "weight", None)
        if info._root(name) in roots and weight is not None and weight.ndim == 2:
            count = lambda m, _, out: total.append(out.numel() // out.shape[-1] * m.weight.numel())  # noqa: E731
            hooks.append(module.register_forward_hook(count))
    sample(model, case)
    for hook in hooks:
        hook.remove()
    return sum(total)


def wider(case):
    """The case with a latent three times as wide: (the case, how many times the tokens)."""

    def latent():
        first, *rest = parts(case.latent())
        first = torch.cat([first] * 3, dim=-1)
        return type(case.latent())([first, *rest]) if rest else first

    return dataclasses.replace(case, latent=latent)


@pytest.mark.parametrize("name", PLAIN)
def test_weights_per_token_are_those_that_a_token_meets(name, pack, inference):
    """Three times the video's tokens and the same prompt: what is multiplied more is what a token costs."""
    case = PLAIN[name]
    model = case.build()
    network = model.model.diffusion_model
    family = pack.nodes.host.model_family.family_of(model)
    sites = list(family.sites(network))
    names = {id(module): name for name, module in network.named_modules()}
    roots = {info._root(names[id(module)]) for module, role, _ in sites if role == SELF}
    more = multiplications(model, wider(case), roots) - multiplications(model, case, roots)
    # The reference in front of the clip is as wide.
    tokens = (case.grid[0] + case.ahead) * math.prod(case.grid[1:]) * 2
    if case.grid[2] * 3 != wider_grid(pack, model, wider(case))[2]:
        pytest.skip("the tiny latent is padded: three times as wide is not three times the tokens")
    assert pack.attention.inspect.info.weights_per_token(network, family) == pytest.approx(
        more / tokens / len(roots), rel=0.01
    )


def wider_grid(pack, model, case):
    return pack.nodes.host.model_family.tokens_of_latent(model, case.latent()).grid


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_amdahl(share):
    assert info.step_speedup(share, 1.0) == pytest.approx(1.0)
    assert info.step_speedup(share, math.inf) == pytest.approx(1 / (1 - share))
    assert 1.0 < info.step_speedup(share, 2.0) < info.step_speedup(share, 4.0) < 1 / (1 - share)


def test_share_at_real_sizes():
    """NVIDIA measured 70.3 % of the time of Wan 2.1 14B at 720p in attention; the arithmetic says a little more."""
    wan = info.Info("WanModel", "Wan", roles=(SELF,), heads=40, head_dim=128, width=5.7, grid=(21, 45, 80))
    assert wan.tokens == 75600
    assert wan.share == pytest.approx(0.72, abs=0.005)


def node(pack, model, latent=None):
    return pack.nodes.info.VideoAttentionInfo.execute(model, latent).args


def test_the_node_tells_the_grid_of_a_latent(pack, tiny_ltxv, inference):
    text, picture = node(pack, tiny_ltxv, {"samples": torch.zeros(1, 128, 5, 6, 7)})
    assert text.startswith("LTXV (LTXVModel): blocks 0-1, 2 heads of 24\nReached: self, cross\n")
    assert "This latent: 5 x 6 x 7 = 210 tokens (time x height x width)" in text
    # 210 tokens, 48 channels, c = 7.
    assert f"share of the arithmetic: {210 / (210 + 7 * 48):.0%}\n" in text
    assert picture.ndim == 4 and picture.shape[-1] == 3 and 0 <= picture.min() < picture.max() <= 1


def test_the_node_without_a_latent(pack, tiny_ltxv, inference):
    text, _ = node(pack, tiny_ltxv)
    assert "This latent" not in text and "share" not in text


def test_the_node_on_an_unknown_model(pack, tiny_ltxv, inference, monkeypatch):
    monkeypatch.setattr(pack.nodes.host.model_family, "find", lambda name: None)
    text, _ = node(pack, tiny_ltxv, {"samples": torch.zeros(1, 128, 5, 6, 7)})
    assert text.startswith("LTXVModel is no family this pack knows.")


def test_the_node_on_a_model_out_of_reach(pack, tiny_ltxv, inference, monkeypatch):
    seedvr2 = pack.attention.families.find("NaDiT")
    monkeypatch.setattr(pack.nodes.host.model_family, "find", lambda name: seedvr2)
    text, _ = node(pack, tiny_ltxv)
    assert "is not supported: " in text
    backend = pack.nodes.backend.VideoAttentionBackend
    widgets = defaults(backend)
    shown = backend.execute(tiny_ltxv, **widgets).ui.as_dict()
    assert shown["text"][0].startswith("not supported: ")
    with pytest.raises(ValueError, match="^model: SeedVR2 is not supported: .* Bypass this node.$"):
        backend.execute(tiny_ltxv, **{**widgets, "on_unsupported": "error"})


@pytest.mark.parametrize("name", PLAIN)
def test_every_family_has_heads_and_blocks(name, pack, inference):
    case = PLAIN[name]
    model = case.build()
    found = examined(pack, model, pack.nodes.host.model_family.tokens_of_latent(model, case.latent()))
    assert found.heads > 0 and found.head_dim > 0 and found.width > 1
    assert found.grid == case.grid
    assert found.roles and set(found.roles) >= set(case.calls)
    assert 0 < found.share < 1


@pytest.mark.parametrize("name", plain())
def test_a_rule_says_so_exactly_when_it_covers_none_of_a_model(pack, inference, name):
    """Beside the model's own sites, for every role and for blocks inside and outside."""
    case = plain()[name]
    network = case.build().model.diffusion_model
    family = pack.nodes.host.model_family.family_of(SimpleNamespace(model=SimpleNamespace(diffusion_model=network)))
    rules, site = pack.attention.routing.rules, pack.attention.core.site
    sites = [site.AttentionSite(family.name, role, block) for role, block in family.roles_of(network)]
    for role in (rules.ALL_ROLES, *site.ROLES):
        for text in ("", "0", "0-", "90-99", "1-2,90"):
            rule = rules.Rule("sdpa", role, rules.parse_blocks(text))
            said = pack.attention.inspect.info.idle(network, family, rule)
            covers = any(map(rule.covers, sites)) or bool(family.unsupported)
            assert (said is None) == covers, (role, text, said)
            if said and any(map(rules.Rule(role=role).covers, sites)):
                inside = any(s.block is not None for s in sites if rules.Rule(role=role).covers(s))
                where = f"blocks of {family.name} are " if inside else f"{role}-attention is in no block"
                assert said.startswith(f"Covers nothing: {where}")
            elif said:
                assert said == f"Covers nothing: {family.name} has no {role}-attention."


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rule_for_what_a_model_does_never_says_that_it_covers_nothing(pack, built, case):
    """Also roles that only the numbers of queries and keys tell: image tokens, a pose video's branch."""
    network = built(case.build).model.diffusion_model
    family = pack.attention.families.find(type(network).__name__)
    for role in case.calls:
        assert (
            pack.attention.inspect.info.idle(network, family, pack.attention.routing.rules.Rule("sdpa", role)) is None
        )
    assert set(case.calls) <= {role for role, _ in family.roles_of(network)}


def test_a_model_without_image_tokens_has_no_role_for_them(pack, built):
    network = built(plain()["Wan"].build).model.diffusion_model
    said = pack.attention.inspect.info.idle(
        network, pack.attention.families.find("WanModel"), pack.attention.routing.rules.Rule(role="image")
    )
    assert "Wan has no image-attention" in said


@pytest.mark.parametrize("variant", ["LTX-2", "LTX-2.3", "LTX-2.5"])
def test_a_release_is_called_by_its_name(pack, built, variant):
    model = next(case.build for case in CASES if case.variant == variant)()
    assert pack.nodes.host.model_rules.status(model) == f"{variant}: blocks and grid known"
    assert info.to_text(examined(pack, model)).startswith(f"{variant} (LTXAVModel)")


def test_blocks_of_a_model_nobody_knows_cover_nothing(pack):
    network, rules, idle = torch.nn.Linear(1, 1), pack.attention.routing.rules, pack.attention.inspect.info.idle
    assert idle(network, None, rules.Rule("sdpa")) is None
    assert "blocks of Linear are unknown" in idle(network, None, rules.Rule("sdpa", blocks=((0, 1),)))


def test_nodes_tell_that_they_cover_nothing(lab):
    def shown(node, **widgets):
        return node.execute(**{**defaults(node), "model": lab.model, **widgets}).ui.as_dict()["text"][0]

    nodes = lab.pack.nodes
    silent = {
        nodes.backend.VideoAttentionBackend: {"role": "spatial", "backend": "sdpa"},
        nodes.pattern.VideoAttentionStrength: {"blocks": "90-99", "temperature": 0.5},
        nodes.guidance.VideoAttentionEnhance: {"blocks": "90-99"},
        nodes.guidance.VideoAttentionNormalizedAttentionGuidance: {"blocks": "90-99", "negative": lab.prompt[1]},
        nodes.pattern.VideoAttentionPattern: {"blocks": "90-99", "pattern": {"pattern": "spatial"}},
    }
    for node, widgets in silent.items():
        words = "Covers nothing: "
        assert words in shown(node, **widgets), node
        assert words not in shown(node, **{k: v for k, v in widgets.items() if k not in ("role", "blocks")}), node


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("MiniMax-H3", "124 pictures at 24 a second, scheduler simple, patterns from 40% to 90%"),
        ("LTX-2.3", "scheduler ltxv, STG in block 28, patterns from 20% to 100%"),
        ("LTX-2.5", "scheduler ltxv, STG in block 29,"),
        ("Wan 2.2 TI2V 5B", "121 pictures at 24 a second"),
        ("Wan 2.2 S2V", "77 pictures at 16 a second"),
    ],
)
def test_it_says_what_such_models_are_sampled_with(variant, words, pack, built, inference):
    case = next(case for case in CASES if case.variant == variant)
    assert f"Usual: {words}" in pack.attention.inspect.info.to_text(examined(pack, built(case.build)))


NO_SAGE = "sage cannot run here: needs cuda, the tensors are on cpu."


@pytest.mark.parametrize("backend, widgets, said", [
    ("sage", {}, f"{NO_SAGE} ComfyUI's own attention runs in its place."),
    ("sage", {"on_unsupported": "error"}, f"{NO_SAGE} The sampler will stop."),
    ("sdpa", {}, "LTXV: blocks and grid known"),
    ("auto", {}, "LTXV: blocks and grid known"),
    ("host default", {}, "LTXV: blocks and grid known"),
    # What it covers comes first: nothing will be asked of sage at all.
    ("sage", {"blocks": "90-99"}, "Covers nothing: blocks of LTXV are 0-1."),
])  # fmt: skip
def test_a_node_says_what_cannot_run_before_anything_runs(backend, widgets, said, pack, tiny_ltxv, monkeypatch):
    monkeypatch.setitem(pack.attention.backends.registry._LOADED, "sage", lambda *args, **kwargs: None)
    node = pack.nodes.backend.VideoAttentionBackend
    out = node.execute(tiny_ltxv, **{**defaults(node), "backend": backend, **widgets})
    assert out.ui.as_dict()["text"] == (said,)


def test_tokens_by_kind_and_memory_by_kernel(lab, pack):
    """With a prompt and its latent: before anything runs."""
    latent, prompt = {"samples": torch.zeros(1, 128, 4, 8, 8)}, [[torch.zeros(1, 77, 32), {}]]
    execute = pack.nodes.info.VideoAttentionInfo.execute
    text = execute(lab.model, latent, prompt).args[0]
    assert "Tokens: video 256, text 77." in text and "One call of self-attention (1x2 heads, 256x256 tokens" in text
    assert " MiB on sdpa, sdpa flash; " in text
    alone = execute(lab.model, latent).args[0]
    assert "Tokens: video 256, text by the prompt." in alone
    assert "Tokens:" not in execute(lab.model).args[0]
