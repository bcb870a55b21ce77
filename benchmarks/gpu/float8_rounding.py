"""Float8 as a GPU rounds it, for Triton's interpreter: Triton 3.9's rounds without a carry, so that 127 becomes 64."""

from __future__ import annotations

import numpy as np
import torch


def round_to_float8(convert):
    """Wrap the interpreter's `_convert_float`: torch rounds to float8 e4m3 in its place."""
    from triton.language import float32

    def converted(data, source, target, mode):
        if str(target) != "fp8e4nv":
            return convert(data, source, target, mode)
        wide = data if str(source) == "fp32" else convert(data, source, float32, mode)
        exact = torch.from_numpy(np.ascontiguousarray(wide).view(np.float32))
        return exact.to(torch.float8_e4m3fn).view(torch.uint8).numpy()

    return converted
