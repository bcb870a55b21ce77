"""TABLE: every engine that runs patterns, best first. engine_registry.py finds those that accept a call."""

from . import flex, frame_slices, gather_blocks, gather_tiles, kitchen, own_triton, reshape

TABLE = (
    kitchen.NA3D,
    kitchen.SOL,
    reshape.RESHAPE,
    frame_slices.FRAME_SLICES,
    gather_tiles.GATHER_TILES,
    gather_blocks.GATHER_BLOCKS,
    flex.FLEX,
    own_triton.INT8,
    own_triton.HALF,
    own_triton.FLOAT8,
)
