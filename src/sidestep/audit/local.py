"""Local copies: parts of training pictures that are given back inside other pictures.

Whole pictures that share a quarter of their area are hardly alike. So training pictures are indexed
tile by tile (`sources.tiles`), and of a generated picture every window of that size is searched
for. Windows of the queries may lie closer together than tiles: generated pictures are few, and
what is found between the places of the grid costs nothing in the index.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidestep.audit.index import Index
from sidestep.errors import BadRecords
from sidestep.similarity.base import Images, Recipe, check_images
from sidestep.similarity.calibration import Calibration, calibrate
from sidestep.sources.windows import Window, windows

FINER = 2  # windows of a query in each step of the grid; measured in docs/audit.md, Local copies
ROWS = 2**14  # windows searched for at once: bounds memory


class Match(NamedTuple):
    """The tile of a training picture that is most similar to a window of a generated one."""

    similarity: float  # above 0; between windows that have structure
    id: str  # of the tile in the index
    path: str  # of the training picture in its collection
    there: Window  # in the training picture's centre square
    here: Window  # in the generated picture

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; windows as left, top and side in shares of the picture."""
        return self._asdict() | {"there": self.there._asdict(), "here": self.here._asdict()}


def nearest_tiles(
    images: Images, index: Index, recipe: Recipe, finer: int = FINER
) -> list[Match | None]:
    """For each picture the most similar pair of a window of it and a tile of the index, exactly.

    Of equal pairs the first window counts, and of it the first tile. None where no window has
    structure or no tile is similar at all.

    Args:
        images: (N, side, side, 3), uint8 RGB, framed to the side of the index; N may be 0.
        index: of tiles: `sidestep index --tiles`.
        recipe: that the index was made with, see `audit.recipes.recipe_of`.
        finer: windows per step of the grid, at least 1; time grows with its square.

    Raises:
        BadRecords: the index is of whole pictures or of another recipe.
        ValueError: pictures are not of the index's side, or finer is below 1.
        MissingExtra: FAISS is not installed.
    """
    here = _windows(index, finer)
    index.check_recipe(recipe)
    check_images(images)
    if images.shape[1:3] != (index.settings.side,) * 2:
        raise ValueError(
            f"pictures came with shape {images.shape} and the index is of side "
            f"{index.settings.side}; frame them with sidestep.sources.pictures.read"
        )
    if not len(index.ids):
        return [None] * len(images)
    best = [pair for part in _parts(images, here) for pair in _best(part, here, index, recipe)]
    wanted = {pair[1] for pair in best if pair}
    paths = {p.id: p.path for p in index.pictures() if p.id in wanted}
    return [pair and _match(*pair, paths[pair[1]]) for pair in best]


def calibrate_tiles(
    controls: Images, index: Index, recipe: Recipe, rate: float = 0.01, finer: int = FINER
) -> Calibration:
    """The threshold of local copies from pictures that were never trained on, cut alike.

    Args:
        controls: (N, side, side, 3), at least 1 / rate - 1 of them.
        index: of tiles.
        recipe: that the index was made with.
        rate: share of never-trained pictures allowed to have a local copy.
        finer: as in the search that the threshold is for.

    Raises:
        BadRecords, ValueError, MissingExtra: see `nearest_tiles` and `similarity.calibration`.
    """
    found = nearest_tiles(controls, index, recipe, finer)
    similarities = [match.similarity if match else 0.0 for match in found]
    fingerprint: str = getattr(recipe, "fingerprint", "")
    return calibrate(_name(index, finer), similarities, rate, fingerprint=fingerprint)


def local_copies(
    images: Images,
    copies: NDArray[np.bool_],
    index: Index,
    recipe: Recipe,
    calibration: Calibration,
    finer: int = FINER,
) -> list[Match | None]:
    """The local copies among pictures that are no copies as a whole: a match for each, or None.

    Args:
        images: (N, side, side, 3).
        copies: (N,), which of them are copies as whole pictures; those are not searched for.
        index: of tiles.
        recipe: that the index was made with.
        calibration: of `calibrate_tiles` with the same recipe, grid and finer.
        finer: windows per step of the grid.

    Raises:
        BadRecords, ValueError, MissingExtra: see `nearest_tiles`; ValueError also where copies do
            not fit the pictures or the calibration is of other windows.
    """
    copies, here = np.asarray(copies), _name(index, finer)
    if copies.shape != (len(images),) or copies.dtype != np.bool_:
        raise ValueError(
            f"copies came as {copies.dtype} {copies.shape} for {len(images)} pictures; give one "
            "True or False for each"
        )
    fingerprint: str = getattr(recipe, "fingerprint", "")
    if (calibration.recipe, calibration.fingerprint) != (here, fingerprint):
        raise ValueError(
            f"the calibration is of {calibration.recipe} and the search is {here}; calibrate with "
            "the same recipe, grid and finer"
        )
    found = iter(nearest_tiles(images[~copies], index, recipe, finer))
    every = [None if copy else next(found) for copy in copies]
    return [m if m and calibration.copies(m.similarity) else None for m in every]


def _windows(index: Index, finer: int) -> list[Window]:
    if index.settings.tiles is None:
        raise BadRecords(
            f"the index in {index.folder} is of whole pictures; make one with `sidestep index "
            "--tiles` in another folder"
        )
    return windows(index.settings.tiles, finer)


def _name(index: Index, finer: int) -> str:
    """What similarities of windows compare under: the recipe and how pictures are cut."""
    return f"{index.settings.recipe} tiles {index.settings.tiles} finer {finer}"


def _parts(images: Images, here: list[Window]) -> Iterator[Images]:
    size = max(ROWS // len(here), 1)
    for first in range(0, len(images), size):
        yield images[first : first + size]


def _best(
    images: Images, here: list[Window], index: Index, recipe: Recipe
) -> list[tuple[float, str, Window] | None]:
    """Similarity, tile and window of the best pair of each picture."""
    # A picture at a time: the cut windows take more memory than their features.
    rows = [recipe.embed(np.stack([w.cut(image) for w in here])) for image in images]
    found = index.search(np.concatenate(rows), 1)
    shape = (len(images), len(here))
    similarity, ids = found.similarity.reshape(shape), found.ids.reshape(shape)
    pairs = zip(similarity, ids, similarity.argmax(axis=1), strict=True)
    return [(float(s[at]), str(i[at]), here[at]) if s[at] > 0 else None for s, i, at in pairs]


def _match(similarity: float, id_: str, here: Window, path: str) -> Match:
    there = Window.of(path)
    return Match(similarity, id_, path.removesuffix(there.fragment), there, here)
