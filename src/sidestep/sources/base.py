"""What a collection of training pictures is."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from sidestep.sources.windows import Window


class Item(NamedTuple):
    """A picture of a collection, before anything is decoded."""

    path: str  # where it is in the collection, the same at every visit and of no two pictures
    data: Path | bytes | str  # its file, its bytes, or the sentence that says why there are none
    caption: str | None = None
    window: Window | None = None  # the part that counts; None = the whole picture


class Columns(NamedTuple):
    """The columns of a table that hold pictures and captions."""

    image: str = "image"
    caption: str | None = None  # None = `caption` or `text`, whichever is there


class Collection(Protocol):
    """Something to read pictures from."""

    def count(self) -> int:
        """How many items there are, without looking into them."""
        ...

    def items(self) -> Iterator[Item]:
        """Every item, in an order that does not change while the collection does not."""
        ...
