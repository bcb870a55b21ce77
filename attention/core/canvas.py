"""What every picture of the pack is drawn on: its colours, its font, and a pen without steps in its lines.

Pillow alone: the host ships it, matplotlib it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# Narrow: on a node, 480 pixels wide, type is still read.
WIDTH, MARGIN = 640, 28
# The ground is a light grey: it neither glares on a dark canvas nor is dark on a light one.
INK, PALE, PAPER = (34, 38, 46), (82, 88, 100), (214, 217, 224)
# Behind bars and curves; lines that help to read off a figure; what is nobody's, the host's own attention first; the
# lightest, towards which colours fade.
WELL, RULE, NEUTRAL, LIGHT = (232, 233, 236), (192, 196, 205), (176, 180, 188), (250, 250, 248)
# For what stands alone in a picture or beside few others.
BLUE, YELLOW, GREEN, RED, TEAL, PLUM, LEAF, VIOLET, BROWN = (
    (29, 105, 150), (237, 173, 8), (15, 133, 84), (204, 80, 62), (56, 166, 165), (148, 52, 110), (115, 175, 72),
    (95, 70, 144), (160, 120, 40),
)  # fmt: skip
# For many things in one picture, told apart by colour alone, by those too who see no difference of red and green. The
# first are the backends', in the order of their table. A test keeps them apart; one more is found by trying.
CATEGORIES = (
    (30, 15, 165), (15, 150, 135), (180, 210, 120), (225, 210, 45), (75, 120, 255), (60, 165, 255), (210, 90, 0),
    (255, 75, 150), (150, 30, 195), (225, 150, 30), (210, 0, 60), (45, 60, 0), (135, 75, 0), (165, 105, 105),
    (165, 15, 90), (15, 105, 105), (75, 30, 90), (135, 105, 180), (75, 105, 60), (195, 165, 135), (75, 90, 135),
    (90, 45, 45), (135, 150, 90), (225, 180, 240), (135, 210, 180), (150, 150, 195),
)  # fmt: skip
# Height of a row of a legend.
ROW = 24
# Shapes are drawn this many times as large and reduced: Pillow's own have steps.
FINE = 3


def mix(colour: Colour, ground: Colour, share: float) -> Colour:
    """Lay a colour over a ground.

    share: of `colour`, 0 to 1.
    """
    return tuple(round(share * part + (1 - share) * under) for part, under in zip(colour, ground, strict=True))


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Load Pillow's own font, `size` pixels high."""
    return ImageFont.load_default(size)


def length(text: str, size: int) -> float:
    """Measure one line of text, in pixels."""
    return font(size).getlength(text)


def wrap(text: str, size: int, room: float) -> list[str]:
    """Break text into lines that are no longer than `room` pixels; a word that is longer is cut. [""] for no text."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if length(joined, size) <= room:
            lines[-1] = joined
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = lines[-1] or word
        while length(lines[-1], size) > room and len(lines[-1]) > 1:
            fits = next(n for n in range(len(lines[-1]) - 1, 0, -1) if n == 1 or length(lines[-1][:n], size) <= room)
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return lines


def legend_places(names: Iterable[str], room: float, columns: int = 0, size: int = 14) -> list[tuple[float, float]]:
    """Lay out a legend: the upper left corner of each entry, beside that of the first.

    room: width of the whole legend, in pixels; a name that is longer takes several rows.
    columns: of equal width, fewer where a name is longer than that; 0: each entry as wide as its name.
    size: of the names.
    """
    names = list(names)
    widths, places, x, y = [length(name, size) + 48 for name in names], [], 0.0, 0
    columns = max(1, min(columns, int(room // max(widths)))) if columns and widths else 0
    if columns > 1:
        return [(index % columns * room / columns, index // columns * ROW) for index in range(len(widths))]
    for name, width in zip(names, widths, strict=True):
        if x and (columns or x + width - 24 > room):
            x, y = 0.0, y + ROW
        places.append((x, y))
        y += ROW * (len(wrap(name, size, room - 24)) - 1)
        x += width
    return places


def legend_height(names: Iterable[str], room: float, columns: int = 0, size: int = 14) -> int:
    """Return the height of a legend in pixels, see `legend_places`; 0 without names."""
    names = list(names)
    tall = (ROW * len(wrap(name, size, room - 24)) for name in names)
    return max((y + rows for (_, y), rows in zip(legend_places(names, room, columns, size), tall)), default=0)


class Canvas:
    """A picture in the making. Coordinates are pixels of the finished picture, fractions of them too.

    Shapes lie in the order in which they were drawn, pasted pictures above them, text above all.
    """

    def __init__(self, width: int, height: int, ground: Colour = PAPER):
        self.size = (width, height)
        self._fine = Image.new("RGB", (width * FINE, height * FINE), ground)
        self._pen = ImageDraw.Draw(self._fine)
        self._pasted: list[tuple] = []
        self._texts: list[tuple] = []

    @classmethod
    def over(cls, picture: Image.Image) -> Canvas:
        """Begin with an RGB picture as the ground; where nothing is drawn it stays as it is."""
        canvas = cls(1, 1)
        canvas.size = picture.size
        canvas._fine = picture.resize([FINE * side for side in picture.size], Image.Resampling.NEAREST)
        canvas._pen = ImageDraw.Draw(canvas._fine)
        return canvas

    def text(self, at: Sequence[float], text: str, colour: Colour = INK, size: int = 15, anchor: str = "la") -> None:
        """Write one line.

        anchor: which point of it is `at`, see Pillow's "text anchors".
        """
        self._texts.append((tuple(at), text, colour, size, anchor))

    def title(self, text: str, below: Sequence[str] = ()) -> None:
        """Write the heading of a picture and the lines under it."""
        self.text((MARGIN, 22), text, INK, 24)
        for line, words in enumerate(below):
            self.text((MARGIN, 58 + 20 * line), words, PALE, 15)

    def box(self, corners: Sequence[float], colour: Colour, radius: float = 0.0) -> None:
        """Fill a box.

        corners: left, top, right, bottom; right and bottom are the first pixels outside.
        """
        left, top, right, bottom = (round(FINE * at) for at in corners)
        if right > left and bottom > top:
            self._pen.rounded_rectangle((left, top, right - 1, bottom - 1), round(FINE * radius), fill=colour)

    def line(self, points: Sequence[Sequence[float]], colour: Colour, width: float = 1.0) -> None:
        """Draw a line through points, round at its bends."""
        self._pen.line(self._scaled(points), fill=colour, width=max(1, round(FINE * width)), joint="curve")

    def area(self, points: Sequence[Sequence[float]], colour: Colour) -> None:
        """Fill what a line through points encloses."""
        self._pen.polygon(self._scaled(points), fill=colour)

    def dot(self, at: Sequence[float], radius: float, colour: Colour) -> None:
        """Fill a circle."""
        self._pen.ellipse(self._around(at, radius), fill=colour)

    def ring(self, at: Sequence[float], radius: float, colour: Colour, width: float) -> None:
        """Draw a circle's edge, `width` pixels thick inwards."""
        self._pen.ellipse(self._around(at, radius), outline=colour, width=max(1, round(FINE * width)))

    def paste(self, picture: Image.Image, corner: Sequence[float]) -> None:
        """Lay a finished picture down, its upper left pixel at `corner`."""
        self._pasted.append((picture, tuple(map(round, corner))))

    def legend(
        self, corner: Sequence[float], entries: Mapping[str, Colour], room: float, columns: int = 0, size: int = 14
    ) -> None:
        """Say which colour is what.

        corner: left, top.
        entries: name -> colour.
        room: as in `legend_places`.
        columns: as in `legend_places`.
        size: as in `legend_places`.
        """
        for (x, y), (name, colour) in zip(legend_places(entries, room, columns, size), entries.items(), strict=True):
            left, top = corner[0] + x, corner[1] + y
            self.box((left, top, left + 16, top + 16), colour, 3)
            for row, line in enumerate(wrap(name, size, room - 24)):
                self.text((left + 24, top + 8 + ROW * row), line, INK, size, "lm")

    def picture(self) -> Image.Image:
        """Finish the picture, RGB."""
        # Means over FINE x FINE pixels: a sharper filter would draw a pale edge around every bar.
        picture = self._fine.reduce(FINE)
        for part, corner in self._pasted:
            picture.paste(part, corner)
        pen = ImageDraw.Draw(picture)
        for at, text, colour, size, anchor in self._texts:
            pen.text(at, text, fill=colour, font=font(size), anchor=anchor)
        return picture

    def _scaled(self, points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
        # A pen's pixel has its middle at a whole number.
        return [(FINE * x - 0.5, FINE * y - 0.5) for x, y in points]

    def _around(self, at: Sequence[float], radius: float) -> list[float]:
        # Pillow's ellipse fills the pixels at all four of these.
        low, high = ([FINE * (v + side * radius) for v in at] for side in (-1, 1))
        return [*low, *(v - 1 for v in high)]
