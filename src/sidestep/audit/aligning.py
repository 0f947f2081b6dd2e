"""Windows of two pictures laid over each other in pixels.

The window of a generated picture is cut out with some of what is around it, and so is the tile of
the training picture, at a few sizes. Patches of the tile slid over the window say where both are
one picture, to a pixel, and how closely. Both are reduced first, so that the time does not grow
with the pictures.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sidestep.similarity.patches import agreement
from sidestep.sources.windows import Window

TILE = 24  # pixels that a larger tile is reduced to
PATCH = 0.5  # side of a patch in tiles
LEAST = 8  # pixels of its side, where the tile has them: fewer agree by chance
AROUND = 0.25  # of a tile on each side of it; tiles lie half a tile apart
SCALES = (1.0, 0.9, 1.1)  # of the part in the generated picture; the first of equal ones counts


class Cut(NamedTuple):
    """A window of a picture and what is around it."""

    pixels: NDArray[np.uint8]  # (h, w, 3), smaller at the border of the picture
    left: float  # of its corner, in shares of the picture's side
    top: float
    zoom: float  # pixels of the cut for the whole side

    def window(self, corner: tuple[int, int], width: int) -> Window:
        """A square of its pixels, as a window of the picture."""
        side = width / self.zoom
        # A cut has whole pixels; where it was reduced they may reach past the border a little.
        left, top = (
            min(at + pixel / self.zoom, 1 - side)
            for at, pixel in zip((self.left, self.top), corner, strict=True)
        )
        return Window(left, top, side)


class Aligned(NamedTuple):
    """Where a part of one picture lies in another."""

    similarity: float  # Lin's concordance correlation of the pixels, in -1..1
    here: Window
    there: Window


def cut(picture: NDArray[np.uint8], window: Window, scale: float = 1.0) -> Cut:
    """A window of a picture (side, side, 3) with its surroundings, reduced and then scaled."""
    length = len(picture)
    width = max(round(window.side * length), 1)
    around = round(AROUND * width)
    low = [min(round(share * length), length - width) for share in window[:2]]
    left, top = (max(at - around, 0) for at in low)
    right, bottom = (min(at + width + around, length) for at in low)
    zoom = min(1.0, TILE / width) * scale
    size = max(round((right - left) * zoom), 1), max(round((bottom - top) * zoom), 1)
    pixels = np.asarray(
        Image.fromarray(picture[top:bottom, left:right]).resize(size, Image.Resampling.BICUBIC)
    )
    return Cut(pixels, left / length, top / length, zoom * length)


def align(here: Cut, picture: NDArray[np.uint8], tile: Window, floor: float) -> Aligned | None:
    """The most similar patches of a cut of one picture and of the tile of another.

    Args:
        here: of the generated picture.
        picture: (side, side, 3), the training picture, of the same side.
        tile: that is compared, with its surroundings.
        floor: patches of it without that much structure match nothing.

    Returns:
        None where no patch of the tile has structure.
    """
    across = min(TILE, tile.side * len(picture))
    width = max(min(max(round(PATCH * across), LEAST), int(across)), 2)
    found = list[Aligned]()
    for scale in SCALES:
        there = cut(picture, tile, scale)
        best = agreement(here.pixels, there.pixels, width, floor)
        if best is not None:
            windows = here.window(best.here, width), there.window(best.there, width)
            found.append(Aligned(best.similarity, *windows))
    return max(found, key=lambda one: one.similarity, default=None)
