"""Attention shapes of real video models at sizes people use, from the models' published configurations.

tokens = frames in latents x rows x columns; heads and head size of the video stream's self-attention.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Shape:
    """One self-attention call.

    grid: (T, Y, X) in tokens.
    heads, head_dim: H, D.
    text: tokens of text in the same sequence.
    """

    name: str
    grid: tuple[int, int, int]
    heads: int
    head_dim: int
    text: int = 0

    @property
    def tokens(self) -> int:
        """L, tokens of the sequence."""
        t, y, x = self.grid
        return t * y * x + self.text

    @property
    def flop(self) -> float:
        """Floating-point operations of one call: 4 L^2 H D."""
        return 4.0 * self.tokens**2 * self.heads * self.head_dim

    def scaled(self, most_tokens: int) -> Shape:
        """Shrink the call evenly along all axes to at most `most_tokens`, and to 4 heads."""
        if self.tokens <= most_tokens:
            return self
        factor = (most_tokens / self.tokens) ** (1 / 3)
        grid = tuple(max(1, int(n * factor)) for n in self.grid)
        return replace(self, grid=grid, heads=min(4, self.heads), text=int(self.text * factor**3))


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("ltx-768x512x121", (16, 16, 24), 32, 128),
        Shape("ltx-1216x704x121", (16, 22, 38), 32, 128),
        Shape("ltx-1080p", (16, 34, 60), 32, 128),
        Shape("ltx-1080p-10s", (31, 34, 60), 32, 128),
        Shape("ltx-audio-10s", (1, 1, 250), 32, 64),
        Shape("wan-480p", (21, 30, 52), 40, 128),
        Shape("wan-720p", (21, 45, 80), 40, 128),
        Shape("wan-704p-5s", (31, 44, 76), 40, 128),
        Shape("wan-1080p-5s", (31, 68, 120), 40, 128),
        Shape("wan-5b-704p", (31, 22, 40), 24, 128),
        Shape("hunyuan-1.5-720p", (31, 45, 80), 16, 128),
        Shape("hunyuan-13b-720p", (33, 45, 80), 24, 128, text=256),
        Shape("mochi-480p", (28, 30, 53), 24, 128, text=256),
        Shape("cogvideox-480p", (13, 30, 45), 48, 64, text=226),
        Shape("cogvideox-1.5-768p", (11, 48, 85), 48, 64, text=226),
    )
}
