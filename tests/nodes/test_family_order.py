"""Where the tokens are, proven on ComfyUI's own models: what each input changes in the queries, before any mixing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import accumulate
from types import SimpleNamespace

import pytest
import tiny.case
import torch
from tiny import CASES
from tiny.case import SLOT, parts, sample, watch, with_sites

from attention.core.site import SELF, SPATIAL, TEMPORAL
from attention.core.tensor_layout import first_query_of
from attention.families.spec import ceil_div

PLACED = [case for case in CASES if case.grid is not None]
# Models that refine a latent and take no noise; models whose prompt modulates every token.
FROM_LATENT, MODULATED = ("Wan 2.1 FlowRVS",), ("Mochi 1",)
UNETS = [case for case in CASES if "spatial" in case.calls]


@pytest.fixture(scope="module")
def built():
    """(build) -> MODEL, each made once."""
    return cache(lambda build: build())


@pytest.fixture
def first_queries(pack, inference, built, monkeypatch):
    """(case, role, noise, text) -> (q, VideoSpan): q (..., tokens, channels) of the first call of that role; where the
    host does it in parts, of all of them.

    noise: changes the list of noise tensors in place. text: added to the prompt's embedding.
    """
    import comfy.sample

    locate = pack.attention.routing.step_context.locate
    make_noise, make_prompt = comfy.sample.prepare_noise, tiny.case.prompt

    def run(case, role=SELF, noise=lambda tensors: None, text=0.0):
        found = []

        def look(func, q, k, *args, **kwargs):
            begin = first_query_of(q, k, kwargs.get("skip_reshape", False))
            site, video_span = locate(kwargs["transformer_options"], q.shape[-2], k.shape[-2], begin)
            whole = found and sum(part.shape[-2] for part, _ in found) == getattr(found[0][1], "length", 0)
            if not whole and site.role == role and not isinstance(video_span, str) and (not found or video_span.part):
                found.append((q.clone(), video_span))
            return func(q, k, *args, **kwargs)

        def noisy(*args):
            made = make_noise(*args)
            noise(parts(made))
            return made

        watched = with_sites(pack, built(case.build))
        watched.model_options["transformer_options"][SLOT] = look
        with monkeypatch.context() as patch:
            patch.setattr(comfy.sample, "prepare_noise", noisy)
            patch.setattr(tiny.case, "prompt", lambda *args: [[t + text, more] for t, more in make_prompt(*args)])
            sample(watched, case)
        assert found, f"no {role} call with a place"
        return torch.cat([q for q, _ in found], dim=-2), found[0][1]

    return run


def moved(before, after) -> set[int]:
    """Tokens whose queries differ by more than rounding."""
    difference = (after - before).abs().transpose(-2, -1).flatten(0, -2).amax(0)
    return set((difference > 1e-3 * before.abs().max()).nonzero().flatten().tolist())


def neighbours(grid) -> list[tuple[int, int, int]]:
    """A place in the middle of the video and the next one along each axis: together they show all three strides."""
    at = tuple((length - 1) // 2 for length in grid)
    steps = [tuple(i + (axis == other) for other, i in enumerate(at)) for axis in range(3)]
    return [at, *(place for place in steps if all(i < length for i, length in zip(place, grid)))]


def size_of(case) -> tuple[int, int, int]:
    """(T, Y, X) of the case's latent."""
    shape = parts(case.latent())[0].shape
    return tuple(shape[2:]) if len(shape) == 5 else (1, *shape[2:])


def patch_of(case, video_span) -> list[int]:
    """Latent pixels along each axis of a token. Guides, keyframes and references are frames of their own: not of the
    video's."""
    size, grid = size_of(case), video_span.grid
    kinds = {span.kind for span in (*video_span.before, *video_span.after)}
    guided = case.ahead or kinds & {"guide", "keyframe"}
    return [1 if b >= a or (guided and axis == 0) else ceil_div(a, b) for axis, (a, b) in enumerate(zip(size, grid))]


def paint(video, size, pixels):
    """Changes those pixels of a latent (B, C, Y, X) or (B, C, T, Y, X) in place."""
    frames = video.view(*video.shape[:2], *size)
    for pixel in pixels:
        frames[(..., *pixel)] += 3


@pytest.mark.parametrize("case", PLACED, ids=str)
def test_a_pixel_changes_its_token_and_no_other(case, first_queries):
    """Before any attention a token knows its own patch alone, so the queries tell where each patch went."""
    before, video_span = first_queries(case)
    size, patch = size_of(case), patch_of(case, video_span)
    places = neighbours([min(ceil_div(a, p), b) for a, b, p in zip(size, video_span.grid, patch)])
    # The last pixel of a patch: copies of the first ones may pad the video at its end.
    pixels = [[min(i * p + p, n) - 1 for i, p, n in zip(at, patch, size)] for at in places]
    ahead = case.ahead + sum(span.length for span in video_span.before if span.kind == "keyframe") // (
        video_span.grid[1] * video_span.grid[2]
    )
    pixels = [[frame + ahead, *at] for frame, *at in pixels]
    if case.variant in FROM_LATENT:
        # Not zeros: the host takes those for an empty latent.
        grey, painted = case.latent() + 1, case.latent() + 1
        paint(painted, size, pixels)
        before, video_span = first_queries(replace(case, latent=lambda: grey))
        after, again = first_queries(replace(case, latent=lambda: painted))
    else:
        after, again = first_queries(case, noise=lambda noise: paint(noise[0], size, pixels))
    assert again == video_span
    _, rows, columns = video_span.grid
    assert moved(before, after) == {video_span.start + (t * rows + y) * columns + x for t, y, x in places}


def spans(video_span) -> dict[str, set[int]]:
    """The tokens of each kind."""
    ordered = [(s.kind, s.length) for s in video_span.before]
    ordered += [("video", video_span.stop - video_span.start)] + [(s.kind, s.length) for s in video_span.after]
    tokens: dict[str, set[int]] = {}
    for (kind, length), stop in zip(ordered, accumulate(length for _, length in ordered)):
        tokens.setdefault(kind, set()).update(range(stop - length, stop))
    return tokens


def changed(value):
    """The same with other numbers in every latent and embedding."""
    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim >= 3:
        return value + torch.randn(value.shape, generator=torch.Generator().manual_seed(3))
    if isinstance(value, (list, tuple)):
        return [changed(item) for item in value]
    if isinstance(value, dict):
        return {key: changed(item) for key, item in value.items()}
    if isinstance(value, SimpleNamespace):
        return SimpleNamespace(**changed(vars(value)))
    return value


def alterations(case):
    """(case, keyword arguments of first_queries), each with one input changed."""
    yield case, {"text": 3.0}
    for index in range(len(parts(case.latent()))):
        yield case, {"noise": lambda noise, index=index: noise[index].add_(3)}
    for frames in (slice(case.ahead), slice(case.ahead, None)) if case.ahead else ():
        yield case, {"noise": lambda noise, frames=frames: noise[0][:, :, frames].add_(3)}
    if "noise_mask" in case.options:

        def latent():
            made = case.latent()
            parts(made)[0].add_(3)
            return made

        yield replace(case, latent=latent), {}
    slots = case.conditioning().get("generated_keyframes")
    if slots is not None:
        # They are frames of the latent, as the clip's own.
        first = slots["first_latent_frame"]
        stop = first + slots["num_keyframes"]
        for frames in (slice(first, stop), slice(0, first) if first else slice(stop, None)):
            yield case, {"noise": lambda noise, frames=frames: noise[0][:, :, frames].add_(3)}
    for key, value in case.conditioning().items():
        yield replace(case, conditioning=lambda key=key, value=value: {**case.conditioning(), key: changed(value)}), {}


@pytest.mark.parametrize("case", [case for case in PLACED if case.before or case.after], ids=str)
def test_each_span_has_an_input_of_its_own(case, first_queries):
    """For every kind of token there is an input that changes tokens of that kind and no others."""
    before, video_span = first_queries(case)
    moves = [moved(before, first_queries(other, **change)[0]) for other, change in alterations(case)]
    for kind, tokens in spans(video_span).items():
        if kind == "text" and case.variant in MODULATED:
            continue
        assert any(move and move <= tokens for move in moves), f"nothing moves only {kind}: {moves}"


@pytest.fixture
def first_block(built):
    """(case) -> the transformer whose first block is the first to attend inside frames, its group norm taken out.

    Convolutions and group norms mix a U-Net's pixels: only behind them does a pixel stay one token.
    """
    kept = []

    def find(case):
        model = built(case.build).model.diffusion_model
        transformers = (m for m in model.modules() if hasattr(m, "transformer_blocks"))
        found = next(m for m in transformers if not m.transformer_blocks[0].disable_self_attn)
        kept.append((found, found.norm))
        found.norm = torch.nn.Identity()
        return found

    yield find
    for transformer, norm in kept:
        transformer.norm = norm


@pytest.mark.parametrize("case", UNETS, ids=str)
def test_a_unet_folds_its_frames_into_the_batch(case, first_queries, first_block):
    transformer = first_block(case)
    before = {role: first_queries(case, role) for role in (SPATIAL, TEMPORAL) if role in case.calls}
    frames = len(before[SPATIAL][0])
    _, rows, columns = before[SPATIAL][1].grid
    for frame, y, x in {(0, 0, columns - 1), (frames - 1, rows - 1, 0)}:

        def change(module, args, at=(frame, slice(None), y, x)):
            args[0][at] += 3

        handle = transformer.register_forward_pre_hook(change)
        after = {role: first_queries(case, role)[0] for role in before}
        handle.remove()
        difference = (after[SPATIAL] - before[SPATIAL][0]).abs().amax(-1)
        assert (difference > 1e-3).nonzero().tolist() == [[frame, y * columns + x]]
        if TEMPORAL in before:
            queries, video_span = before[TEMPORAL]
            assert moved(queries, after[TEMPORAL]) == {frame % video_span.grid[0]}


@pytest.mark.parametrize("case", UNETS, ids=str)
def test_every_level_of_a_unet_has_its_grid(case, pack, inference, built):
    """The host itself tells the shape (frames, channels, Y, X) of what a transformer reads."""
    watched, seen = watch(with_sites(pack, built(case.build)))
    sample(watched, case)
    located = [
        (call, *pack.attention.routing.step_context.locate(call.options, call.q_len, call.kv_len)) for call in seen
    ]
    folded = [(call, site.role, video_span) for call, site, video_span in located if site.role in (SPATIAL, TEMPORAL)]
    assert len(folded) == case.calls["spatial"] + case.calls.get("temporal", 0)
    for call, role, video_span in folded:
        _, _, rows, columns = call.options["activations_shape"]
        assert video_span.grid == ((1, rows, columns) if role == SPATIAL else (len(case.latent()), 1, 1))
