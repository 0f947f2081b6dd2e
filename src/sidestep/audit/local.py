"""Local copies: parts of training pictures that are given back inside other pictures.

An index of tiles proposes which parts of which training pictures a generated picture may hold
(`proposals`), and their pixels decide: each is laid over the generated picture (`aligning`). The
threshold is of never-trained pictures that went through both.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sidestep.audit.aligning import Aligned, Cut, align, cut
from sidestep.audit.index import Index
from sidestep.audit.proposals import ROWS, Proposal, grid, proposals
from sidestep.errors import BadRecords
from sidestep.similarity.base import Images, check_images
from sidestep.similarity.calibration import Calibration, calibrate
from sidestep.similarity.structured import Structured
from sidestep.sources.base import Collection, Item
from sidestep.sources.decoders import Task, look
from sidestep.sources.windows import Window, windows

FINER = 2  # windows of a query in each step of the grid; measured in docs/audit.md, Local copies
PICTURES = 4096  # generated pictures for each reading of the training pictures: bounds memory


@dataclass(frozen=True)
class Tiled:
    """Training pictures as parts of them are looked for."""

    index: Index  # of tiles: `sidestep index --tiles`
    pictures: Collection  # that was indexed
    recipe: Structured  # that the index was made with, see `audit.recipes.recipe_of`
    finer: int = FINER  # windows per step of the grid, at least 1; time grows with its square

    @property
    def name(self) -> str:
        """What similarities of parts compare under: how they are proposed and decided."""
        return (
            f"concordance of parts, {self.recipe.name} tiles {grid(self.index)} finer {self.finer}"
        )


class Match(NamedTuple):
    """The part of a training picture that a part of a generated one is most similar to."""

    similarity: float  # Lin's concordance correlation of their pixels, in -1..1
    id: str  # of the tile in the index that proposed it
    path: str  # of the training picture in its collection
    there: Window  # in the training picture's centre square
    here: Window  # in the generated picture

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; windows as left, top and side in shares of the picture."""
        return self._asdict() | {"there": self.there._asdict(), "here": self.here._asdict()}


def nearest_parts(images: Iterable[NDArray[np.uint8]], tiled: Tiled) -> list[Match | None]:
    """For each picture the part of it that is most similar to a part of a training picture.

    The training pictures are gone through once for every 4,096 pictures; in memory are one of
    them, about 200 generated ones and 35 kB for each of the 4,096.

    Args:
        images: each (side, side, 3), uint8 RGB, framed to the side of the index.
        tiled: the training pictures.

    Returns:
        A match for each picture, None where nothing is proposed or has structure. Of equal ones
        that which was proposed first.

    Raises:
        BadRecords: the index is of whole pictures or of another recipe, or a picture that it
            proposes is no longer what was indexed.
        ValueError: a picture is not of the index's side, or finer is below 1.
        MissingExtra: FAISS is not installed.
    """
    windows(grid(tiled.index), tiled.finer)
    tiled.index.check_recipe(tiled.recipe)
    source, result = iter(images), list[Match | None]()
    while part := list(_cut(islice(source, PICTURES), tiled)):
        result += _aligned(part, tiled)
    return result


def calibrate_parts(
    controls: Iterable[NDArray[np.uint8]], tiled: Tiled, rate: float = 0.01
) -> Calibration:
    """The threshold of local copies from pictures that were never trained on, searched alike.

    Args:
        controls: each (side, side, 3), at least 1 / rate - 1 of them.
        tiled: the training pictures.
        rate: share of never-trained pictures allowed to have a local copy.

    Raises:
        BadRecords, ValueError, MissingExtra: see `nearest_parts` and `similarity.calibration`.
    """
    # -1 is the least that a concordance can be.
    similarities = [match.similarity if match else -1.0 for match in nearest_parts(controls, tiled)]
    return calibrate(tiled.name, similarities, rate, fingerprint=tiled.recipe.fingerprint)


def local_copies(
    images: Iterable[NDArray[np.uint8]], tiled: Tiled, calibration: Calibration
) -> list[Match | None]:
    """The local copies among pictures: a match for each, or None.

    Args:
        images: each (side, side, 3); those that are no copies as a whole.
        tiled: the training pictures.
        calibration: of `calibrate_parts` with the same index and finer.

    Raises:
        BadRecords, ValueError, MissingExtra: see `nearest_parts`; ValueError also where the
            calibration is of another search.
    """
    ours = tiled.name, tiled.recipe.fingerprint
    if (calibration.recipe, calibration.fingerprint) != ours:
        raise ValueError(
            f"the calibration is of {calibration.recipe} and the search is {tiled.name}; calibrate "
            "with the same recipe, grid and finer"
        )
    found = nearest_parts(images, tiled)
    return [m if m and calibration.copies(m.similarity) else None for m in found]


Cuts = list[tuple[Proposal, Cut]]  # of a generated picture


def _cut(images: Iterator[NDArray[np.uint8]], tiled: Tiled) -> Iterator[Cuts]:
    """What is proposed for each picture, with the pixels that decide."""
    size = max(ROWS // len(windows(grid(tiled.index), tiled.finer)), 1)
    while part := list(islice(images, size)):
        stack = _stacked(part, tiled.index.settings.side)
        every = proposals(stack, tiled.index, tiled.recipe, tiled.finer)
        for image, some in zip(stack, every, strict=True):
            yield [(one, cut(image, one.here)) for one in some]


def _stacked(images: list[NDArray[np.uint8]], side: int) -> Images:
    for image in images:
        check_images(image[None])
        if image.shape != (side, side, 3):
            raise ValueError(
                f"a picture came with shape {image.shape} and the index is of side {side}; frame "
                "pictures with sidestep.sources.pictures.read"
            )
    return np.stack(images)


def _aligned(cuts: list[Cuts], tiled: Tiled) -> list[Match | None]:
    """The best of the proposals of each picture, in one pass over the training pictures."""
    waiting = dict[str, list[tuple[int, int, Proposal, Cut]]]()
    for picture, proposed in enumerate(cuts):
        for place, (one, here) in enumerate(proposed):
            waiting.setdefault(one.path, []).append((picture, place, one, here))
    # Similarity and place of the best so far: training pictures come in an order of their own.
    best = dict[int, tuple[float, int, Match]]()
    for item in tiled.pictures.items() if waiting else ():
        some = waiting.pop(item.path, [])
        if not some:
            continue
        square = _indexed(item, some[0][2], tiled.index)
        for picture, place, one, here in some:
            found = align(here, square, one.there, tiled.recipe.floor)
            if found is not None:
                new = found.similarity, -place, _match(one, found)
                best[picture] = max(best.get(picture, new), new, key=lambda b: b[:2])
        if not waiting:
            break
    if waiting:
        raise BadRecords(
            f"{next(iter(waiting))} is in the index in {tiled.index.folder} and not among the "
            "training pictures; give those that were indexed, or index them again"
        )
    return [best[n][2] if n in best else None for n in range(len(cuts))]


def _indexed(item: Item, proposal: Proposal, index: Index) -> NDArray[np.uint8]:
    """The framed pixels of a training picture, if they are those that were indexed."""
    seen = look(Task(item.data), index.settings.side)
    if seen.pixels is None or seen.sha256 != proposal.tile.sha256:
        raise BadRecords(
            f"{item.path} is not the picture that was indexed in {index.folder} "
            f"({seen.reason or 'its bytes changed'}); index the training pictures again"
        )
    return seen.pixels


def _match(proposal: Proposal, found: Aligned) -> Match:
    return Match(found.similarity, proposal.tile.id, proposal.path, found.there, found.here)
