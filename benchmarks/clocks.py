"""A GPU's clocks, power and temperature at a moment, and its driver: of `nvidia-smi`, of torch where there is none.

Where a value is not told it is None, and `reason` says why.
"""

from __future__ import annotations

import subprocess

import torch

# What is asked of `nvidia-smi`: name here -> its name there, megahertz, watts and degrees Celsius.
ASKED = {
    "sm_mhz": "clocks.current.sm",
    "memory_mhz": "clocks.current.memory",
    "max_sm_mhz": "clocks.max.sm",
    "max_memory_mhz": "clocks.max.memory",
    "watts": "power.draw",
    "limit_watts": "power.limit",
    "celsius": "temperature.gpu",
}
# The part of it that torch tells, by nvidia-ml-py; power in milliwatts.
OF_TORCH = {
    "sm_mhz": lambda device: float(torch.cuda.clock_rate(device)),
    "watts": lambda device: torch.cuda.power_draw(device) / 1000,
    "celsius": lambda device: float(torch.cuda.temperature(device)),
}
SECONDS = 20


def now(device: torch.device) -> dict:
    """{name of ASKED: number or None, "reason": why some are None, or None}."""
    try:
        told = ask(device, *ASKED.values())
    except Unknown as missing:
        return by_torch(device, str(missing))
    found = {name: number(text) for name, text in zip(ASKED, told)}
    silent = [name for name, value in found.items() if value is None]
    return {**found, "reason": f"nvidia-smi does not tell {', '.join(silent)}" if silent else None}


def driver(device: torch.device) -> dict:
    """{"driver": its version, "cuda": the version that torch was built for, "driver_reason": as in `now`}."""
    try:
        (told,), reason = ask(device, "driver_version"), None
    except Unknown as missing:
        told, reason = None, str(missing)
    return {"driver": told, "cuda": torch.version.cuda, "driver_reason": reason}


class Unknown(Exception):
    """`nvidia-smi` cannot be asked. The message says why."""


def ask(device: torch.device, *names: str) -> list[str]:
    """What `nvidia-smi` says of the device, whichever of several it is."""
    try:
        which = f"--id=GPU-{torch.cuda.get_device_properties(device).uuid}"
        command = ["nvidia-smi", which, f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except Exception as problem:  # no such program, no CUDA, a program that hangs
        raise Unknown(f"nvidia-smi cannot be asked ({type(problem).__name__}: {problem})".splitlines()[0]) from problem
    told = [text.strip() for text in done.stdout.strip().split(",")]
    if done.returncode or len(told) != len(names):
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[0]
        raise Unknown(f"nvidia-smi ended with {done.returncode} and said: {said}")
    return told


def by_torch(device: torch.device, why: str) -> dict:
    """As `now`, of what torch tells."""
    found = dict.fromkeys(ASKED)
    for name, read in OF_TORCH.items():
        try:
            found[name] = read(device)
        except Exception as problem:  # nvidia-ml-py is missing, or the GPU does not tell
            return {**found, "reason": f"{why}; torch: {type(problem).__name__}: {problem}".splitlines()[0]}
    return {**found, "reason": why}


def number(text: str) -> float | None:
    """None for [N/A] and [Not Supported]."""
    try:
        return float(text)
    except ValueError:
        return None


def table(spans: list[dict]) -> list[str]:
    """Markdown. spans: {tokens, head_dim, before, after}, the last two as of `now`."""
    lines = [
        "Clocks as found, before and right after each size:", "",
        "| tokens | head size | | SM, MHz | memory, MHz | power, W | temperature, C |", "|" + " --- |" * 7,
    ]  # fmt: skip
    for span in spans:
        for when in ("before", "after"):
            cells = span[when]
            shown = (
                of(cells, "sm_mhz", "max_sm_mhz"), of(cells, "memory_mhz", "max_memory_mhz"),
                of(cells, "watts", "limit_watts"), of(cells, "celsius"),
            )  # fmt: skip
            lines.append(f"| {span['tokens']} | {span['head_dim']} | {when} | {' | '.join(shown)} |")
    reasons = dict.fromkeys(span[when]["reason"] for span in spans for when in ("before", "after"))
    return [*lines, *(f"\nNot known: {reason}." for reason in reasons if reason)]


def of(cells: dict, name: str, most: str = "") -> str:
    """`1755 of 1980`, `1755` or `-`."""
    value, limit = cells[name], cells.get(most)
    return "-" if value is None else f"{value:g}" + (f" of {limit:g}" if limit is not None else "")
