"""What sharing a model out costs a block beside its own work: N threads of one Python, or N processes.

    python -m benchmarks.parallel

A Wan of 40 blocks in ComfyUI's own class, so small that Python is all that takes time. Threads take turns in Python, so
a block costs about N times as much; processes do not. On GPUs that work is done ahead while they compute, and costs
nothing as long as a GPU takes longer for a block: the second table says from how many tokens on, for Wan 14B, by the
published rates of three cards. Below that processes are faster: Several ComfyUIs, one for each GPU. Nothing of it was
measured on a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import subprocess
import sys
import time

import torch

from . import host_paths

BLOCKS, STEPS, WARM, RANKS = 40, 8, 2, (2, 4)
HERE = "127.0.0.1"
WAN = {
    "image_model": "wan2.1", "patch_size": (1, 2, 2), "dim": 96, "num_heads": 8, "ffn_dim": 96, "freq_dim": 16,
    "text_dim": 16, "num_layers": BLOCKS, "in_dim": 16, "out_dim": 16, "model_type": "t2v",
}  # fmt: skip
# Operations a second in attention and in products, as published: FlashAttention 2 and 3, dense bf16.
CARDS = {"4090": (160e12, 200e12), "5090": (205e12, 300e12), "H100": (470e12, 550e12)}
CHANNELS, HIDDEN, PROMPT = 5120, 13824, 512


def build():
    """A MODEL of WAN with random weights, with a loader that makes it again."""
    import comfy.model_patcher
    import comfy.supported_models

    described = comfy.supported_models.WAN21_T2V(dict(WAN))
    described.set_inference_dtype(torch.float32, None)
    model = described.get_model({}, "", device="cpu")
    with torch.no_grad():
        for weight in model.diffusion_model.parameters():
            weight.normal_(std=0.05)
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
    patcher.cached_patcher_init = (build, ())
    return patcher


def milliseconds(model) -> float:
    """Median milliseconds of a block that this process is at work, of evaluations behind the first ones.

    Not by the clock, so that other work on the machine does not count. Threads that take turns in Python are as long at
    work together as the clock says on an idle machine.
    """
    import comfy.sample

    marks, noise = [], torch.randn(1, 16, 3, 8, 8)
    prompt = [[torch.randn(1, 7, 16), {}]]
    with torch.inference_mode():
        comfy.sample.sample(
            model, noise, STEPS, 1.0, "euler", "simple", prompt, prompt, torch.zeros_like(noise), disable_pbar=True,
            seed=1, callback=lambda *_: marks.append(time.process_time()),
        )  # fmt: skip
    spans = [b - a for a, b in zip(marks, marks[1:], strict=False)][WARM:]
    return statistics.median(spans) / BLOCKS * 1e3


def in_threads(ranks: int) -> float:
    """The same with a thread for each of several names of the CPU, as Several GPUs has them."""
    model, _ = host_paths.ours("host.gpu_copies").on_several(counted(), ranks, "tokens", "even", strict=True)
    return milliseconds(model)


def counted():
    """A MODEL whose calls go through a rule of ours, as they do beside other nodes of the pack."""
    rules = host_paths.ours("host.model_rules")
    return rules.add_rules(build(), (sys.modules["video_attention_pack.attention.routing.rules"].Rule("sdpa"),))


def in_processes(ranks: int) -> float:
    """The same with a process for each, as Several ComfyUIs has them: the slowest."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.parallel", "--of", str(ranks), "--port", str(port), "--number"]
    started = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(ranks)]
    try:
        return max(float(process.communicate(timeout=600)[0].split()[-1]) for process in started)
    finally:
        for process in started:
            process.kill()


def one_of(number: int, of: int, port: int) -> float:
    """The same as one of several processes."""
    machines = host_paths.ours("host.several_machines")
    return milliseconds(machines.install(counted(), machines.Meeting(number, of, HERE, port, 300.0, "tokens")))


def gpu_milliseconds(tokens: float, card: str) -> float:
    """Milliseconds of a block of Wan 14B on one card, by its published rates."""
    attention, products = CARDS[card]
    pairs = 4 * tokens * (tokens + PROMPT) * CHANNELS
    weights = 2 * tokens * (6 * CHANNELS**2 + 2 * CHANNELS * HIDDEN)
    return (pairs / attention + weights / products) * 1e3


def tokens_from(cost: float, ranks: int, card: str) -> int:
    """From how many tokens on a rank's part of a block takes a card longer than `cost` milliseconds."""
    low, high = 0.0, 1e7
    while high - low > 1:
        middle = (low + high) / 2
        low, high = (middle, high) if gpu_milliseconds(middle, card) / ranks < cost else (low, middle)
    return round(high)


def stand_in() -> None:
    """Lets ComfyUI see one GPU for each rank: names of the CPU."""
    import comfy.model_management as management

    names = [torch.device(name) for name in ("cpu", *(f"cpu:{n}" for n in range(max(RANKS) - 1)))]
    management.get_all_torch_devices = lambda exclude_current=False: names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--number", "--of", "--port"):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):
        if host_paths.enter(cpu=True) is None:
            sys.exit("No ComfyUI in .host: python scripts/test.py fetches it.")
        host_paths.ours("host.model_rules")
        found = one_of(options.number, options.of, options.port) if options.of else None
    if found is not None:
        print(found)
        return
    stand_in()
    print("| GPUs | threads, together: ms of work a block | each of as many processes: ms |\n| --- | --- | --- |")
    print(f"| 1 | {milliseconds(counted()):.1f} | |")
    costs = {ranks: in_threads(ranks) for ranks in RANKS}
    for ranks, cost in costs.items():
        print(f"| {ranks} | {cost:.1f} | {in_processes(ranks):.1f} |")
    print(f"\n| threads are no brake from | {' | '.join(CARDS)} |\n| --- |{' --- |' * len(CARDS)}")
    for ranks, cost in costs.items():
        sizes = (f"{tokens_from(cost, ranks, card):,} tokens" for card in CARDS)
        print(f"| {ranks} GPUs | {' | '.join(sizes)} |")


if __name__ == "__main__":
    main()
