"""What nodes hand to their views, made up: everything that has a name is called `name`."""

from __future__ import annotations


def report_data(name: str) -> dict:
    """A report of two roles, three blocks and four steps."""
    ran = [
        [{"used": name, "calls": 2, "density": 0.25}],
        [{"used": "sdpa", "calls": 2, "wanted": name, "reason": name}],
    ]
    steps = [[0, 0, 1], [0, 1, 1], [1, 1, -1], [0, 0, 0]]
    rows = [
        {"role": "self", "used": name, "calls": 14, "seconds": 0.5, "blocks": "0-2", "peak_mib": 3.5},
        {"role": "cross", "used": "sdpa", "calls": 8, "seconds": 0.1, "blocks": "0-2"},
    ]
    return {
        "model": name, "calls": 22, "seconds": 0.6, "rows": rows, "notes": [name], "measured": [name],
        "rule_lines": [name],
        "memory_line": "Memory: 12 MiB at the peak of the run, beside 3 MiB that were taken before.",
        "in_chunks": [{"role": "self", "used": name, "how": "1 head at a time", "calls": 2}],
        "fallbacks": [{"role": "self", "wanted": name, "reason": name, "calls": 8}],
        "passed_over": [{"backend": name, "reason": name, "calls": 2}],
        "unplaced": [{"role": "cross", "reason": name, "calls": 2}],
        "timeline": [{"step": n, "seconds": 0.5 + 0.1 * n, "rows": rows} for n in range(1, 5)],
        "cells": {
            "states": ran,
            "roles": {role: {"blocks": [0, 1, 2], "steps": steps, "seconds": steps} for role in ("self", "cross")},
        },
    }  # fmt: skip


def plan_data(name: str) -> dict:
    """A plan of two parts with three options each."""
    options = [
        {"name": "exact", "seconds": 2.0, "error": 0.0, "local": None, "effect": None, "peak_mib": 8.0, "over": True},
        {
            "name": name,
            "seconds": 1.0,
            "error": 0.01,
            "local": 0.02,
            "effect": 0.005,
            "peak_mib": 3.5,
            "chunks": "1 head at a time",
        },
        {"name": "spatial", "seconds": 0.5, "error": 0.2, "local": 0.3, "effect": None},
    ]
    parts = [
        {"text": f"self, {name}", "options": options, "chosen": 1},
        {"text": "cross", "options": options, "chosen": 0},
    ]
    figures = {"budget": 0.03, "error": 0.01, "realised": 0.012, "seconds": 3.0, "exact_seconds": 4.0, "bound": 2.5}
    figures["memory"] = 4
    return {**figures, "parts": parts, "dropped": [{"what": name, "reason": name}]}


def windows_data() -> dict:
    """Three windows of a clip of 24 latent frames, one seam visible."""
    seams = [{"frame": 8, "ratio": 1.01}, {"frame": 16, "ratio": 2.5}]
    spans = [[0, 10], [8, 18], [16, 24]]
    return {"frames": 24, "done": 24, "ratio": 8, "rate": 24, "spans": spans, "seams": seams, "sound": []}


def maps_data(name: str) -> dict:
    """Maps without their files: the shares of two blocks, and a prompt of three tokens and padding."""
    heat = {"filename": "none.png", "subfolder": "", "type": "temp", "grid": [2, 3, 4], "columns": 8}
    weights = {layer: [0.5, 0.2, 0.1, 0.1, 0.1] for layer in ("mean", "block 0", "block 1")}
    words = [f" {name}", " a", " dog", "<pad>", "<pad>"]
    tokens = {"kind": "text", "role": "cross", "count": 5, "words": words, "why": "", "weights": weights}
    shares = {"same frame": 0.6, name: 0.4}
    return {
        "heat": {**heat, "layers": ["mean of 0-1", "block 0", "block 1"]},
        "clips": None,
        "query": {"frame": 0, "tokens": [5]},
        "tokens": [tokens],
        "shares": {"blocks": {"0": shares, "1": shares}, "mean": shares, "even": shares},
    }
