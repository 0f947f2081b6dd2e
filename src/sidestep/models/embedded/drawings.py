"""The emoji-7 drawings: 6,279 pictures of 1,160 captions, 64x64 RGBA, several per caption."""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE, COLUMNS, PER_SHEET = 64, 64, 2048


class Drawing(NamedTuple):
    """One row of the table; `number` is its place in the sheets."""

    number: int
    caption: str
    source: str  # the emoji set it comes from
    category: str


@cache
def table() -> tuple[Drawing, ...]:
    """Every drawing, sorted by caption, then by set."""
    text = files(__package__).joinpath("drawings/drawings.json").read_text(encoding="utf-8")
    return tuple(Drawing(i, *row) for i, row in enumerate(json.loads(text)))


@cache
def by_caption() -> dict[str, tuple[Drawing, ...]]:
    """The drawings of each caption."""
    grouped: dict[str, list[Drawing]] = {}
    for drawing in table():
        grouped.setdefault(drawing.caption, []).append(drawing)
    return {caption: tuple(rows) for caption, rows in grouped.items()}


@cache
def _sheet(index: int) -> NDArray[np.uint8]:
    with files(__package__).joinpath(f"drawings/sheet{index}.webp").open("rb") as file:
        return np.asarray(Image.open(file).convert("RGBA"))


def pixels(number: int) -> NDArray[np.uint8]:
    """The drawing with that number, (64, 64, 4) RGBA."""
    sheet, place = divmod(number, PER_SHEET)
    row, column = divmod(place, COLUMNS)
    return _sheet(sheet)[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
