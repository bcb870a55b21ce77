"""Several pictures of a clip in one preview: moving, or side by side."""

from __future__ import annotations

from PIL import Image, ImageOps

# Of a moving preview. Quality and effort of the encoder: a preview is looked at for one step.
MILLISECONDS, QUALITY = 120, {"quality": 70, "method": 0}


def pick_evenly(first: int, end: int, most: int) -> list[int]:
    """Pick at most `most` of the frames `first` to `end` (not included), evenly, the first and the last among them."""
    count = end - first
    if count <= most:
        return list(range(first, end))
    return [first + round(i * (count - 1) / (most - 1)) for i in range(most)]


def fit(picture: Image.Image, edge: int) -> Image.Image:
    """Resize a picture to be as large as fits a square of `edge` pixels."""
    return ImageOps.contain(picture, (edge, edge), Image.Resampling.BILINEAR)


def animation(pictures: list[Image.Image], edge: int) -> Image.Image:
    """Return the first picture, resized, which saves itself as an animation of them all.

    Only where the format can move (WEBP, GIF): the host saves what a previewer gives by its `save`.

    pictures: all of one size.
    edge: pixels of the square that they fit.
    """
    first, *rest = (fit(picture, edge) for picture in pictures)
    save = first.save

    def save_all(to, format=None, **options):
        if format in ("WEBP", "GIF"):
            options |= {**QUALITY, "save_all": True, "append_images": rest, "duration": MILLISECONDS, "loop": 0}
        save(to, format=format, **options)

    first.save = save_all
    return first


def contact_sheet(pictures: list[Image.Image], edge: int) -> Image.Image:
    """Return the pictures in rows, in reading order, as large as fits a square of `edge` pixels."""
    columns = max(1, round((len(pictures) * pictures[0].height / pictures[0].width) ** 0.5))
    columns = min(len(pictures), columns)
    rows = -(-len(pictures) // columns)
    scale = min(edge / (columns * pictures[0].width), edge / (rows * pictures[0].height))
    width, height = (max(1, int(side * scale)) for side in pictures[0].size)
    made = Image.new("RGB", (columns * width, rows * height))
    for i, picture in enumerate(pictures):
        tile = picture.resize((width, height), Image.Resampling.BILINEAR)
        made.paste(tile, (i % columns * width, i // columns * height))
    return made
