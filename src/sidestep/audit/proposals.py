"""Which tiles of training pictures may be in a generated picture, from an index of tiles.

Whole pictures that share a quarter of their area are hardly alike. So training pictures are indexed
tile by tile (`sources.tiles`), and of a generated picture every window of that size is searched
for. Windows of the queries lie closer together than tiles: generated pictures are few, and what is
found between the places of the grid costs nothing in the index.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sidestep.audit.index import Found, Index
from sidestep.audit.shards import Picture
from sidestep.errors import BadRecords
from sidestep.similarity.base import Images, Recipe
from sidestep.sources.windows import Window, windows

MOST = 8  # training pictures proposed for each generated one
ROWS = 2**14  # windows searched for at once: bounds memory


class Proposal(NamedTuple):
    """A tile of a training picture that a window of a generated picture may show."""

    similarity: float  # of their features, above 0
    tile: Picture  # of the index
    there: Window  # in the training picture's centre square
    here: Window  # in the generated picture

    @property
    def path(self) -> str:
        """Of the training picture in its collection."""
        return self.tile.path.removesuffix(self.there.fragment)


def proposals(images: Images, index: Index, recipe: Recipe, finer: int) -> Iterator[list[Proposal]]:
    """For each picture the most similar pairs of a window of it and a tile, exactly.

    Of each training picture the most similar pair counts, of `MOST` training pictures at most; the
    most similar first, of equal pairs the first window, and of it the first tile. Pairs that are
    not similar at all are none.

    Args:
        images: (N, side, side, 3), uint8 RGB.
        index: of tiles.
        recipe: of the index.
        finer: windows per step of the grid.

    Raises:
        BadRecords: the index is of whole pictures.
        ValueError: finer is below 1.
    """
    here = windows(grid(index), finer)
    size = max(ROWS // len(here), 1)
    for first in range(0, len(images), size):
        part = images[first : first + size]
        if not len(index.ids):
            yield from ([] for _ in part)
            continue
        # A picture at a time: the cut windows take more memory than their features.
        rows = [recipe.embed(np.stack([w.cut(image) for w in here])) for image in part]
        found = index.search(np.concatenate(rows), min(MOST, len(index.ids)))
        wanted = set(found.ids[found.similarity > 0].tolist())
        tiles = {p.id: p for p in index.pictures() if p.id in wanted}
        for at in range(len(part)):
            of = slice(at * len(here), (at + 1) * len(here))
            yield _best(Found(found.similarity[of], found.ids[of]), here, tiles)


def grid(index: Index) -> int:
    """Tiles in a row of each picture; BadRecords for an index of whole pictures."""
    if index.settings.tiles is None:
        raise BadRecords(
            f"the index in {index.folder} is of whole pictures; make one with `sidestep index "
            "--tiles` in another folder"
        )
    return index.settings.tiles


def _best(found: Found, here: list[Window], tiles: dict[str, Picture]) -> list[Proposal]:
    result = dict[str, Proposal]()
    similarity, k = found.similarity.ravel(), found.similarity.shape[1]
    for number in np.argsort(-similarity, kind="stable"):
        if similarity[number] <= 0 or len(result) == MOST:
            break
        tile = tiles[str(found.ids.ravel()[number])]
        one = Proposal(float(similarity[number]), tile, Window.of(tile.path), here[number // k])
        result.setdefault(one.path, one)
    return list(result.values())
