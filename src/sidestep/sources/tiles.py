"""Tiles of the pictures of a collection, each a picture of its own."""

from collections.abc import Iterator

from sidestep.sources.base import Collection, Item
from sidestep.sources.windows import windows


class Tiles:
    """A collection of the tiles of another: grid x grid windows with half overlap of each picture.

    A tile's path is its picture's with the window behind it: `a.png#xywh=percent:25,0,50,50`.
    Where a picture cannot be read, none of its tiles can.
    """

    def __init__(self, collection: Collection, grid: int) -> None:
        """Tiles of `sources.windows.windows(grid)`; ValueError for a grid out of range."""
        self.grid, self._collection, self._windows = grid, collection, windows(grid)

    def count(self) -> int:
        """How many tiles there are."""
        return self._collection.count() * len(self._windows)

    def items(self) -> Iterator[Item]:
        """The tiles of each picture together, row by row."""
        for item in self._collection.items():
            for window in self._windows:
                yield item._replace(path=item.path + window.fragment, window=window)
