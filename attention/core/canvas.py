"""What every picture of the pack is drawn on: its colours, its font, and a pen without steps in its lines.

Pillow alone: the host ships it, matplotlib it does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# A picture is read on a node, SHOWN pixels wide there: no type may be smaller than READ pixels then.
SHOWN, READ = 480, 15
WIDTH, MARGIN = 640, 28
# Heights of type: the least, of names, of the heading; and from one line of TEXT to the next.
TEXT, NAME, TITLE, LINE = 20, 22, 28, 26
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
# Height of a row of a legend, and its squares' side with the gap behind.
ROW, KEY = 28, 28
# Of a bar with its words above, and below it until the next.
BAR, APART = 18, 16
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


def type_for(width: float) -> int:
    """Return the least height of type in a picture so many pixels wide."""
    return math.ceil(READ * width / SHOWN)


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


def legend_places(names: Iterable[str], room: float, columns: int = 0) -> list[tuple[float, float]]:
    """Lay out a legend: the upper left corner of each entry, beside that of the first.

    room: width of the whole legend, in pixels; a name that is longer takes several rows.
    columns: of equal width, fewer where a name is longer than that; 0: each entry as wide as its name.
    """
    names = list(names)
    widths, places, x, y = [length(name, TEXT) + KEY + 24 for name in names], [], 0.0, 0
    columns = max(1, min(columns, int(room // max(widths)))) if columns and widths else 0
    if columns > 1:
        return [(index % columns * room / columns, index // columns * ROW) for index in range(len(widths))]
    for name, width in zip(names, widths, strict=True):
        if x and (columns or x + width - 24 > room):
            x, y = 0.0, y + ROW
        places.append((x, y))
        y += ROW * (len(wrap(name, TEXT, room - KEY)) - 1)
        x += width
    return places


def legend_height(names: Iterable[str], room: float, columns: int = 0) -> int:
    """Return the height of a legend in pixels, see `legend_places`; 0 without names."""
    names = list(names)
    tall = (ROW * len(wrap(name, TEXT, room - KEY)) for name in names)
    return max((y + rows for (_, y), rows in zip(legend_places(names, room, columns), tall)), default=0)


def bar_words(name: str, figures: str, room: float) -> list[tuple[str, str]]:
    """Lay out what stands above a bar, in lines of (left, right): the name, its figures behind it or below.

    room: in pixels.
    """
    lines = [(line, "") for line in wrap(name, TEXT, room)]
    if length(lines[-1][0], TEXT) + length(figures, TEXT) + 24 <= room:
        return [*lines[:-1], (lines[-1][0], figures)]
    return [*lines, *(("", line) for line in wrap(figures, TEXT, room))]


class Canvas:
    """A picture in the making. Coordinates are pixels of the finished picture, fractions of them too.

    Shapes lie in the order in which they were drawn, pasted pictures above them, text above all. Nothing is drawn
    before `picture`, so that what stands in a picture decides how high it is.
    """

    def __init__(self, width: int, height: int = 0, ground: Colour = PAPER):
        self.size = (width, height)
        self._ground: Image.Image | Colour = ground
        self._shapes: list[tuple] = []
        self._pasted: list[tuple] = []
        self._texts: list[tuple] = []

    @classmethod
    def over(cls, picture: Image.Image) -> Canvas:
        """Begin with an RGB picture as the ground; where nothing is drawn it stays as it is."""
        canvas = cls(*picture.size)
        canvas._ground = picture
        return canvas

    def text(self, at: Sequence[float], text: str, colour: Colour = INK, size: int = TEXT, anchor: str = "la") -> None:
        """Write one line.

        anchor: which point of it is `at`, see Pillow's "text anchors".
        """
        self._texts.append((tuple(at), text, colour, size, anchor))

    def title(self, text: str, below: Sequence[str] = ()) -> float:
        """Write the heading of a picture and the lines under it; return the height at which the rest may begin.

        below: broken into lines as wide as the picture.
        """
        room, y = self.size[0] - 2 * MARGIN, 20.0
        for line in wrap(text, TITLE, room):
            self.text((MARGIN, y), line, INK, TITLE)
            y += TITLE + 10
        return self.lines((MARGIN, y), below) + 10

    def lines(self, corner: Sequence[float], texts: Iterable[str], colour: Colour = PALE) -> float:
        """Write sentences below each other, each broken into lines that end at the margin; return where they end."""
        x, y = corner
        for text in texts:
            for line in wrap(text, TEXT, self.size[0] - MARGIN - x):
                self.text((x, y), line, colour)
                y += LINE
        return y

    def bar(self, y: float, name: str, figures: str, share: float, colour: Colour, well: bool = True) -> float:
        """Draw a bar from margin to margin, its words above it; return where the next may begin.

        share: of the whole width that the bar takes, 0 to 1.
        well: whether the whole width is seen behind it.
        """
        right = self.size[0] - MARGIN
        for left_words, right_words in bar_words(name, figures, right - MARGIN):
            self.text((MARGIN, y), left_words)
            self.text((right, y), right_words, PALE, TEXT, "ra")
            y += LINE
        if well:
            self.box((MARGIN, y, right, y + BAR), WELL, 5)
        wide = max(4.0, (right - MARGIN) * share)
        self.box((MARGIN, y, MARGIN + wide, y + BAR), colour, min(5.0, wide / 2))
        return y + BAR + APART

    def box(self, corners: Sequence[float], colour: Colour, radius: float = 0.0) -> None:
        """Fill a box.

        corners: left, top, right, bottom; right and bottom are the first pixels outside.
        """
        left, top, right, bottom = (round(FINE * at) for at in corners)
        if right > left and bottom > top:
            self._add("rounded_rectangle", (left, top, right - 1, bottom - 1), radius=round(FINE * radius), fill=colour)

    def line(self, points: Sequence[Sequence[float]], colour: Colour, width: float = 1.0) -> None:
        """Draw a line through points, round at its bends."""
        self._add("line", self._scaled(points), fill=colour, width=max(1, round(FINE * width)), joint="curve")

    def area(self, points: Sequence[Sequence[float]], colour: Colour) -> None:
        """Fill what a line through points encloses."""
        self._add("polygon", self._scaled(points), fill=colour)

    def dot(self, at: Sequence[float], radius: float, colour: Colour) -> None:
        """Fill a circle."""
        self._add("ellipse", self._around(at, radius), fill=colour)

    def ring(self, at: Sequence[float], radius: float, colour: Colour, width: float) -> None:
        """Draw a circle's edge, `width` pixels thick inwards."""
        self._add("ellipse", self._around(at, radius), outline=colour, width=max(1, round(FINE * width)))

    def paste(self, picture: Image.Image, corner: Sequence[float]) -> None:
        """Lay a finished picture down, its upper left pixel at `corner`."""
        self._pasted.append((picture, tuple(map(round, corner))))

    def legend(self, corner: Sequence[float], entries: Mapping[str, Colour], room: float, columns: int = 0) -> float:
        """Say which colour is what; return where it ends.

        corner: left, top.
        entries: name -> colour.
        room: as in `legend_places`.
        columns: as in `legend_places`.
        """
        for (x, y), (name, colour) in zip(legend_places(entries, room, columns), entries.items(), strict=True):
            left, top = corner[0] + x, corner[1] + y
            self.box((left, top + 2, left + 18, top + 20), colour, 3)
            for row, line in enumerate(wrap(name, TEXT, room - KEY)):
                self.text((left + KEY, top + 11 + ROW * row), line, INK, TEXT, "lm")
        return corner[1] + legend_height(entries, room, columns)

    def picture(self, height: float | None = None) -> Image.Image:
        """Finish the picture, RGB.

        height: in pixels; None: as the canvas was begun.
        """
        if height is not None:
            self.size = (self.size[0], math.ceil(height))
        fine = [FINE * side for side in self.size]
        if isinstance(self._ground, Image.Image):
            drawn = self._ground.resize(fine, Image.Resampling.NEAREST)
        else:
            drawn = Image.new("RGB", fine, self._ground)
        pen = ImageDraw.Draw(drawn)
        for shape, where, how in self._shapes:
            getattr(pen, shape)(where, **how)
        # Means over FINE x FINE pixels: a sharper filter would draw a pale edge around every bar.
        picture = drawn.reduce(FINE)
        for part, corner in self._pasted:
            picture.paste(part, corner)
        pen = ImageDraw.Draw(picture)
        for at, text, colour, size, anchor in self._texts:
            pen.text(at, text, fill=colour, font=font(size), anchor=anchor)
        return picture

    def _add(self, shape: str, where: Sequence, **how) -> None:
        self._shapes.append((shape, where, how))

    def _scaled(self, points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
        # A pen's pixel has its middle at a whole number.
        return [(FINE * x - 0.5, FINE * y - 0.5) for x, y in points]

    def _around(self, at: Sequence[float], radius: float) -> list[float]:
        # Pillow's ellipse fills the pixels at all four of these.
        low, high = ([FINE * (v + side * radius) for v in at] for side in (-1, 1))
        return [*low, *(v - 1 for v in high)]
