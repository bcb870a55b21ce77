"""TABLE: every pattern, which video tokens attend to which. spec.py says what a pattern is."""

from .adaptive import AdaptiveBlocks
from .blocks import MassBlocks, TopBlocks
from .combined import Intersection, Union
from .factorised import Factorised
from .long_video import LongVideo
from .neighbourhood import Neighbourhood
from .radial import Radial
from .sliding_tile import SlidingTile
from .spatial import Spatial
from .temporal import Temporal, TemporalWindow

TABLE = (
    Spatial,
    Temporal,
    Factorised,
    TemporalWindow,
    SlidingTile,
    Neighbourhood,
    Radial,
    LongVideo,
    TopBlocks,
    MassBlocks,
    AdaptiveBlocks,
    Union,
    Intersection,
)
