"""The readable reference as a backend: slow, exact, on any device."""

from ..core.geometry import MASKS, Geometry
from ..core.reference import scaled_dot_product_attention
from .spec import EVERY_DEVICE, FLOATS, Backend, Limits, copies_of, scores_of

# The whole score matrix is held in float32: 8 GiB of it is as far as this may go.
MAX_SCORES = 2**31


def scratch(geometry: Geometry) -> int:
    """Count the scores, their exponentials and the softmax, and q, k and v in float32."""
    wide = max(4, geometry.dtype.itemsize)
    return 3 * scores_of(geometry) + copies_of(geometry, wide, wide, wide)


REFERENCE = Backend(
    name="reference",
    summary="Plain torch attention in float32 or float64, to compare with. Slow.",
    limits=Limits(devices=EVERY_DEVICE, dtypes=FLOATS, masks=MASKS, exact=True, max_scores=MAX_SCORES),
    load=lambda: scaled_dot_product_attention,
    auto=False,
    scores=True,
    scratch=scratch,
)
