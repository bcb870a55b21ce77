"""Attention blocks with weights, in plain torch: along the axes of a video, behind a model's blocks, and a whole
LTX-style video transformer whose weights load into the host's own class."""

from .axes import (
    CrossAttention,
    Dims,
    FactorisedAttention,
    SpatialAttention,
    SpatioTemporalAttention,
    TemporalAttention,
)
from .ltx import LTXConfig, LTXVideoTransformer, attend, attend_inside_frames
from .temporal import TemporalBlock, TemporalBlocks, TemporalConfig

__all__ = [
    "CrossAttention",
    "Dims",
    "FactorisedAttention",
    "LTXConfig",
    "LTXVideoTransformer",
    "SpatialAttention",
    "SpatioTemporalAttention",
    "TemporalAttention",
    "TemporalBlock",
    "TemporalBlocks",
    "TemporalConfig",
    "attend",
    "attend_inside_frames",
]
