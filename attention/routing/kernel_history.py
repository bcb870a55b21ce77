"""What one run has learned of its kernels."""

from __future__ import annotations


class KernelHistory:
    """Remembers what one run has learned of its kernels. A Decision's is that of its RunStats.

    proven: (kernel, geometry) that left its inputs as they were and gave an output of its own.
    out_of_memory: those that memory was missing for once.
    hopeless: those that found none in chunks either.
    chunks: (what ran, geometry) -> the Chunks for which there was memory when it was missing, and the reason.
    may_consume: whether a kernel may let go of q, k and v before it answers. None: no, since nobody could make the
        evaluation again should it fail then; False: no more, since one did.
    notes: those of the RunStats.
    peaks: (what ran, geometry) -> bytes that one of its timed calls took, None where nobody counts them.
    """

    __slots__ = ("chunks", "hopeless", "may_consume", "notes", "out_of_memory", "peaks", "proven")

    def __init__(self):
        self.proven: set[tuple] = set()
        self.out_of_memory: set[tuple] = set()
        self.hopeless: set[tuple] = set()
        self.may_consume: bool | None = None
        self.notes: list[str] = []
        self.chunks: dict[tuple, tuple] = {}
        self.peaks: dict[tuple, int | None] = {}
