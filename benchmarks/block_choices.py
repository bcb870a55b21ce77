"""Ways to choose key blocks and to count the others, by error at equal density: what won is in patterns/blocks.py.

    python -m benchmarks.block_choices [--grid T,Y,X] [--heads H] [--head-dim D] [--keep 20] [--seeds N] [--threads N]
                                       [--demo scenes|small] [--out FILE]

Dense attention with each way's mask, in float32, beside float32 without one: relative L2 over all queries. Every way
sees `keep` percent of the keys of each block of queries. The time of choosing is measured; that of attending is alike.
`--demo`: a demo model's own q, k, v; the small one's in smaller blocks, since it has 512 tokens.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import date
from pathlib import Path

import torch

from attention.core.grid import CUBE, TILE, order

from .inputs import draw
from .shapes import Shape

ROUNDS = 4  # of k-means
# Demo model -> cubes of tokens, queries of a block, keys of one.
BLOCKS = {"scenes": (CUBE, 128, 64), "small": ((2, 2, 4), 32, 16)}


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        text = table(options)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=lambda text: tuple(map(int, text.split(","))), default=(8, 16, 16))
    for name, value in {"heads": 2, "head-dim": 64, "keep": 20, "seeds": 3, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--demo", choices=list(BLOCKS))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def table(options) -> str:
    """Markdown: a row for each way."""
    found: dict[str, list] = {}
    for q, k, v, queries, keys in inputs(options):
        truth = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
        for way, choose in WAYS.items():
            begin = time.process_time()
            bias = choose(q, k, options.keep / 100, queries, keys)
            took = time.process_time() - begin
            error = relative(attend(q, k, v, *bias), truth)
            found.setdefault(way, []).append((error, took))
    first = statistics.fmean(error for error, _ in found[next(iter(WAYS))])
    rows = ["| way | relative L2 | beside the first | choosing, ms |", "| --- | --- | --- | --- |"]
    for way, each in found.items():
        error = statistics.fmean(e for e, _ in each)
        took = statistics.median(t for _, t in each) * 1e3
        rows.append(f"| {way} | {error:.3f} | {error / first - 1:+.0%} | {took:.1f} |")
    return "\n".join([*rows, "", f"{date.today()}, {options.threads} thread(s)."])


def inputs(options):
    """(q, k, v, queries of a block, keys of one): tensors (1, H, N, D), in cubes of near tokens."""
    if options.demo:
        yield from demo(options)
        return
    to = order(options.grid, TILE, CUBE)[0]
    shape = Shape("", options.grid, options.heads, options.head_dim)
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        q, k, v = draw(shape, torch.device("cpu"), torch.float32)
        yield q[:, :, to], k[:, :, to], v[:, :, to], 128, 64


def demo(options):
    """A demo model's self-attention in the middle of a sampling."""
    from . import demo_model, host_paths

    host_paths.enter(cpu=True)
    testbed, runs = demo_model.TESTBEDS[options.demo], host_paths.ours("runs.sampling_job")
    cube, queries, keys = BLOCKS[options.demo]
    model, kept, steps = testbed.load(), [], 12

    def look(func, q, k, v, heads, mask=None, **kw):
        if q.shape == k.shape and kw.get("skip_reshape") is not True:
            kept.append([t.unflatten(-1, (heads, -1)).transpose(1, 2).float() for t in (q, k, v)])
        return func(q, k, v, heads, mask=mask, **kw)

    watched = model.clone()
    watched.model_options.setdefault("transformer_options", {})["optimized_attention_override"] = look
    to = order(testbed.shape[2:], TILE, cube)[0]
    for seed, words in enumerate(testbed.unseen(options.seeds)):
        kept.clear()
        runs.run(testbed.job_of(watched, words, seed, steps), lambda *step: None)
        some = kept[len(kept) // 3 :: max(1, len(kept) // 8)]
        for q, k, v in some:
            yield q[:1, :, to], k[:1, :, to], v[:1, :, to], queries, keys


# --- ways: each gives what is added to the scores of single keys, and None or (keys, values, weights) of the others ---


def pooled(x, size):
    return x.unflatten(2, (-1, size)).mean(3)


def seen_of(scores, keep: float):
    number = max(1, round(scores.shape[-1] * keep))
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, scores.topk(number, -1).indices, True)


def spread(seen, queries: int, keys: int):
    return seen.repeat_interleave(queries, 2).repeat_interleave(keys, 3)


def by_means(q, k, keep, queries, keys, tail=False, second=False, weighted=False, shifted=False):
    """Mean queries times mean keys; `second`: and half the variance of the scores within the block of keys. `weighted`:
    the others' means count by that variance; `shifted`: their mean values lean to what the mean query looks for."""
    scale = q.shape[-1] ** -0.5
    means_q, means_k = pooled(q, queries), pooled(k, keys)
    scores = means_q @ means_k.mT * scale
    variance = pooled(k.square(), keys) - means_k.square()
    extra = 0.5 * (means_q.square() @ variance.mT) * scale**2
    seen = seen_of(scores + extra if second else scores, keep)
    rest = (extra if weighted else torch.zeros_like(extra), means_q if shifted else None) if tail else None
    return seen, queries, keys, rest


def by_clusters(q, k, keep, queries, keys, tail=False):
    """SVG2 (https://arxiv.org/abs/2505.18875): k-means of the keys of each head, clusters seen whole in turn until
    `keep` of the keys are seen; queries in their cubes."""
    scale, count = q.shape[-1] ** -0.5, k.shape[2] // keys
    centres = pooled(k, keys)
    for _ in range(ROUNDS):
        nearest = torch.cdist(k, centres).argmin(-1)
        one = torch.nn.functional.one_hot(nearest, count).to(k.dtype)
        sizes = one.sum(2)
        centres = torch.where(sizes[..., None] > 0, one.mT @ k / sizes.clamp(min=1)[..., None], centres)
    nearest = torch.cdist(k, centres).argmin(-1)
    sizes = torch.nn.functional.one_hot(nearest, count).sum(2)
    scores = pooled(q, queries) @ centres.mT * scale
    ranked = scores.argsort(-1, descending=True)
    before = sizes[:, :, None].expand_as(ranked).gather(-1, ranked).cumsum(-1)
    taken = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, ranked, before <= keep * k.shape[2])
    return (
        taken.gather(-1, nearest[:, :, None].expand(-1, -1, scores.shape[2], -1)),
        queries,
        None,
        nearest if tail else None,
    )


def attend(q, k, v, seen, queries, keys, rest):
    scale = q.shape[-1] ** -0.5
    scores = q @ k.mT * scale
    if keys is None:  # clusters: keys one by one
        single = seen.repeat_interleave(queries, 2)
        masked = scores.masked_fill(~single, -torch.inf)
        if rest is None:
            return masked.softmax(-1) @ v
        one = torch.nn.functional.one_hot(rest).to(k.dtype)
        sizes = one.sum(2).clamp(min=1)
        means_k, means_v = (one.mT @ t / sizes[..., None] for t in (k, v))
        others = q @ means_k.mT * scale + sizes.log()[:, :, None]
        # A cluster is seen whole or not at all.
        whole = (single.to(k.dtype) @ one) > 0
        others = others.masked_fill(whole, -torch.inf)
        return torch.cat([masked, others], -1).softmax(-1) @ torch.cat([v, means_v], 2)
    masked = scores.masked_fill(~spread(seen, queries, keys), -torch.inf)
    if rest is None:
        return masked.softmax(-1) @ v
    means_k, means_v, (weights, means_q) = pooled(k, keys), pooled(v, keys), rest
    others = q @ means_k.mT * scale + torch.log(torch.tensor(float(keys)))
    others = (others + weights.repeat_interleave(queries, 2)).masked_fill(
        seen.repeat_interleave(queries, 2), -torch.inf
    )
    share = torch.cat([masked, others], -1).softmax(-1)
    out = share @ torch.cat([v, means_v], 2)
    if means_q is None:
        return out
    centred_k, centred_v = (t.unflatten(2, (-1, keys)) - m[:, :, :, None] for t, m in ((k, means_k), (v, means_v)))
    covariance = centred_k.mT @ centred_v / keys  # (1, H, C, D, D)
    shift = torch.einsum("bhrd,bhcde->bhrce", means_q, covariance) * scale
    of_rows = share[..., k.shape[2] :].unflatten(2, (-1, queries))
    return out + torch.einsum("bhrqc,bhrce->bhrqe", of_rows, shift).flatten(2, 3)


def relative(out, truth) -> float:
    return ((out - truth).norm() / truth.norm()).item()


WAYS = {
    "means": by_means,
    "means and variance": lambda *a: by_means(*a, second=True),
    "k-means of keys": by_clusters,
    "means, tail": lambda *a: by_means(*a, tail=True),
    "means and variance, tail": lambda *a: by_means(*a, tail=True, second=True),
    "means, tail weighted by variance": lambda *a: by_means(*a, tail=True, weighted=True),
    "means and variance, tail weighted by variance": lambda *a: by_means(*a, tail=True, second=True, weighted=True),
    "means, tail weighted by variance, values shifted": lambda *a: by_means(*a, tail=True, weighted=True, shifted=True),
    "k-means of keys, tail": lambda *a: by_clusters(*a, tail=True),
}


if __name__ == "__main__":
    main()
