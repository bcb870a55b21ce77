"""Heat maps as one grey picture of ComfyUI's temp folder, which the page paints: a tile for each layer and frame."""

from __future__ import annotations

import os
import random

import folder_paths
import torch
from PIL import Image

from ...attention.inspect.draw_maps import top_of
from ..runs.progress import Safely

# Pixels that browsers draw in one picture, along a side.
WIDEST, TALLEST = 8192, 16000


def save_heat(layers: dict[str, torch.Tensor]) -> dict | None:
    """Saves layers of heat.

    layers: name -> (T, Y, X), all of one size; each is scaled by its own brightest tokens, as the square root.
    Returns what the page needs, {filename, subfolder, type, grid, columns, layers}: the tile of a layer and frame is
    number layer * T + frame, row by row of `columns`. None where it cannot be made; the log says why. The last layers
    are left out where the picture would be too tall for browsers.
    """
    frames, rows, columns = next(iter(layers.values())).shape
    across = max(1, min(WIDEST // columns, frames * len(layers)))
    most = max(1, (TALLEST // rows) * across // frames)
    names = list(layers)[:most]
    tiles = torch.stack([(layers[name] / top_of(layers[name])).clamp(0, 1).sqrt() for name in names]).flatten(0, 1)
    lacking = -len(tiles) % across
    tiles = torch.cat([tiles, tiles.new_zeros(lacking, rows, columns)])
    whole = tiles.unflatten(0, (-1, across)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    name = f"video_attention_{random.getrandbits(40):010x}.png"

    def write() -> bool:
        folder = folder_paths.get_temp_directory()
        os.makedirs(folder, exist_ok=True)
        pixels = (whole * 255).round().byte().cpu().contiguous().numpy()
        Image.fromarray(pixels).save(os.path.join(folder, name), compress_level=4)
        return True

    if not Safely("heat on the node")(write):
        return None
    where = {"filename": name, "subfolder": "", "type": "temp"}
    return {**where, "grid": [frames, rows, columns], "columns": across, "layers": names}
