"""Kernels that a model's file names."""

from __future__ import annotations

# Calls of the named kernel in two steps: without a node, Backend with role cross, with blocks 1, with "host default",
# and Clear behind Backend.
TABLE = {
    "Wan": (8, 4, 4, 8, 8),
    "LTXV": (8, 4, 4, 8, 8),
    "LTX-2": (24, 20, 12, 24, 24),
    "MiniMax-H3": (6, 6, 4, 6, 6),
}
