"""Attention blocks with weights, in plain torch: along the axes of a video, and behind a model's blocks."""

from .axes import (
    CrossAttention,
    Dims,
    FactorisedAttention,
    SpatialAttention,
    SpatioTemporalAttention,
    TemporalAttention,
)
from .temporal import TemporalBlock, TemporalBlocks, TemporalConfig

__all__ = [
    "CrossAttention",
    "Dims",
    "FactorisedAttention",
    "SpatialAttention",
    "SpatioTemporalAttention",
    "TemporalAttention",
    "TemporalBlock",
    "TemporalBlocks",
    "TemporalConfig",
]
