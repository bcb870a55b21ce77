"""The readable reference as a backend: slow, exact, on any device."""

from ..core.geometry import MASKS
from ..core.reference import scaled_dot_product_attention
from .spec import EVERY_DEVICE, FLOATS, Backend, Limits

# The whole score matrix is held in float32: 8 GiB of it is as far as this may go.
MAX_SCORES = 2**31

REFERENCE = Backend(
    name="reference",
    summary="Plain torch attention in float32 or float64, to compare with. Slow.",
    limits=Limits(devices=EVERY_DEVICE, dtypes=FLOATS, masks=MASKS, exact=True, max_scores=MAX_SCORES),
    load=lambda: scaled_dot_product_attention,
    auto=False,
    scores=True,
)
